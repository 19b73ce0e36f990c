"""report.html: one complete, escaped, self-contained file for every state of a run folder."""

import base64
import errno
import html
import html.parser
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cgan_tf.core import config, files, run_folder
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_bytes, write_json, write_text
from cgan_tf.report import images, page
from cgan_tf.report.plots import MAX_SERIES

SIDE = 32
NAMES = ("Smiling", "Blond_Hair")
VOID = {"meta", "link", "img", "br"}


class Reader(html.parser.HTMLParser):
    """Fails on tags that do not match; keeps what the tests ask about."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text: dict[str, list[str]] = {}
        self.body: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute of <{tag}> comes twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)
            if self.open[-1] not in ("style", "title"):
                self.body.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(text: str) -> Reader:
    """Parses the page and checks what holds for every page."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    # Self-contained: nothing refers to anything outside of the file, and nothing is run.
    for tag, attributes in reader.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action", "xlink:href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name][:60])
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert not {"script", "iframe", "object"} & {tag for tag, _ in reader.tags}
    for style in [*reader.text["style"], *(a.get("style", "") or "" for _, a in reader.tags)]:
        assert "url(" not in style and "@import" not in style
    # Accessible: every picture in words, headings in order, tables with headers, links that lead
    # somewhere.
    for attributes in reader.all("img"):
        assert attributes["src"].startswith("data:image/png;base64,")
        assert len(attributes["alt"]) > 5
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert len(reader.all("table")) == len(reader.all("caption")) == len(reader.all("thead"))
    assert all("scope" in attributes for attributes in reader.all("th"))
    identities = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(identities) == len(set(identities))
    for attributes in reader.all("a"):
        assert attributes["href"].removeprefix("#") in identities
    return reader


def save_png(path, columns, rows, seed=0):
    """A picture of noise, columns x rows images of SIDE px; returns its content."""
    noise = np.random.default_rng(seed).integers(0, 256, (rows * SIDE, columns * SIDE, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
    return buffer.getvalue()


def add_stage(folder, name, started, ended, kimg, lines=5, resumed=(), **losses):
    """A stage's metadata and, if it trains, its statistics at 100 images a second."""
    stage = folder.stage(name)
    record = {
        "stage": name,
        "command": ["train_main.py", f"--stage={name}"],
        "versions": {"python": "3.12.1", "tensorflow": "2.21.0"},
        "started": f"2025-03-31T{started}+00:00",
        "resumed": list(resumed),
        "ended": ended and f"2025-03-31T{ended}+00:00",
        "options": {},
        "data": "d1",
        "parents": {},
    }
    write_json(stage.path / "metadata.json", record)
    for index in range(1, lines + 1 if losses else 0):
        line = {"kimg": kimg * index / lines, "seconds": 10 * kimg * index / lines}
        line["images_per_second"] = 100.0
        stage.append_stats(line | {key: value / index for key, value in losses.items()})


def make_folder(path, names=NAMES, **options):
    folder = run_folder.RunFolder(path)
    given = {"seed": 7, "resolution": SIDE, "attributes": tuple(names)} | options
    data = {"name": "synthetic", "size": 1000, "digest": "d1", "attribute_names": list(names)}
    folder.save_config(config.replace(config.Config(), **given), data)
    return folder


def edit(learned, **figures):
    values = {
        "strength": 1.0, "target_change": 0.6543, "target_change_from_photo": 0.61,
        "success": 0.876, "n_success": 98, "leakage": 0.0321, "ratio": 20.4, "identity": 0.913,
        "identity_from_photo": 0.8, "n": 121, "draws": 1, "seed": 7,
    }  # fmt: skip
    if learned:
        values |= {"ratio_over_random": 8.76, "calibrated_change": 0.8, "achieved_change": 0.77,
                   "calibration_error": 0.03}  # fmt: skip
    return values | figures


def evaluation(names=NAMES):
    return {
        "version": 1,
        "seed": 7,
        "judge": {"features": 192, "parameters": 1234567, "kimg": 90.0},
        "generation": {"features": "judge", "resolution": SIDE, "fd": 6.914, "fd_floor": 0.538,
                       "fd_over_floor": 12.85, "kid": 0.0123, "precision": 0.71, "recall": None,
                       "n_real": 2000, "n_fake": 5000, "seed": 7},
        "regressor": {"n": 400, "seed": 7,
                      "regressor": {"accuracy": 0.8912, "balanced_accuracy": 0.8},
                      "judge": {"accuracy": 0.9, "balanced_accuracy": 0.82},
                      "majority": {"accuracy": 0.803, "balanced_accuracy": 0.5},
                      "attributes": {name: {"positive": 0.25, "accuracy": 0.9345,
                                            "balanced_accuracy": 0.9, "judge_accuracy": 0.95,
                                            "judge_balanced_accuracy": math.nan}
                                     for name in names}},
        "inversion": {"encoder": {"psnr": 19.83, "ssim": 0.642, "perceptual": 0.231,
                                  "identity": 0.812, "seconds_per_image": 0.0031,
                                  "closer_than_random": 0.9731, "n": 400, "n_random": 1000,
                                  "seed": 7}},
        "edits": {"learned": {name: edit(True) for name in names},
                  "random": {name: edit(False, target_change=0.05) for name in names}},
        "edits_mean": {"learned": {"target_change": 0.6543}},
        "set": {"attributes": {name: [{"requested": requested, "reached": requested - 0.01,
                                       "reached_judge": requested + 0.0625, "error": 0.0123,
                                       "error_judge": 0.1234, "strength": 1.375, "hit_rate": 0.956,
                                       "n": 100, "seed": 7} for requested in (0.2, 0.8)]
                               for name in names},
                "error": 0.0202, "error_judge": 0.1303, "strength": 1.25, "hit_rate": 0.94,
                "n": 100, "seed": 7},
        "counterfactual": {name: {"psnr": 18.91, "psnr_unedited": 17.2, "psnr_ceiling": 20.1,
                                  "judge_agreement": 0.95, "judge_agreement_target": 0.9,
                                  "closer_to_truth": 0.864, "closer_to_truth_judge": 0.89,
                                  "closer_than_photo": 0.912, "n": 400, "seed": 7}
                           for name in names},
        "pictures": {"samples.png": "Samples", "reconstructions.png": "Pairs of <rows>"},
        "figure_of_tomorrow": {"depth": 42.125},
    }  # fmt: skip


def more_of_edits(names=NAMES):
    """What evaluate measures of edits beside +1, in report.json's layout."""
    point = {"success": 0.4, "leakage": 0.02, "identity": 0.95, "n": 60, "n_success": 50}
    points = [
        point | {"strength": strength, "target_change": 0.3 * strength,
                 "interval": {"target_change": [0.3 * strength - 0.05, 0.3 * strength + 0.05],
                              "success": [0.3, 0.5]}}
        for strength in (-2.0, -1.0, 1.0, 2.0)
    ]  # fmt: skip
    bins = [
        {"above": low, "up_to": low + 0.3, "n": 300, "n_photos": 90, "preserved": 0.97,
         "leakage": 0.031, "identity": None,
         "interval": {"preserved": [0.96, 0.98], "leakage": [0.03, 0.034], "identity": None}}
        for low in (0.0, 0.3)
    ]  # fmt: skip
    compared = {"learned": edit(True, target_change=0.4, leakage=0.02, reached=1, length=3.0,
                                leakage_over_random=0.25, interval={"leakage": [0.018, 0.024]}),
                "random": edit(False, target_change=0.4, leakage=0.08, reached=2, length=9.0,
                               leakage_over_random=1.0)}  # fmt: skip
    way = {"latent": 2.5, "step": 3.0, "psnr": 20.0, "identity": 0.9, "perceptual": 0.5,
           "unedited": {"latent": 2.0, "psnr": 22.0, "identity": 0.95},
           "interval": {"latent": [2.4, 2.6]}, "n": 60, "n_perceptual": 40, "seed": 7}  # fmt: skip
    kept = {"target_change": 0.45, "leakage": 0.0213, "identity": 0.9312,
            "interval": {"identity": [0.93, 0.94]}}  # fmt: skip
    return {
        "keep_detail": {
            "attributes": {name: {"keep_detail": kept, "plain": kept | {"identity": 0.88}, "n": 120,
                                  "seed": 7} for name in names},
            "mean": {"keep_detail": kept, "plain": {"identity": 0.88}},
        },
        "strengths": {"n_photos": 120, "seed": 7, "attributes": dict.fromkeys(names, points)},
        "preservation": {"n_photos": 120, "draws": 4, "seed": 7,
                         "learned": {"all": bins, "attributes": {}},
                         "random": {"all": bins[:1], "attributes": {}}},
        "comparison": {"requested": 0.4, "n_photos": 100,
                       "attributes": dict.fromkeys(names, compared),
                       "mean": {"learned": {"leakage": 0.02, "n_reached": 2}}},
        "rescoring": {"n_photos": 120, "seed": 7,
                      "matrix": {name: {other: 0.6 if name == other else -0.1
                                        for other in (*names, "Male")} for name in names}},
        "cosines": {name: {other: float(name == other) for other in names} for name in names},
        "consistency": dict.fromkeys(names, way),
    }  # fmt: skip


def export_report(passed=True):
    figures = {"n": 64, "finite": True, "max_difference": 3.5e-6, "mean_difference": 1e-7}
    variant = {
        "passed": True,
        "reason": None,
        "path": "saved_model",
        "bytes": 4_350_000,
        "weight_bytes": 4_000_000,
        "bound": 1e-4,
        "signatures": {"translate": figures},
    }
    small = {
        "passed": passed,
        "reason": None if passed else "translate gives NaN",
        "path": "translator_float16.tflite",
        "bytes": 57_300,
        "bound": 0.02,
        "psnr_bound": None,
        "signatures": {"translate": figures | {"max_difference": 0.0025, "psnr": 61.23},
                       "generate": figures | {"psnr": 62.0}, "encode": figures | {"psnr": None}},
        "milliseconds": {"translate": 3.04, "encode": 1.0, "generate": 2.0},
        "edits": {"scorer": "judge", "agreement": 0.99456,
                  "attributes": {"Smiling": {"kept": 0.9876, "leakage_added": 0.00104},
                                 "Blond_Hair": {"kept": None, "leakage_added": -0.002}}},
    }  # fmt: skip
    return {"photos": {"data": "synthetic", "split": "test", "n": 64},
            "strengths": {"seed": 7}, "passed": passed,
            "page": {"passed": True, "reason": None, "path": "page", "variant": "float16"},
            "variants": {"saved_model": variant, "translator_float16": small}}  # fmt: skip


def make_directions(folder, names=NAMES):
    for index, name in enumerate(names):
        calibration = [
            {"strength": strength, "change": 0.5 * strength + 0.01 * index, "n": 150}
            for strength in (-1.0, -0.5, 0.5, 1.0)
        ]
        entry = {"attribute": name, "space": "z", "vector": [0.0], "calibration": calibration}
        write_json(folder.stage("directions").model / f"{name}.json", entry)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run and the contents of its images by their path in it; not to be changed."""
    folder = make_folder(tmp_path_factory.mktemp("finished") / "run")
    add_stage(folder, "gan", "09:00:00", "09:41:00", 50, g_loss=2.0, d_loss=1.5, d_real=0.6,
              d_fake=0.4, r1=1.0)  # fmt: skip
    add_stage(folder, "regressor", "09:41:00", "09:50:30", 20, loss=0.5, accuracy=0.9, odd_one=1.0)
    add_stage(folder, "inversion", "09:50:30", "10:00:00", 20, resumed=["x"], photo=1.0, sample=0.5,
              latent=0.2, pixel=0.1, loss=1.8)  # fmt: skip
    add_stage(folder, "directions", "10:00:00", "10:05:00", 10, content=1.0, adversarial=0.1,
              attribute=2.0, hold=0.2, loss=3.3)  # fmt: skip
    add_stage(folder, "evaluate", "10:05:00", "10:15:00", 90, loss=0.2, accuracy=0.9)
    add_stage(folder, "export", "10:15:00", "10:15:40", 0)
    shapes = {"gan/reals.png": (8, 8), "evaluate/reconstructions.png": (8, 4)}
    shapes["directions/edits.png"] = (6, 4)
    shapes |= {f"gan/fakes{kimg:06d}.png": (8, 8) for kimg in range(0, 51, 10)}
    shapes |= {f"evaluate/edits_{name}.png": (6, 8) for name in NAMES}
    pictures = {
        name: save_png(folder.path / name, *shape, seed)
        for seed, (name, shape) in enumerate(shapes.items())
    }
    make_directions(folder)
    text = json.dumps(evaluation())  # with its NaN
    write_text(folder.stage("evaluate").path / "report.json", text)
    write_json(folder.stage("export").path / "report.json", export_report())
    return folder, pictures


@pytest.fixture
def full(finished, tmp_path):
    """A copy of `finished` that a test may change."""
    folder, pictures = finished
    shutil.copytree(folder.path, tmp_path / "run")
    return run_folder.RunFolder(tmp_path / "run"), pictures


@pytest.fixture(scope="module")
def finished_page(finished):
    """The page of `finished`."""
    return page.render(finished[0])


def shown(reader: Reader) -> list[np.ndarray]:
    """The page's pictures as pixels."""
    contents = [base64.b64decode(a["src"].partition(",")[2]) for a in reader.all("img")]
    return [np.asarray(Image.open(io.BytesIO(content))) for content in contents]


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def words(reader: Reader) -> str:
    return " ".join(" ".join(reader.body).split())


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
        "Headline figures", "Edited faces", "Reconstructions", "Samples over time",
        "Training curves", "All measurements", "Exported models", "Options and versions",
    ]  # fmt: skip
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
        "done in 41 min", "done in 9 min 30 s", "done in 3 min 20 s", "done in 5 min",
        "done in 10 min", "done in 40 s",
    ]  # fmt: skip
    assert "<span>50 kimg</span><span>100 images/s</span>" in boxes
    assert "<span>90 kimg (judge)</span>" in boxes


def test_headline_tiles_carry_n_and_seed(full):
    folder, _ = full
    tiles = re.findall(r'<div class="tile">(.*?)</div>', page.render(folder))
    assert [" ".join(re.sub("<[^>]*>", " ", tile).split()) for tile in tiles] == [
        "Samples: Fréchet distance 6.91 12.8 times the floor of 0.538, the distance between two "
        "sets of photos. 5,000 samples, 2,000 photos, seed 7.",
        "Attributes recognized 89.1 % correct Mean over 2 attributes; always predicting the more "
        "frequent class: 80.3 %. Balanced accuracy 80.0 %. 400 test photos, seed 7.",
        "Reconstructions 97.3 % closer to their photo than the best of 1,000 random samples. "
        "PSNR 19.8 dB. 400 test photos, seed 7.",
        "Smiling +0.65 in probability at strength +1; the other attributes change by 0.032 "
        "(leakage). 121 test photos without the attribute, seed 7.",
        "Blond_Hair +0.65 in probability at strength +1; the other attributes change by 0.032 "
        "(leakage). 121 test photos without the attribute, seed 7.",
    ]


def rows_of(text, caption):
    """The cells of the table with that caption, header first."""
    part = re.search(rf"<caption>{re.escape(caption)}.*?</table>", text, re.DOTALL)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", part)
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in rows
    ]


def test_tables(full):
    folder, _ = full
    text = page.render(folder).replace("\N{NO-BREAK SPACE}", " ")
    assert rows_of(text, "Samples compared with photos at 32 px, seed 7")[1:] == [
        ["Fréchet distance between samples and photos (fd)", "6.91"],
        ["Floor of fd: photos compared with other photos", "0.538"],
        ["fd / floor", "12.8"],
        ["Kernel distance between them (kid)", "0.0123"],
        ["Precision: fraction of samples that look like photos", "71.0 %"],
        ["Recall: fraction of photos that the samples cover", "–"],
        ["Number of photos", "2,000"],
        ["Number of samples", "5,000"],
    ]
    assert rows_of(text, "By attribute, n = 400 test photos, seed 7")[1:] == [
        [name, "25.0 %", "93.5 %", "90.0 %", "95.0 %", "–"] for name in NAMES
    ]
    assert rows_of(text, "Distance of the reconstructions")[1] == [
        "encoder", "19.83", "0.642", "0.231", "–", "–", "97.3 %", "0.812", "3.1 ms", "400", "7"
    ]  # fmt: skip
    edits = rows_of(text, "Edits of test photos by attribute and method")
    assert [row[:2] for row in edits[1:]] == [
        ["Smiling", "learned"], ["Smiling", "random"], ["Blond_Hair", "learned"],
        ["Blond_Hair", "random"], ["Mean", "learned"],
    ]  # fmt: skip
    assert edits[1] == [
        "Smiling", "learned", "+1", "+0.654", "+0.610", "87.6 %", "0.032", "20.4", "8.76", "0.913",
        "+0.800", "+0.770", "0.030", "121", "7",
    ]  # fmt: skip
    assert rows_of(text, "Set test photos, means")[1:] == [
        *([name, requested, reached, judged, "0.012", "0.123", "1.38", "95.6 %", "100", "7"]
          for name in NAMES
          for requested, reached, judged in (("0.20", "0.19", "0.26"), ("0.80", "0.79", "0.86"))),
        ["Mean", "–", "–", "–", "0.020", "0.130", "1.25", "94.0 %", "100", "7"],
    ]  # fmt: skip
    assert rows_of(text, "Edited reconstructions compared with the true edits")[1] == [
        "Smiling", "86.4 %", "89.0 %", "–", "91.2 %", "–", "–", "–", "–", "–", "–", "–", "–",
        "18.91", "17.20", "20.10", "95.0 %", "90.0 %", "–", "–", "400", "7",
    ]  # fmt: skip
    assert rows_of(text, "Mean change by strength; n photos at each") == [
        ["Attribute", "−1", "−0.5", "+0.5", "+1", "n"],
        ["Smiling", "−0.50", "−0.25", "+0.25", "+0.50", "150"],
        ["Blond_Hair", "−0.49", "−0.24", "+0.26", "+0.51", "150"],
    ]
    exported = "Largest difference per signature on 64 test photos, strengths of seed 7"
    assert rows_of(text, exported) == [
        [
            "File",
            "Size",
            "Size of the weights",
            "Verdict",
            "Bound",
            "translate",
            "generate",
            "encode",
        ],
        ["saved_model", "4.35 MB", "4.00 MB", "passed", "1.0 × 10⁻⁴", "3.5 × 10⁻⁶", "–", "–"],
        [
            "translator_float16.tflite",
            "57.3 kB",
            "–",
            "passed",
            "2.0 × 10⁻²",
            "2.5 × 10⁻³",
            "3.5 × 10⁻⁶",
            "3.5 × 10⁻⁶",
        ],
    ]
    assert rows_of(text, "Edits and times of the files for devices") == [
        [
            "File",
            "Noise",
            "Bound",
            "Change kept",
            "Leakage added",
            "Agreement",
            "encode",
            "generate",
            "translate",
        ],
        [
            "translator_float16.tflite",
            "61.2 dB",
            "–",
            "98.8 %",
            "+0.0010",
            "99.5 %",
            "1.0 ms",
            "2.0 ms",
            "3.0 ms",
        ],
    ]
    assert "Scored by the judge." in text
    assert "The page in export/page uses the variant float16." in text
    assert rows_of(text, "Versions that the stages used")[1:] == [
        ["python", "3.12.1"], ["tensorflow", "2.21.0"]
    ]  # fmt: skip


def test_edits_are_told_in_plots_matrices_and_tables(full):
    folder, _ = full
    report_path = folder.stage("evaluate").path / "report.json"
    write_text(report_path, json.dumps(evaluation() | more_of_edits()))
    text = page.render(folder)
    reader = read(text)
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    headings = [
        "Edits", "Edits of the photo itself", "Effect of each strength",
        "Side effects by size of the edit", "Methods at the same target change",
        "Relations between the directions", "Round trips", "Compared with the ground truth",
    ]  # fmt: skip
    assert [part for part in reader.text["h3"] if part in headings] == headings
    charts = {}
    for chart in re.findall(r'<figure class="chart.*?</figure>', text, re.DOTALL):
        charts.setdefault(re.search("<strong>(.*?)</strong>", chart)[1], chart)  # titles repeat
    crossing = charts["Success"]
    assert crossing.count('class="bar') == 2 * 4
    assert crossing.count('class="dot') == 2 * 5  # and no edit at 0
    assert "<title>Smiling: 0 at 0</title>" in crossing
    assert "<title>Smiling: 1.00 at 0</title>" in charts["Identity"]
    assert "<title>Smiling: 0.400 at −2</title>" in crossing
    costs = charts["Other attributes preserved"]
    assert costs.count('class="dot') == 3 and "the run&#39;s directions" in costs
    cells = charts["Changes along each direction"]
    assert re.findall(r'class="cell"[^>]*>([^<]*)<', cells) == [
        "60",
        "−10",
        "−10",
        "−10",
        "60",
        "−10",
    ]
    assert re.findall(r'class="cell"[^>]*>([^<]*)<', charts["Cosines between the directions"]) == [
        "100", "0", "0", "100"]  # fmt: skip
    assert rows_of(text, "By |target change|")[1] == [
        "(0, 0.3]", "the run&#39;s directions", "97.0 ± 1.0 %", "0.031 ± 0.002", "–", "300",
        "90",
    ]  # fmt: skip
    on_photo = rows_of(text, "Edits of test photos that keep")
    assert on_photo[1:] == [
        *([name, *rest] for name in NAMES for rest in (
            ["detail kept", "+0.450", "0.021", "0.931 ± 0.005", "120", "7"],
            ["plain", "+0.450", "0.021", "0.880 ± 0.005", "120", "7"],
        )),
        ["Mean", "detail kept", "+0.450", "0.021", "0.931 ± 0.005", "–", "–"],
        ["Mean", "plain", "–", "–", "0.880", "–", "–"],
    ]  # fmt: skip
    compared = rows_of(text, "At the same target change; photos without the attribute, out of 100")
    assert compared[1] == ["Smiling", "the run&#39;s directions", "+0.400", "0.020 ± 0.003",
                           "0.250", "0.913", "3.00", "1", "121", "7"]  # fmt: skip
    assert compared[-1][0] == "Mean" and compared[-1][7] == "2"
    assert rows_of(text, "Latent editing consistency")[1] == [
        "Smiling", "3.00", "2.50 ± 0.10", "2.00", "20.00", "22.00", "0.900", "0.950", "0.500",
        "60", "40", "7",
    ]  # fmt: skip


def test_intervals_stand_beside_the_figures_of_an_edit(full):
    folder, _ = full
    content = evaluation()
    content["edits"]["learned"]["Smiling"]["interval"] = {
        "target_change": [0.63, 0.68], "success": [0.85, 0.9], "leakage": [0.03, 0.034],
        "identity": [0.9, 0.92], "calibration_error": [0.01, 0.05],
    }  # fmt: skip
    write_text(folder.stage("evaluate").path / "report.json", json.dumps(content))
    text = page.render(folder).replace("\N{NO-BREAK SPACE}", " ")
    assert rows_of(text, "Edits of test photos by attribute and method")[1] == [
        "Smiling", "learned", "+1", "+0.654 ± 0.025", "+0.610", "87.6 ± 2.5 %", "0.032 ± 0.002",
        "20.4", "8.76", "0.913 ± 0.010", "+0.800", "+0.770", "0.030 ± 0.020", "121", "7",
    ]  # fmt: skip
    beside = dict(rows_of(text, "Smiling at strength +1")[1:])
    assert beside["Target change"] == "+0.65 ± 0.03"
    assert beside["Identity (cosine)"] == "0.913 ± 0.010"


def test_figures_that_nobody_knew_of_are_shown(full):
    folder, _ = full
    text = page.render(folder)
    assert "&#34;depth&#34;: 42.125" in text
    assert "<strong>odd_one</strong>" in text  # a chart of its own


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


def test_charts(full):
    folder, _ = full
    text = page.render(folder)
    charts = re.findall(r'<figure class="chart">.*?</figure>', text, re.DOTALL)
    titles = [re.search("<strong>(.*?)</strong>", chart)[1] for chart in charts]
    assert titles == [
        "GAN losses", "Discriminator probabilities", "Gradient penalties", "Loss",
        "Accuracy", "odd_one", "Loss", "Loss", "Judge&#39;s loss", "Judge&#39;s accuracy",
        "Judge&#39;s prediction by requested value", "Change by strength",
    ]  # fmt: skip
    assert "Smiling goes from 0.263 at 0.2 to 0.863 at 0.8" in charts[-2]
    assert "g_loss goes from 2.00 at 10 to 0.400 at 50" in charts[0]
    assert charts[0].count('class="line s') == 2 + 2 and charts[6].count('class="line s') == 5 + 5
    assert ">kimg</text>" in charts[0] and ">loss</text>" in charts[0]
    assert charts[-1].count('class="dot') == 2 * 5  # four strengths and zero, two attributes
    assert "<title>Blond_Hair: +0.510 at 1</title>" in charts[-1]


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
    assert "No curves of gan, regressor, inversion, directions yet" in words(reader)
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
    assert "Validation photos after 10 kimg of the inversion stage." in text
    assert "not finished, 1 min 40 s so far 10 of 20 kimg" in text
    assert "No curves of regressor, directions yet: the regressor stage has not started" in text
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
    text = page.render(folder)
    reader = read(text)
    assert not {"i", "u", "s", "em"} & {tag for tag, _ in reader.tags}
    assert "<b>&" not in text.replace("<b>&#", "")
    assert reader.text["h3"].count(name) == 2  # its tile and its edits
    assert "Note: <em>none</em>." in words(reader)  # as words


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
    deeper = {"strengths": {"attributes": {"Smiling": [3, {"strength": "x", "interval": 3}]}},
              "preservation": {"learned": {"all": [3, {"above": "x", "interval": {"leakage": 3}}]}},
              "comparison": {"attributes": {"Smiling": {"learned": 3}}, "mean": 3},
              "rescoring": {"matrix": {"Smiling": {"Male": "x"}, "Male": 3}},
              "consistency": {"Smiling": 3}}  # fmt: skip
    write_json(folder.stage("evaluate").path / "report.json", deeper)
    read(page.render(folder))


def test_figures_of_an_earlier_stage_are_said(full):
    folder, _ = full
    add_stage(folder, "regressor", "09:41:00", "11:00:00", 20, loss=0.5)
    text = words(read(page.render(folder)))
    for stage in ("inversion", "directions", "evaluate", "export"):
        assert f"The {stage} stage used an earlier regressor" in text
        assert f"--stage={stage} --run_dir={folder.path} --restart" in text
    assert "The gan stage used" not in text and "The regressor stage used" not in text


def test_export_that_failed_gives_the_reason(full):
    folder, _ = full
    write_json(folder.stage("export").path / "report.json", export_report(passed=False))
    text = words(read(page.render(folder)))
    assert "translator_float16 did not pass: translate gives NaN" in text
    failed = {"passed": False, "reason": "npm is missing", "variant": "none"}
    path = folder.stage("export").path / "report.json"
    write_json(path, export_report() | {"page": failed})
    assert "The page was not made: npm is missing" in words(read(page.render(folder)))


def test_long_attribute_tables_are_folded(full):
    folder, _ = full
    names = tuple(f"Attribute_{index:02d}" for index in range(40))
    write_text(folder.stage("evaluate").path / "report.json", json.dumps(evaluation(names)))
    make_directions(folder, names)
    text = page.render(folder)
    read(text)
    assert "<summary>Each of the 40 attributes</summary>" in text
    assert text.count("<strong>Change by strength</strong>") == math.ceil(42 / MAX_SERIES)


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
