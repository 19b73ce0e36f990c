"""`cgan translate` with target predictions, and with inversion by optimization."""

import re
from pathlib import Path

import command_flags
import fake_run
import numpy as np
import pytest
from photos import save_photo
from PIL import Image
from translate_command import command

from cgan_tf.commands import translate
from cgan_tf.core.errors import UserError
from cgan_tf.data import images, portraits
from cgan_tf.editing import backends, projection, strengths

ROOT = Path(__file__).parents[2]
NAMES = fake_run.ATTRIBUTES


pytestmark = pytest.mark.usefixtures("slim")


# ---- target predictions ------------------------------------------------------------------------


def set_command(model, image, values, output, *more):
    """As `command`, with --set instead of --edit."""
    arguments = [f"--model={model}", f"--image={image}", f"--set={values}", f"--output={output}"]
    return command_flags.run(translate.define_flags, translate.main, [*arguments, *more])


def predictor(editor, crop):
    """The predictions for a crop uint8 `[R, R, 3]`, by strengths `[1, K]`."""
    code = editor.encode(images.to_float(crop[None]))
    predict = strengths.predictor(editor, NAMES, lambda _, steps: editor.generate(code, steps))
    return lambda steps: predict(np.arange(1), steps)


def test_a_target_is_searched_alike_in_a_run_and_its_export(forms, photo, tmp_path, capsys):
    editor = backends.open_backend(str(forms["run"]), scores=True)
    crop, _ = portraits.crop_photo(images.decode_file(photo), 32, aligned=False)
    predict = predictor(editor, crop)

    def value(name, strength):
        steps = np.zeros((1, 3), np.float32)
        steps[0, NAMES.index(name)] = strength
        return float(predict(steps)[0, NAMES.index(name)])

    # The directions are untrained: take the one with the largest effect in its own sense.
    changes = {
        (name, sign): sign * (value(name, 2.0 * sign) - value(name, 0.0))
        for name in NAMES
        for sign in (1, -1)
    }
    name, sign = max(changes, key=changes.__getitem__)
    assert changes[name, sign] > 4 * strengths.TOLERANCE, "nothing to search for"
    target = (value(name, 0.0) + value(name, 2.0 * sign)) / 2
    for form in ("run", "saved_model"):
        out = tmp_path / f"{form}.png"
        assert set_command(forms[form], photo, f"{name}={target}", out) == 0
        (line,) = capsys.readouterr().out.splitlines()
        found = re.fullmatch(rf".*{form}.png: {name} (\S+) \(strength (\S+)\)", line)
        achieved, strength = map(float, found.groups())
        slack = strengths.TOLERANCE + 0.005  # the line has two decimals
        assert achieved == pytest.approx(target, abs=1.01 * slack)
        assert value(name, strength) == pytest.approx(target, abs=1.5 * slack)
        assert 0 < sign * strength <= 2
    first, second = (
        np.int16(Image.open(tmp_path / f"{form}.png")) for form in ("run", "saved_model")
    )
    assert np.abs(first - second).max() <= 1
    command(forms["run"], photo, f"{name}={strength}", tmp_path / "edit.png")
    assert np.abs(np.int16(Image.open(tmp_path / "edit.png")) - first).mean() < 1


def test_with_keep_detail_the_prediction_is_that_of_the_photo(forms, photo, tmp_path, capsys):
    editor = backends.open_backend(str(forms["run"]), scores=True)
    name = editor.attributes[0]
    column = editor.score_names.index(name)
    crop = images.center_square_resize(images.decode_file(photo), 32)

    def score(image):
        scores = editor.run("attributes", image=images.to_float(image)[None])["scores"]
        return float(scores[0, column])

    options = ["--keep_detail", "--crop"]
    command(forms["run"], photo, f"{name}=1", tmp_path / "one.png", *options)
    target = (score(crop) + score(images.decode_file(tmp_path / "one.png"))) / 2
    capsys.readouterr()
    set_command(forms["run"], photo, f"{name}={target}", tmp_path / "set.png", *options)
    found = re.search(rf"{name} (\S+) \(strength", capsys.readouterr().out)
    assert float(found[1]) == pytest.approx(target, abs=strengths.TOLERANCE + 0.006)
    assert score(images.decode_file(tmp_path / "set.png")) == pytest.approx(target, abs=0.02)


def test_a_strength_and_a_target_together(forms, photo, tmp_path, capsys):
    """A target that the strengths already achieve needs no strength of its own."""
    editor = backends.open_backend(str(forms["run"]), scores=True)
    crop, _ = portraits.crop_photo(images.decode_file(photo), 32, aligned=False)
    predict = predictor(editor, crop)
    there = predict(np.float32([[1.5, 0, 0]]))[0, 2]
    output = tmp_path / "both.png"
    assert (
        set_command(forms["run"], photo, f"Eyeglasses={there}", output, "--edit=Smiling=1.5") == 0
    )
    printed = f"Smiling +1.5, Eyeglasses {there:.2f} (strength +0.00)"
    assert capsys.readouterr().out.endswith(f"both.png: {printed}\n")
    command(forms["run"], photo, "Smiling=1.5", tmp_path / "edit.png")
    assert (tmp_path / "both.png").read_bytes() == (tmp_path / "edit.png").read_bytes()


def test_a_target_out_of_reach_is_reported(forms, photo, tmp_path, capsys):
    """The predictions of an untrained regressor are never close to 1."""
    assert set_command(forms["run"], photo, "Smiling=1", tmp_path / "out.png", "--strip") == 0
    line = capsys.readouterr().out
    assert re.search(r": Smiling 0\.\d\d, the closest to 1\.00 \(strength [+-]\d\.\d\d\)$", line)
    assert images.decode_file(tmp_path / "out.png").shape == (48, 6 * 32, 3)


def test_a_tflite_file_has_no_target_predictions(forms, photo, tmp_path):
    with pytest.raises(UserError) as caught:
        set_command(forms["float32"], photo, "Smiling=0.8", tmp_path / "out.png")
    assert str(caught.value) == (
        f"--model={forms['float32']}: a .tflite file has no regressor, which target predictions "
        "need; give the run folder or the SavedModel, or only strengths"
    )


@pytest.mark.parametrize(
    "values, more, message",
    [
        ("Smiling=2", [], "--set=Smiling=2: Smiling's value is 2; give one from 0"),
        ("Smiling=0.8", ["--edit=Smiling=1"], "they contradict each other; give Smiling in one"),
        ("", [], "--edit, --set: give one of them, or both"),
    ],
)
def test_targets_that_make_no_sense_are_refused_without_the_model(
    photo, tmp_path, values, more, message
):
    with pytest.raises(UserError, match=re.escape(message)):
        set_command("nowhere", photo, values, tmp_path / "out.png", *more)


# ---- inversion by optimization -----------------------------------------------------------------


def test_a_folder_is_inverted_in_batches(forms, photo, tmp_path, monkeypatch, capsys):
    folder = photo.parent
    for index in (1, 2):
        save_photo(folder / f"face{index}.jpg", 40, 40, seed=index)
    (folder / "broken.jpg").write_bytes(b"no photo")
    monkeypatch.setattr(projection, "BATCH", 2)
    sizes = []
    project = projection.Projector.project

    def counted(self, photos, starts):
        sizes.append((len(photos), len(starts), self.settings.steps))
        return project(self, photos, starts)

    monkeypatch.setattr(projection.Projector, "project", counted)
    more = ["--inversion=hybrid", "--steps=2", "--crop"]
    assert command(forms["run"], folder, "Smiling=0", tmp_path / "out", *more) == 0
    assert sizes == [(2, 1, 2), (1, 1, 2)]
    printed = capsys.readouterr()
    assert "skipped: " in printed.err and "broken.jpg" in printed.err
    lines = printed.out.splitlines()
    assert images.decode_file(tmp_path / "out" / "face.png").shape == (32, 32, 3)
    assert [line.split(" ")[0] for line in lines[:3]] == [
        str(folder / name) for name in ("face.jpg", "face1.jpg", "face2.jpg")
    ]
    summary = "3 faces edited in 3 photos, 1 photo skipped; "
    assert lines[3].startswith(f"{tmp_path / 'out' / 'translate.csv'}: {summary}")
    # Each result comes from its own code: it is closer to the photo than with the encoder's.
    command(forms["run"], folder, "Smiling=0", tmp_path / "encoder", "--crop")
    codec = backends.open_backend(forms["run"]).network.codec
    projector = projection.load_projector(forms["run"], codec, steps=2)
    for name in ("face", "face1", "face2"):
        crop, _ = portraits.crop_photo(images.decode_file(folder / f"{name}.jpg"), 32, False)
        outputs = [
            images.decode_file(tmp_path / place / f"{name}.png") for place in ("encoder", "out")
        ]
        crop, *outputs = (images.to_float(pixels[None]) for pixels in (crop, *outputs))
        before, after = (
            float(np.square(output - crop).mean() + projector.perceptual(output, crop)[0])
            for output in outputs
        )
        assert after < before


def test_optimize_with_a_mask_that_is_resized(forms, photo, tmp_path, capsys):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.full((48, 48), 255, np.uint8)).save(mask)
    more = ["--strip", "--inversion=optimize", "--steps=1", f"--mask={mask}"]
    assert command(forms["run"], photo, "Smiling=1", tmp_path / "out.png", *more) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "--mask: resized from 48 to 32 px"
    assert lines[-1].startswith("1 face edited in 1 photo, 0 photos skipped; ")
    assert images.decode_file(tmp_path / "out.png").shape == (48, 6 * 32, 3)


@pytest.mark.parametrize("form", ["saved_model", "float32"])
def test_exported_models_have_no_gradients(forms, photo, tmp_path, form):
    with pytest.raises(UserError) as caught:
        command(forms[form], photo, "Smiling=1", tmp_path / "out.png", "--inversion=hybrid")
    assert str(caught.value) == (
        f"--model={forms[form]}: an exported model has no gradients for --inversion=hybrid; "
        "give the run folder"
    )


@pytest.mark.parametrize("flag", ["--steps=5", "--mask=ellipse"])
def test_the_encoder_has_neither_steps_nor_mask(photo, tmp_path, flag):
    with pytest.raises(UserError) as caught:
        command("nowhere", photo, "Smiling=1", tmp_path / "out.png", flag)
    assert str(caught.value) == (
        f"{flag}: the encoder has none; give --inversion=hybrid or optimize too"
    )
