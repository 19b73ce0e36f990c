"""report.html: one complete, escaped, self-contained file for every state of a run folder."""

import base64
import errno
import html
import html.parser
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from report_folder import (
    NAMES,
    SIDE,
    add_stage,
    evaluation,
    make_directions,
    make_folder,
    more_of_edits,
    pixels,
    read,
    rows_of,
    save_png,
    shown,
    words,
)

from cgan_tf.core import config, files, run_folder
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_bytes, write_json, write_text
from cgan_tf.report import images, page


def test_growth_and_styles_have_their_pictures(tmp_path):
    folder = make_folder(
        tmp_path / "run", gan_arch="stylegan", gan_progressive=True, gan_kimg=200.0, gan_z_dim=24
    )
    add_stage(folder, "gan", "09:00:00", "09:41:00", 50, g_loss=2.0, d_loss=1.5)
    stage = folder.stage("gan").path
    for kimg in range(0, 101, 5):
        save_png(stage / f"fakes{kimg:06d}.png", 8, 8, kimg)
    wanted = [save_png(stage / f"{name}.png", 8, 6, 1) for name in ("truncation", "mixing")]
    reader = read(page.write(folder).read_text(encoding="utf-8"))
    assert {"Growth", "Truncation", "Style mixing"} <= set(reader.text["h3"])
    assert "16 moments from 0 to 100 kimg." in words(reader)
    contents = [base64.b64decode(a["src"].partition(",")[2]) for a in reader.all("img")]
    assert all(picture in contents for picture in wanted)
    frames = [Image.open(io.BytesIO(content)) for content in contents]
    moving = [image for image in frames if getattr(image, "n_frames", 1) > 1]
    assert len(moving) == 1 and moving[0].n_frames == 16
    assert moving[0].size == (4 * SIDE, 4 * SIDE)


def test_full_page(full):
    folder, pictures = full
    path = page.write(folder)
    assert path == folder.path / "report.html"
    reader = read(path.read_text(encoding="utf-8"))
    text = words(reader)
    assert reader.text["h1"] == ["Synthetic faces, 32 px"]
    assert "Edits Smiling, Blond_Hair" in text
    assert "1,000 images · seed 7 · started 2025-03-31 09:00 UTC · last finished" in text
    assert "last finished 2025-03-31 10:15 UTC" in text
    assert reader.text["h2"] == [
        "Headline figures",
        "Edited faces",
        "Reconstructions",
        "Samples over time",
        "Training curves",
        "All measurements",
        "Exported models",
        "Options and versions",
    ]
    assert "cgan train" not in text  # nothing is missing
    # In this order: edits, reconstructions, photos, last samples, corners of earlier samples.
    expected = [pixels(pictures[f"evaluate/edits_{name}.png"]) for name in NAMES]
    expected.append(pixels(pictures["evaluate/reconstructions.png"]))
    expected += [pixels(pictures["gan/reals.png"]), pixels(pictures["gan/fakes000050.png"])]
    corner = 4 * SIDE
    for kimg in (0, 10, 20, 40):
        expected.append(pixels(pictures[f"gan/fakes{kimg:06d}.png"])[:corner, :corner])
    found = shown(reader)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_relative_run_dir_shows_the_same_images(finished, finished_page, monkeypatch):
    folder, _ = finished
    monkeypatch.chdir(folder.path.parent)
    found = shown(read(page.render(run_folder.RunFolder(folder.path.name))))
    expected = shown(read(finished_page))
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_page_is_deterministic(finished, finished_page):
    def without_time(text):
        return re.sub(r"Written [^.]*? by", "", text)

    assert without_time(page.render(finished[0])) == without_time(finished_page)


def test_custom_attributes_show_validation_edits_and_their_labels(full):
    folder, _ = full
    save_png(folder.custom_path("Bright").with_suffix(".png"), 6, 4)
    calibration = [{"strength": 1.0, "change": 0.4, "n": 9}]
    labels = {"labels": 60, "table": "<b>.csv", "positive": 30, "balanced_accuracy": 0.9}
    entry = {"attribute": "Bright", "calibration": calibration, "labels": labels}
    write_json(folder.custom_path("Bright"), entry)
    folder.record_custom_attributes({"Bright": {}})
    text = page.render(folder)
    reader = read(text)
    assert "Bright" in reader.text["h3"] and "Custom attributes." in words(reader)
    assert "Validation photos and edits of Bright at increasing strengths" in text
    assert "Learned from 60 labels of <b>.csv, 30 of them positive" in words(reader)


def test_stages_tell_state_time_and_length(full):
    folder, _ = full
    boxes = re.search(r'<ol class="stages".*?</ol>', page.render(folder), re.DOTALL)[0]
    assert re.findall(r"<b>(\w+)</b>", boxes) == list(config.STAGES)
    assert re.findall(r"<span>(done[^<]*)</span>", boxes) == [
        # By the clock; of the interrupted inversion, the training's own seconds.
        "done in 41 min",
        "done in 9 min 30 s",
        "done in 3 min 20 s",
        "done in 3 min 20 s",
        "done in 5 min",
        "done in 10 min",
        "done in 40 s",
    ]
    assert "<span>50 kimg</span><span>100 images/s</span>" in boxes
    assert "<span>90 kimg (judge)</span>" in boxes


def test_a_run_without_detail_features_says_so(full):
    """The stage has finished, in no time: there was nothing to do."""
    folder, _ = full
    options = config.replace(folder.load_config(), features_side="none")
    folder.save_config(options, folder.read()["data"])
    stage = folder.stage("features")
    (stage.path / "stats.jsonl").unlink()
    stage.record(ended=stage.read_metadata()["started"])
    boxes = re.search(r'<ol class="stages".*?</ol>', page.render(folder), re.DOTALL)[0]
    assert "<b>features</b><span>no detail features</span></li>" in boxes
    stage.record(ended=None)
    assert "<b>features</b><span>not finished</span></li>" in page.render(folder)


def test_options_are_listed_by_section_and_changed_ones_are_bold(finished_page):
    names = ("All stages", *config.STAGES)
    tables = [rows_of(finished_page, f"{name}: those that differ")[1:] for name in names]
    expected = [
        f"--{flag}{html.escape(option.metadata['help'])}" for flag, option in config.OPTIONS.items()
    ]
    found = [html.unescape(flag) for table in tables for flag, _ in table]
    assert found == [html.unescape(line) for line in expected]
    assert "<strong>32 px</strong>" in finished_page
    assert '<td class="words">128</td>' in finished_page  # gan_z_dim is at its default


@pytest.mark.parametrize("begun", [False, True])
def test_empty_run_names_every_command(tmp_path, begun):
    folder = make_folder(tmp_path / "a run") if begun else run_folder.RunFolder(tmp_path / "a run")
    reader = read(page.write(folder).read_text(encoding="utf-8"))
    place = f"--run_dir='{tmp_path / 'a run'}'"
    commands = {text for text in reader.text["code"] if "--run_dir" in text}
    stages = ("gan", "inversion", "directions", "evaluate", "export")
    assert commands == {f"cgan train --stage={stage} {place}" for stage in stages} | {
        f"cgan report {place}"
    }
    assert "No curves of gan, regressor, inversion, features, directions yet" in words(reader)
    assert reader.all("img") == []
    title = "Synthetic faces, 32 px" if begun else "A run that has not started"
    assert reader.text["h1"] == [title]


def test_part_of_a_run(tmp_path):
    """GAN finished, inversion under way, no evaluation: the stages' own pictures stand in."""
    folder = make_folder(tmp_path / "run", inversion_kimg=20.0)
    add_stage(folder, "gan", "09:00:00", "09:41:00", 50, g_loss=2.0)
    add_stage(folder, "inversion", "09:50:00", None, 10, loss=1.0)
    save_png(folder.stage("gan").path / "fakes000050.png", 8, 8)
    save_png(folder.stage("inversion").path / "reconstructions000002.png", 8, 4, 1)
    newest = save_png(folder.stage("inversion").path / "reconstructions000010.png", 8, 4, 2)
    edits = save_png(folder.stage("directions").path / "edits.png", 6, 4, 3)
    reader = read(page.render(folder))
    text = words(reader)
    found = shown(reader)
    assert len(found) == 4
    # One block per attribute, then the reconstructions, then the samples.
    np.testing.assert_array_equal(np.concatenate(found[:2]), pixels(edits))
    np.testing.assert_array_equal(found[2], pixels(newest))
    assert "Validation photos after 10 kimg of the inversion stage, from the latent alone." in text
    assert "not finished, 1 min 40 s so far 10 of 20 kimg" in text
    assert (
        "No curves of regressor, features, directions yet: the regressor stage has not started"
        in text
    )
    assert "No reconstructions of test photos yet: the evaluate stage has not started" in text


def test_unlabelled_images_are_said(tmp_path):
    folder = make_folder(tmp_path / "run", names=(), data="folder", data_dir="photos")
    reader = read(page.render(folder))
    assert reader.text["h1"] == ["Custom photos, 32 px"]
    assert "The images have no labels, so there is nothing to edit" in words(reader)


def test_names_from_outside_are_escaped(tmp_path):
    name = "<b>&\"'"
    folder = make_folder(tmp_path / "run & <i>", names=(name,), data="folder", data_dir="<u>")
    add_stage(folder, "evaluate", "10:05:00", "10:15:00", 90, **{"<s>loss": 1.0})
    make_directions(folder, (name,))
    save_png(folder.stage("evaluate").path / f"edits_{name}.png", 6, 2)
    write_text(folder.stage("evaluate").path / "report.json", json.dumps(evaluation((name,))))
    folder.record_substitution("weights", "<em>none</em>", say=lambda line: None)
    content = folder.read()
    content["data"]["notes"] = ["labels.csv: <em>read</em>"]
    write_text(folder.path / "config.json", json.dumps(content))
    text = page.render(folder)
    reader = read(text)
    assert not {"i", "u", "s", "em"} & {tag for tag, _ in reader.tags}
    assert "<b>&" not in text.replace("<b>&#", "")
    assert reader.text["h3"].count(name) == 2  # its tile and its edits
    assert "Note: <em>none</em>." in words(reader)  # as words
    assert "Note: labels.csv: <em>read</em>." in words(reader)


def test_damaged_files_are_left_out_and_said(full):
    folder, pictures = full
    write_text(folder.stage("evaluate").path / "report.json", '{"torn": ')
    content = pictures["gan/fakes000050.png"]
    write_bytes(folder.stage("gan").path / "fakes000050.png", content[: len(content) // 2])
    write_bytes(folder.stage("gan").path / "reals.png", b"no picture")
    text = words(read(page.render(folder)))
    assert "evaluate/report.json is damaged and is left out." in text
    assert text.count("gan/fakes000050.png is damaged and is left out.") == 1


def test_figures_of_other_types_do_not_stop_the_page(full):
    folder, _ = full
    known = evaluation() | more_of_edits()
    strange = {key: ["x"] for key in known} | {"edits": {"learned": {"Smiling": None}}}
    write_json(folder.stage("evaluate").path / "report.json", strange)
    write_json(folder.stage("export").path / "report.json", {"variants": {"a": {"bytes": "x"}}})
    broken = {"attribute": "Smiling", "calibration": [{"strength": None}, 3]}
    write_json(folder.stage("directions").model / "Smiling.json", broken)
    with open(folder.stage("gan").path / "stats.jsonl", "a") as file:
        file.write('[1]\n{"kimg": null, "g_loss": "high", "images_per_second": null}\n{"torn')
    read(page.render(folder))
    deeper = {
        "strengths": {"attributes": {"Smiling": [3, {"strength": "x", "interval": 3}]}},
        "preservation": {"learned": {"all": [3, {"above": "x", "interval": {"leakage": 3}}]}},
        "comparison": {"attributes": {"Smiling": {"learned": 3}}, "mean": 3},
        "rescoring": {"matrix": {"Smiling": {"Male": "x"}, "Male": 3}},
        "consistency": {"Smiling": 3},
        "identity": {"thresholds": 3, "ceiling": 3, "pairs": "x"},
    }
    write_json(folder.stage("evaluate").path / "report.json", deeper)
    read(page.render(folder))


def test_write_is_atomic(full, monkeypatch):
    folder, _ = full
    path = page.write(folder)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        page.write(folder)
    assert path.read_bytes() == before
    assert [entry.name for entry in folder.path.iterdir() if "report" in entry.name] == [path.name]


def test_columns_are_those_of_the_stages_grids(full, tmp_path):
    from cgan_tf.stages import directions, evaluate

    def columns(run):
        part = re.search(r'<div class="columns".*?</div>', page.render(run))[0]
        return re.findall("<span>(.*?)</span>", part)

    def labels(strengths):
        return [f"{s:+g}".replace("-", "−") if s else "0" for s in strengths]

    assert columns(full[0]) == ["photo", "rebuilt", *labels(evaluate.STRENGTHS)]
    folder = make_folder(tmp_path / "part")
    save_png(folder.stage("directions").path / "edits.png", 6, 4)
    assert columns(folder) == ["photo", *labels(directions.SHOWN_STRENGTHS)]


def test_earlier_grids_lie_closer_at_the_start():
    assert images.spread(list(range(40)), 4) == [0, 4, 17, 39]
    assert images.spread([5, 6], 4) == [5, 6]
    assert images.spread(list(range(5)), 4) == [0, 1, 2, 4]


def command(*arguments):
    made = subprocess.run(
        [sys.executable, "-m", "cgan_tf", "report", *arguments], capture_output=True, text=True
    )
    return made.returncode, made.stdout, made.stderr


def test_command(full, tmp_path):
    folder, _ = full
    path = folder.path / "report.html"
    assert command(f"--run_dir={folder.path}") == (0, f"{path}\n", "")
    read(path.read_text(encoding="utf-8"))
    code, out, err = command(f"--run_dir={tmp_path / 'nothing'}")
    assert (code, out) == (2, "")
    with pytest.raises(UserError, match="config.json is missing") as error:
        run_folder.RunFolder(tmp_path / "nothing").load_config()
    assert err == f"error: {error.value}\n"
    assert not (tmp_path / "nothing").exists()
    code, out, err = command("--run_dri=x")
    assert (code, out) == (2, "") and "did you mean --run_dir?" in err


def test_folder_of_another_format_is_refused(tmp_path):
    write_json(tmp_path / "config.json", {"format": 99})
    with pytest.raises(UserError, match="format 99"):
        page.write(run_folder.RunFolder(tmp_path))
    assert not (tmp_path / "report.html").exists()
