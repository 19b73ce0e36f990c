"""Run folders with made-up results for the tests of the report, and a reader of its page."""

import base64
import html
import html.parser
import io
import json
import math
import re

import numpy as np
from PIL import Image

from cgan_tf.core import config, run_folder
from cgan_tf.core.files import write_bytes, write_json, write_text

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
        "strength": 1.0,
        "target_change": 0.6543,
        "target_change_from_photo": 0.61,
        "success": 0.876,
        "n_success": 98,
        "leakage": 0.0321,
        "ratio": 20.4,
        "retrieval": 0.913,
        "n": 121,
        "draws": 1,
        "seed": 7,
    }
    if learned:
        values |= {
            "ratio_over_random": 8.76,
            "calibrated_change": 0.8,
            "achieved_change": 0.77,
            "calibration_error": 0.03,
            "realism": 3.21,
            "realism_unedited": 7.89,
        }
    return values | figures


def evaluation(names=NAMES):
    return {
        "version": 1,
        "seed": 7,
        "judge": {"features": 192, "parameters": 1234567, "kimg": 90.0},
        "generation": {
            "features": "judge",
            "resolution": SIDE,
            "fd": 6.914,
            "fd_floor": 0.538,
            "fd_over_floor": 12.85,
            "kid": 0.0123,
            "precision": 0.71,
            "recall": None,
            "n_real": 2000,
            "n_fake": 5000,
            "seed": 7,
        },
        "regressor": {
            "n": 400,
            "seed": 7,
            "regressor": {"accuracy": 0.8912, "balanced_accuracy": 0.8},
            "judge": {"accuracy": 0.9, "balanced_accuracy": 0.82},
            "majority": {"accuracy": 0.803, "balanced_accuracy": 0.5},
            "attributes": {
                name: {
                    "positive": 0.25,
                    "accuracy": 0.9345,
                    "balanced_accuracy": 0.9,
                    "judge_accuracy": 0.95,
                    "judge_balanced_accuracy": math.nan,
                }
                for name in names
            },
        },
        "inversion": {
            "encoder": {
                "psnr": 19.83,
                "ssim": 0.642,
                "perceptual": 0.231,
                "retrieval": 0.812,
                "seconds_per_image": 0.0031,
                "closer_than_random": 0.9731,
                "n": 400,
                "n_random": 1000,
                "seed": 7,
            }
        },
        "edits": {
            "learned": {name: edit(True) for name in names},
            "random": {name: edit(False, target_change=0.05) for name in names},
            "removed": {
                name: edit(False, strength=-1.0, target_change=-0.4321, ratio=-13.5)
                for name in names
            },
        },
        "edits_mean": {"learned": {"target_change": 0.6543}},
        "set": {
            "attributes": {
                name: [
                    {
                        "requested": requested,
                        "reached": requested - 0.01,
                        "reached_judge": requested + 0.0625,
                        "error": 0.0123,
                        "error_judge": 0.1234,
                        "strength": 1.375,
                        "hit_rate": 0.956,
                        "n": 100,
                        "seed": 7,
                    }
                    for requested in (0.2, 0.8)
                ]
                for name in names
            },
            "error": 0.0202,
            "error_judge": 0.1303,
            "strength": 1.25,
            "hit_rate": 0.94,
            "n": 100,
            "seed": 7,
        },
        "counterfactual": {
            name: {
                "psnr": 18.91,
                "psnr_unedited": 17.2,
                "psnr_ceiling": 20.1,
                "judge_agreement": 0.95,
                "judge_agreement_target": 0.9,
                "closer_to_truth": 0.864,
                "closer_to_truth_judge": 0.89,
                "closer_than_photo": 0.912,
                "n": 400,
                "seed": 7,
            }
            for name in names
        },
        "pictures": {"samples.png": "Samples", "reconstructions.png": "Pairs of <rows>"},
        "figure_of_tomorrow": {"depth": 42.125},
    }


def more_of_edits(names=NAMES):
    """What evaluate measures of edits beside +1, in report.json's layout."""
    point = {"success": 0.4, "leakage": 0.02, "retrieval": 0.95, "n": 60, "n_success": 50}
    points = [
        point
        | {
            "strength": strength,
            "target_change": 0.3 * strength,
            "interval": {
                "target_change": [0.3 * strength - 0.05, 0.3 * strength + 0.05],
                "success": [0.3, 0.5],
            },
        }
        for strength in (-2.0, -1.0, 1.0, 2.0)
    ]
    bins = [
        {
            "above": low,
            "up_to": low + 0.3,
            "n": 300,
            "n_photos": 90,
            "preserved": 0.97,
            "leakage": 0.031,
            "retrieval": None,
            "interval": {"preserved": [0.96, 0.98], "leakage": [0.03, 0.034], "retrieval": None},
        }
        for low in (0.0, 0.3)
    ]
    compared = {
        "learned": edit(
            True,
            target_change=0.4,
            leakage=0.02,
            reached=1,
            length=3.0,
            leakage_over_random=0.25,
            interval={"leakage": [0.018, 0.024]},
        ),
        "random": edit(
            False, target_change=0.4, leakage=0.08, reached=2, length=9.0, leakage_over_random=1.0
        ),
    }
    way = {
        "latent": 2.5,
        "step": 3.0,
        "psnr": 20.0,
        "retrieval": 0.9,
        "perceptual": 0.5,
        "unedited": {"latent": 2.0, "psnr": 22.0, "retrieval": 0.95},
        "interval": {"latent": [2.4, 2.6]},
        "n": 60,
        "n_perceptual": 40,
        "seed": 7,
    }
    kept = {
        "target_change": 0.45,
        "leakage": 0.0213,
        "retrieval": 0.9312,
        "interval": {"retrieval": [0.93, 0.94]},
    }
    return {
        "keep_detail": {
            "attributes": {
                name: {
                    "keep_detail": kept,
                    "plain": kept | {"retrieval": 0.88},
                    "n": 120,
                    "seed": 7,
                }
                for name in names
            },
            "mean": {"keep_detail": kept, "plain": {"retrieval": 0.88}},
        },
        "strengths": {"n_photos": 120, "seed": 7, "attributes": dict.fromkeys(names, points)},
        "preservation": {
            "n_photos": 120,
            "draws": 4,
            "seed": 7,
            "learned": {"all": bins, "attributes": {}},
            "random": {"all": bins[:1], "attributes": {}},
        },
        "comparison": {
            "requested": 0.4,
            "n_photos": 100,
            "attributes": dict.fromkeys(names, compared),
            "mean": {"learned": {"leakage": 0.02, "n_reached": 2}},
        },
        "rescoring": {
            "n_photos": 120,
            "seed": 7,
            "matrix": {
                name: {other: 0.6 if name == other else -0.1 for other in (*names, "Male")}
                for name in names
            },
        },
        "cosines": {name: {other: float(name == other) for other in names} for name in names},
        "consistency": dict.fromkeys(names, way),
    }


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
        "signatures": {
            "translate": figures | {"max_difference": 0.0025, "psnr": 61.23},
            "generate": figures | {"psnr": 62.0},
            "encode": figures | {"psnr": None},
        },
        "milliseconds": {"translate": 3.04, "encode": 1.0, "generate": 2.0},
        "edits": {
            "scorer": "judge",
            "agreement": 0.99456,
            "attributes": {
                "Smiling": {"kept": 0.9876, "leakage_added": 0.00104},
                "Blond_Hair": {"kept": None, "leakage_added": -0.002},
            },
        },
    }
    return {
        "photos": {"data": "synthetic", "split": "test", "n": 64},
        "strengths": {"seed": 7},
        "passed": passed,
        "page": {"passed": True, "reason": None, "path": "page", "variant": "float16"},
        "variants": {"saved_model": variant, "translator_float16": small},
    }


def make_directions(folder, names=NAMES):
    for index, name in enumerate(names):
        calibration = [
            {"strength": strength, "change": 0.5 * strength + 0.01 * index, "n": 150}
            for strength in (-1.0, -0.5, 0.5, 1.0)
        ]
        entry = {"attribute": name, "space": "z", "vector": [0.0], "calibration": calibration}
        write_json(folder.stage("directions").model / f"{name}.json", entry)


def make_finished(path):
    """A run whose stages have all finished, and the contents of its images by their path in it."""
    folder = make_folder(path)
    add_stage(
        folder,
        "gan",
        "09:00:00",
        "09:41:00",
        50,
        g_loss=2.0,
        d_loss=1.5,
        d_real=0.6,
        d_fake=0.4,
        r1=1.0,
    )
    add_stage(folder, "regressor", "09:41:00", "09:50:30", 20, loss=0.5, accuracy=0.9, odd_one=1.0)
    add_stage(
        folder,
        "inversion",
        "09:50:30",
        "09:56:40",
        20,
        resumed=["x"],
        photo=1.0,
        sample=0.5,
        latent=0.2,
        pixel=0.1,
        loss=1.8,
    )
    add_stage(
        folder,
        "features",
        "09:56:40",
        "10:00:00",
        20,
        reconstruction=2.0,
        attribute=0.5,
        preservation=0.1,
        adversarial=0.1,
        content=0.1,
        undo=0.3,
        loss=3.1,
        d_loss=1.5,
    )
    add_stage(
        folder,
        "directions",
        "10:00:00",
        "10:05:00",
        10,
        content=1.0,
        adversarial=0.1,
        attribute=2.0,
        hold=0.2,
        loss=3.3,
    )
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


def shown(reader: Reader) -> list[np.ndarray]:
    """The page's pictures as pixels."""
    contents = [base64.b64decode(a["src"].partition(",")[2]) for a in reader.all("img")]
    return [np.asarray(Image.open(io.BytesIO(content))) for content in contents]


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def words(reader: Reader) -> str:
    return " ".join(" ".join(reader.body).split())


def rows_of(text, caption):
    """The cells of the table with that caption, header first."""
    part = re.search(rf"<caption>{re.escape(caption)}.*?</table>", text, re.DOTALL)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", part)
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in rows
    ]
