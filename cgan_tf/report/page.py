"""Writes report.html: pictures and figures of the whole chain in one file that opens anywhere.

    cgan report --run_dir=RUN_DIR

Called after every stage, so each part shows what there is, and says what is not there yet and
which command makes it. Reads only what the stages left in the run folder.
"""

import dataclasses
import io
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from cgan_tf.core import run_folder
from cgan_tf.core.config import FIELDS, NEEDS, STAGES
from cgan_tf.core.files import write_text
from cgan_tf.report import edits
from cgan_tf.report.markup import (
    DASH,
    SERIES,
    Html,
    Picture,
    Series,
    animated,
    details,
    document,
    duration,
    figure,
    finite,
    fixed,
    line_chart,
    mapping,
    number,
    percent,
    plain,
    plus_minus,
    plus_minus_percent,
    raw,
    short,
    size,
    table,
    tag,
    tiny,
)

NAME = "report.html"
ROOM = 1140  # px: width of the page's content
# Headings of the columns of evaluate/edits_NAME.png and of directions/edits.png, as these stages
# draw them.
TEST_COLUMNS = ("photo", "rebuilt", "−1", "−0.5", "+0.5", "+1")
VALIDATION_COLUMNS = ("photo", "−1", "−0.5", "0", "+0.5", "+1")
# What the gan stage draws of a StyleGAN: file, heading, caption.
STYLE_PICTURES = (
    ("truncation.png", "Truncation",
     "One face per column; w at 0, 0.25, 0.5, 0.75, 1 and 1.25 of its distance from the mean."),
    ("mixing.png", "Style mixing",
     "The faces inside take their coarse layers from the left, the others from the top."),
)  # fmt: skip
EARLIER = 4  # sample grids from before the last one
FRAMES = 16  # of the animation of a progressive training
FRAME_SECONDS = 0.6
CORNER = 4  # of those, the first so many rows and columns
LONG_TABLE = 12  # rows; a longer one is folded away

TITLES = {
    "gan": "Generator and discriminator",
    "regressor": "Attribute regressor",
    "inversion": "Encoder",
    "directions": "Directions",
    "evaluate": "Evaluation",
    "export": "Export",
}
SOURCES = {
    "synthetic": "Synthetic faces",
    "celeba": "CelebA faces",
    "celeba_dir": "CelebA faces",
    "folder": "Own photos",
}


@dataclasses.dataclass(frozen=True)
class Chart:
    """Which figures of stats.jsonl share a chart."""

    names: tuple[str, ...]
    title: str
    unit: str
    note: str
    y_range: tuple[float, float] | None = None


_LOSS_PARTS = "Weighted parts of the loss and their sum; lower is better."
CHARTS = {
    "gan": (
        Chart(("g_loss", "d_loss"), "Losses of the game", "loss",
              "Generator and discriminator hold each other: steady is good, near zero is not."),
        Chart(("d_real", "d_fake"), "What the discriminator believes", "mean probability",
              "Its belief that photos and samples are real; 0.5 for both if it cannot tell.",
              (0.0, 1.0)),
        Chart(("real_logits", "fake_logits"), "What the discriminator says", "mean logit",
              "Its raw scores of photos and samples; equal if it cannot tell."),
        Chart(("r1", "r2"), "Gradient penalties", "squared gradient norm",
              "How steeply its opinion changes around photos (r1) and samples (r2), before the "
              "weight."),
        Chart(("gp",), "Gradient penalty", "squared distance of the norm from 1",
              "How far its slope between photos and samples is from 1, before the weight."),
        Chart(("augment_p",), "Augmentation", "probability",
              "How often each change is made before the discriminator sees an image.", (0.0, 1.0)),
    ),
    "regressor": (
        Chart(("loss",), "Loss", "weighted cross-entropy (nats)", "On the training batches."),
        Chart(("accuracy",), "Accuracy", "share of labels right", "On the training batches."),
    ),
    "inversion": (
        Chart(("photo", "sample", "latent", "pixel", "loss"), "Loss", "weighted loss", _LOSS_PARTS),
    ),
    "directions": (
        Chart(("content", "adversarial", "attribute", "hold", "cosine", "loss"), "Loss",
              "weighted loss", _LOSS_PARTS),
    ),
    "evaluate": (
        Chart(("loss",), "The judge's loss", "cross-entropy (nats)", "On the training batches."),
        Chart(("accuracy",), "The judge's accuracy", "share of labels right",
              "On the training batches."),
    ),
}  # fmt: skip

_GENERATION = {
    "fd": "Fréchet distance between samples and photos (fd)",
    "fd_floor": "Floor of fd: photos against other photos",
    "fd_over_floor": "fd over its floor",
    "fd_at_32": "fd with both sides averaged down to 32 px",
    "fd_floor_at_32": "Floor of fd at 32 px",
    "kid": "Kernel distance between them (kid)",
    "kid_std": "Standard deviation of kid over subsets",
    "kid_floor": "Floor of kid",
    "precision": "Precision: share of samples that look like photos",
    "recall": "Recall: share of photos that samples come near",
    "n_real": "Number of photos",
    "n_fake": "Number of samples",
    "n_floor": "Number of photos behind the floors",
}


def write(folder: run_folder.RunFolder) -> Path:
    """Writes RUN_DIR/report.html, whole or not at all, and returns its path.

    Raises:
        UserError: config.json or a metadata.json is damaged or of another version.
    """
    path = folder.path / NAME
    write_text(path, render(folder))
    return path


def render(folder: run_folder.RunFolder) -> str:
    """The page as HTML text; see `write`."""
    chain = _Chain(folder)
    sections = (
        ("headline", "Headline figures", _headline(chain)),
        ("edits", "Edited faces", _edits(chain)),
        ("reconstructions", "Reconstructions", _reconstructions(chain)),
        ("samples", "Samples over time", _samples(chain)),
        ("curves", "Training curves", _curves(chain)),
        ("figures", "All measurements", _measurements(chain)),
        ("export", "Exported models", _export(chain)),
        ("options", "Options and versions", _options(chain)),
    )
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in sections]
    body = [tag("section", tag("h2", title), *parts, id=name) for name, title, parts in sections]
    footer = tag(
        "footer", f"Written {_date(run_folder.now())} by cgan_tf {run_folder.__version__}. This file holds "
        "everything that it shows; write it again with",
        tag("code", chain.command(), class_="command"),
    )  # fmt: skip
    return document(
        chain.title(), _header(chain), tag("nav", tag("ul", links), aria_label="Contents"),
        tag("main", body), footer,
    )  # fmt: skip


class _Chain:
    """What the run folder holds, read once."""

    def __init__(self, folder: run_folder.RunFolder) -> None:
        self.path = folder.path
        content = folder.read()
        self.options: dict[str, Any] = content.get("options", {})
        self.data: dict[str, Any] = mapping(content.get("data"))
        self.substitutions: dict[str, Any] = mapping(content.get("substitutions"))
        self.own = {name: folder.own_path(name) for name in folder.own_attributes()}
        self.stages = {name: folder.stage(name) for name in STAGES}
        self.metadata = {name: stage.read_metadata() for name, stage in self.stages.items()}
        self.stats = {
            name: [line for line in stage.read_stats() if isinstance(line, dict)]
            for name, stage in self.stages.items()
        }
        self.notes = self._stale()  # what the reader has to know before the figures
        self.evaluation = self._json(self.stages["evaluate"].path / "report.json")
        self.exported = self._json(self.stages["export"].path / "report.json")
        self.directions = self._directions()
        self.attributes = self._attributes()

    def _stale(self) -> list[str]:
        """A line for each stage that was made from an earlier state of the stages before it."""
        notes = []
        for stage, parents in NEEDS.items():
            started = self.metadata[stage].get("started")
            newer = [
                parent
                for parent in parents
                if started and (self.metadata[parent].get("ended") or "9999") > started
            ]
            if newer:
                notes.append(
                    f"The {stage} stage was made from an earlier {' and '.join(newer)}; its "
                    f"pictures and figures no longer hold. Make it anew with "
                    f"{self.command(stage)} --restart"
                )
        return notes

    def _json(self, path: Path) -> dict[str, Any]:
        """A JSON object, or an empty one where there is none or it is damaged (then noted)."""
        try:
            return mapping(json.loads(path.read_text()))
        except FileNotFoundError:
            return {}
        except ValueError:
            self.notes.append(f"{path.relative_to(self.path)} is damaged and is left out.")
            return {}

    def _directions(self) -> dict[str, dict[str, Any]]:
        """The direction files by attribute."""
        found = {}
        for path in (*sorted(self.stages["directions"].model.glob("*.json")), *self.own.values()):
            content = self._json(path)
            if "calibration" in content:
                found[str(content.get("attribute", path.stem))] = content
        return found

    def _attributes(self) -> list[str]:
        """The edited attributes: as asked for, then whatever else the stages have made."""
        pictured = [
            path.stem.removeprefix("edits_")
            for path in sorted(self.stages["evaluate"].path.glob("edits_*.png"))
        ]
        measured = [name for method in self.edits().values() for name in method]
        given = list(self.options.get("attributes") or [])
        return list(dict.fromkeys([*given, *measured, *self.directions, *pictured]))

    def edits(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Figures by method and attribute."""
        return {
            method: {name: mapping(figures) for name, figures in mapping(block).items()}
            for method, block in mapping(self.evaluation.get("edits")).items()
        }

    def picture(self, path: Path) -> Picture | None:
        """A PNG of the run folder; a damaged one is noted."""
        try:
            content = path.read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                return Picture(content, image.width, image.height)
        except FileNotFoundError:
            return None
        except (OSError, SyntaxError):  # Pillow's words for a damaged file
            self.notes.append(f"{path.relative_to(self.path)} is damaged and is left out.")
            return None

    def resolution(self) -> int:
        return self.options.get("resolution") or 64

    def columns(self, picture: Picture) -> int:
        """How many images stand side by side in a grid, 0 if it is none of this resolution."""
        return 0 if picture.width % self.resolution() else picture.width // self.resolution()

    def command(self, stage: str | None = None) -> str:
        """The command that makes a stage, or this page."""
        what = "-m cgan_tf.report" if stage is None else f"train_main.py --stage={stage}"
        return f"python {what} --run_dir={shlex.quote(str(self.path))}"

    def missing(self, stage: str, what: str) -> Html:
        """Says that `what` is not there yet and which command makes it."""
        begun = bool(self.metadata[stage])
        if self.metadata[stage].get("ended"):
            return tag("p", f"The {stage} stage has finished without {what}.", class_="missing")
        state = "has not finished. Go on with" if begun else "has not begun. Begin it with"
        text = f"No {what} yet: the {stage} stage {state}"
        command = tag("code", self.command(stage), class_="command")
        return tag("p", text, command, class_="missing")

    def title(self) -> str:
        if not self.options:
            return "A run that has not begun"
        source = SOURCES.get(self.options.get("data"), str(self.options.get("data")))
        return f"{source}, {self.resolution()} px"


# ---- top of the page -----------------------------------------------------------------------------


def _header(chain: _Chain) -> Html:
    options, facts = chain.options, []
    if chain.data.get("size"):
        facts.append(f"{number(chain.data['size'])} images")
    if options.get("preset"):
        facts.append(f"preset {options['preset']}")
    if options:
        facts.append(f"seed {plain(options.get('seed'))}")
    for word, times, choose in (("begun", "started", min), ("last finished", "ended", max)):
        known = [str(record[times]) for record in chain.metadata.values() if record.get(times)]
        if known:
            facts.append(f"{word} {_date(choose(known))}")
    if chain.attributes:
        learned = [tag("p", "Edits ", ", ".join(chain.attributes), class_="lead")]
    elif chain.data.get("attribute_names") == []:
        text = "The images have no labels, so there is nothing to edit: only the gan stage runs."
        learned = [tag("p", text, class_="lead")]
    else:
        learned = []
    notes = [f"Note: {plain(text)}." for text in chain.substitutions.values()] + chain.notes
    return tag(
        "header",
        tag("h1", chain.title()),
        learned,
        tag("p", " · ".join(facts), class_="lead") if facts else None,
        tag("ol", [_stage(chain, name) for name in STAGES], class_="stages", aria_label="Stages"),
        tag("div", [tag("p", note) for note in notes], class_="notes") if notes else None,
    )


def _stage(chain: _Chain, name: str) -> Html:
    """One stage's box: its state, time and length."""
    metadata, stats = chain.metadata[name], chain.stats[name]
    seconds = _seconds(metadata, stats)
    seen = stats[-1].get("kimg") if stats else None
    if not metadata:
        return tag("li", tag("b", name), tag("span", "not begun"), class_="open")
    if metadata.get("ended"):
        words = f"done in {duration(seconds)}" if seconds is not None else "done"
    else:
        words = "not finished" + (f", {duration(seconds)} so far" if seconds is not None else "")
    asked = chain.options.get("judge_kimg" if name == "evaluate" else
                              "kimg" if name == "gan" else f"{name}_kimg")  # fmt: skip
    length = None
    if finite(seen):
        whole = "" if metadata.get("ended") or not finite(asked) else f" of {short(asked)}"
        length = f"{short(round(seen, 1))}{whole} kimg" + (" (judge)" if name == "evaluate" else "")
    rates = [line["images_per_second"] for line in stats if finite(line.get("images_per_second"))]
    rate = f"{number(round(sum(rates) / len(rates)))} images/s" if rates else None
    return tag(
        "li", tag("b", name), tag("span", words), tag("span", length) if length else None,
        tag("span", rate) if rate else None,
        class_="done" if metadata.get("ended") else "begun",
    )  # fmt: skip


def _seconds(metadata: Mapping[str, Any], stats: Sequence[Mapping[str, Any]]) -> float | None:
    """Time of a stage: by the clock, or of its training alone where it was interrupted."""
    if metadata.get("ended") and metadata.get("started") and not metadata.get("resumed"):
        try:
            started, ended = (datetime.fromisoformat(metadata[key]) for key in ("started", "ended"))
            return (ended - started).total_seconds()
        except (ValueError, TypeError):
            pass
    return stats[-1].get("seconds") if stats else None


def _headline(chain: _Chain) -> list[Html]:
    evaluation = chain.evaluation
    if not evaluation:
        return [chain.missing("evaluate", "headline figures")]
    tiles = []
    made = mapping(evaluation.get("generation"))
    if made:
        tiles.append(_tile(
            "Samples: Fréchet distance", number(made.get("fd")), "",
            f"{number(made.get('fd_over_floor'))} times the floor of "
            f"{number(made.get('fd_floor'))} that photos have against other photos. "
            f"{_n(made, 'n_fake')} samples, "
            f"{_n(made, 'n_real')} photos, seed {plain(made.get('seed'))}.",
        ))  # fmt: skip
    seen = mapping(evaluation.get("regressor"))
    if seen:
        own, always = mapping(seen.get("regressor")), mapping(seen.get("majority"))
        tiles.append(_tile(
            "Attributes recognized", percent(own.get("accuracy")), "right",
            f"Mean over {len(mapping(seen.get('attributes')))} attributes; always the more "
            f"frequent answer: {percent(always.get('accuracy'))}. Balanced accuracy "
            f"{percent(own.get('balanced_accuracy'))}. {_n(seen)} test photos, "
            f"seed {plain(seen.get('seed'))}.",
        ))  # fmt: skip
    encoder = mapping(mapping(evaluation.get("inversion")).get("encoder"))
    if encoder:
        tiles.append(_tile(
            "Reconstructions", percent(encoder.get("nearer_than_random")), "nearer",
            f"to their photo than the best of {_n(encoder, 'n_random')} random samples. "
            f"PSNR {number(encoder.get('psnr'))} dB. {_n(encoder)} test photos, "
            f"seed {plain(encoder.get('seed'))}.",
        ))  # fmt: skip
    learned = chain.edits().get("learned", {})
    for name in [name for name in chain.attributes if name in learned]:
        edit = learned[name]
        tiles.append(_tile(
            name, fixed(edit.get("target_change"), signed=True), "in probability",
            f"at strength {short(edit.get('strength'), signed=True)}; the other attributes move "
            f"by {fixed(edit.get('leakage'), 3)} (leakage). {_n(edit)} test photos without it, "
            f"seed {plain(edit.get('seed'))}.",
        ))  # fmt: skip
    judge = mapping(evaluation.get("judge"))
    about = (
        "Measured on test photos that no stage has trained on. Probabilities and distances are the "
        "judge's: an attribute network of its own, which no stage trains against"
    )
    if judge:
        about += f" ({number(judge.get('parameters'))} weights, {short(judge.get('kimg'))} kimg)"
    return [tag("p", about + "."), tag("div", tiles, class_="tiles")]


def _tile(name: str, value: str, unit: str, text: str) -> Html:
    shown = tag("p", value, " ", tag("small", unit) if unit else None, class_="value")
    return tag("div", tag("h3", name), shown, tag("p", text), class_="tile")


# ---- pictures ------------------------------------------------------------------------------------


def _edits(chain: _Chain) -> list[Html]:
    evaluate, parts = chain.stages["evaluate"], []
    learned = chain.edits().get("learned", {})
    for name in chain.attributes:
        picture = chain.picture(evaluate.path / f"edits_{name}.png")
        if not picture:
            continue
        heads, caption = TEST_COLUMNS, None
        if chain.columns(picture) != len(heads):
            heads, caption = (), mapping(chain.evaluation.get("pictures")).get(f"edits_{name}.png")
        alt = f"Test photos, their reconstructions and edits of {name} at four strengths"
        shown = figure(picture, alt, caption, 800, heads)
        beside = _edit_figures(name, learned[name]) if name in learned else None
        parts += [tag("h3", name), tag("div", shown, beside, class_="edit")]
    if parts:
        about = (
            "One row per test photo. First the photo, then its reconstruction (encoded, and drawn "
            "again unchanged), then the same latent moved along the attribute's direction: to the "
            "left less of the attribute, to the right more."
        )
        return [tag("p", about), *parts, *_own_edits(chain)]
    picture = chain.picture(chain.stages["directions"].path / "edits.png")
    if not picture:
        return [chain.missing("directions", "edited faces")]
    about = (
        "One row per validation photo: the photo, then its latent drawn again at strengths from "
        "less of the attribute to more; 0 is the plain reconstruction."
    )
    parts.append(tag("p", about))
    names = list(chain.options.get("attributes") or [])
    for name, block in _blocks(picture, names):
        parts += _validation_edits(chain, name, block)
    return [*parts, chain.missing("evaluate", "edits of test photos"), *_own_edits(chain)]


def _validation_edits(chain: _Chain, name: str, picture: Picture) -> list[Html]:
    """What the directions stage, or `cgan attribute`, has drawn of one attribute."""
    heads = VALIDATION_COLUMNS if chain.columns(picture) == len(VALIDATION_COLUMNS) else ()
    alt = f"Validation photos and edits of {name} at rising strengths"
    return [tag("h3", name), figure(picture, alt, None, 800, heads)]


def _own_edits(chain: _Chain) -> list[Html]:
    """The attributes that `cgan attribute` has added, on validation photos."""
    parts = []
    for name, path in chain.own.items():
        picture = chain.picture(path.with_suffix(".png"))
        if not picture:
            continue
        parts += _validation_edits(chain, name, picture)
        facts = mapping(chain.directions.get(name, {}).get("labels"))
        if facts:
            parts.append(tag(
                "p", f"Learned from {number(facts.get('labels'))} labels of "
                f"{plain(facts.get('table'))}, {number(facts.get('positive'))} of them with it; "
                "its balanced accuracy in cross-validation is "
                f"{number(facts.get('balanced_accuracy'))}.",
            ))  # fmt: skip
    if not parts:
        return []
    about = (
        "Attributes of your own. One row per validation photo: the photo, then its latent drawn "
        "again at strengths from less of the attribute to more. The judge does not know them, so "
        "that only the regressor's calibration tells what a strength does."
    )
    return [tag("p", about), *parts]


def _blocks(picture: Picture, names: Sequence[str]) -> list[tuple[str, Picture]]:
    """The equal parts of a picture from top to bottom, one per name, if it can be cut so."""
    if not names or picture.height % len(names):
        return [(", ".join(names) or "Edits", picture)]
    height = picture.height // len(names)
    return [
        (name, _cut(picture, (0, index * height, picture.width, (index + 1) * height)))
        for index, name in enumerate(names)
    ]


def _edit_figures(name: str, edit: Mapping[str, Any]) -> Html:
    """The figures beside an attribute's picture."""
    spread = mapping(edit.get("interval"))
    rows = [
        ("Target change", plus_minus(edit.get("target_change"), spread.get("target_change"),
                                     signed=True)),
        ("Crossed the line (success)", plus_minus_percent(edit.get("success"),
                                                          spread.get("success"))),
        ("Leakage to other attributes", plus_minus(edit.get("leakage"), spread.get("leakage"), 3)),
        ("Change over leakage", number(edit.get("ratio"))),
        ("… times a random direction's", number(edit.get("ratio_over_random"))),
        ("Identity kept (cosine)", plus_minus(edit.get("identity"), spread.get("identity"), 3)),
        ("Promised by the calibration", fixed(edit.get("calibrated_change"), signed=True)),
        ("Kept on test photos", fixed(edit.get("achieved_change"), signed=True)),
    ]  # fmt: skip
    caption = (
        f"{name} at strength {short(edit.get('strength'), signed=True)}: "
        f"n = {_n(edit)}, seed {plain(edit.get('seed'))}"
    )
    return table(caption, ("Measured", "Value"), rows)


def _reconstructions(chain: _Chain) -> list[Html]:
    inversion = chain.stages["inversion"]
    about = tag("p", "The encoder finds a latent for each photo; the generator draws it again.")
    picture = chain.picture(chain.stages["evaluate"].path / "reconstructions.png")
    if picture:
        given = mapping(chain.evaluation.get("pictures")).get("reconstructions.png")
        caption = str(given) if given else "Test photos above their reconstructions."
        shown = figure(picture, "Test photos and their reconstructions", caption, ROOM)
        return [about, shown, _inversion_table(chain)]
    newest = _numbered(inversion.path, "reconstructions")
    if newest and (picture := chain.picture(newest[-1][1])):
        columns = chain.columns(picture)
        heads = ("input", "output") * (columns // 2) if columns and columns % 2 == 0 else ()
        caption = f"Validation photos after {number(newest[-1][0])} kimg of the inversion stage."
        shown = figure(picture, "Photos, each beside its reconstruction", caption, ROOM, heads)
        return [about, shown, chain.missing("evaluate", "reconstructions of test photos")]
    return [about, chain.missing("inversion", "reconstructions")]


def _inversion_table(chain: _Chain) -> Html | None:
    measured = mapping(chain.evaluation.get("inversion"))
    modes = {name: mapping(block) for name, block in measured.items()}
    if not modes:
        return None
    head = ("Way of inverting", "PSNR (dB)", "SSIM", "Perceptual distance",
            "… encoder, same photos", "… best random sample", "Nearer than random",
            "Identity (cosine)", "Time per image", "n", "Seed")  # fmt: skip
    rows = [
        (name, fixed(mode.get("psnr")), fixed(mode.get("ssim"), 3), number(mode.get("perceptual")),
         number(mode.get("perceptual_encoder")), number(mode.get("perceptual_random_best")),
         percent(mode.get("nearer_than_random")),
         fixed(mode.get("identity"), 3), _brief(mode.get("seconds_per_image")), _n(mode),
         plain(mode.get("seed")))
        for name, mode in modes.items()
    ]  # fmt: skip
    return table("How near the reconstructions are to their photos", head, rows)


def _samples(chain: _Chain) -> list[Html]:
    gan, parts = chain.stages["gan"], []
    grids = _numbered(gan.path, "fakes")
    last = chain.picture(grids[-1][1]) if grids else None
    if not last:
        return [chain.missing("gan", "samples")]
    pair = []
    if reals := chain.picture(gan.path / "reals.png"):
        pair.append(figure(reals, "A grid of training photos", "Training photos.", ROOM // 2 - 10))
    when = number(grids[-1][0])
    caption = f"Samples after {when} kimg, drawn from random latents."
    pair.append(figure(last, f"A grid of samples after {when} kimg", caption, ROOM // 2 - 10))
    parts.append(tag("div", pair, class_="row"))
    earlier = []
    for kimg, path in _spread(grids[:-1], EARLIER):
        picture = chain.picture(path)
        if picture:
            side = CORNER * chain.resolution()
            corner = _cut(picture, (0, 0, side, side))
            caption = f"{number(kimg)} kimg"
            earlier.append(figure(corner, f"Samples after {caption}", caption, 256))
    if earlier:
        text = "How it got there: the first faces of that grid, always from the same latents."
        parts += [tag("h3", "On the way"), tag("p", text), tag("div", earlier, class_="early")]
    if chain.options.get("progressive"):
        parts += _growth(chain, grids)
    for name, heading, caption in STYLE_PICTURES:
        if picture := chain.picture(gan.path / name):
            parts += [tag("h3", heading), figure(picture, heading, caption, ROOM)]
    if not chain.metadata["gan"].get("ended"):
        parts.append(chain.missing("gan", "final samples"))
    return parts


def _growth(chain: _Chain, grids: Sequence[tuple[int, Path]]) -> list[Html]:
    """The corner of the sample grids as an animation, from 8 px to the last level."""
    side = CORNER * chain.resolution()
    shown = [(kimg, chain.picture(path)) for kimg, path in _spread(grids, FRAMES)]
    shown = [(kimg, _cut(picture, (0, 0, side, side))) for kimg, picture in shown if picture]
    if len(shown) < 2:
        return []
    caption = f"{len(shown)} moments from {number(shown[0][0])} to {number(shown[-1][0])} kimg."
    moving = animated([picture for _, picture in shown], FRAME_SECONDS)
    alt = "Samples growing from 8 px to the final resolution"
    return [tag("h3", "Growth"), figure(moving, alt, caption, 2 * side)]


def _numbered(folder: Path, stem: str) -> list[tuple[int, Path]]:
    """The pictures STEMnnnnnn.png with their kimg, from first to last."""
    found = []
    for path in folder.glob(f"{stem}*.png"):
        match = re.fullmatch(rf"{stem}(\d+)", path.stem)
        if match:
            found.append((int(match[1]), path))
    return sorted(found)


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, the first one among them, closer together at the start,
    where training changes most."""
    if len(items) <= count:
        return list(items)
    places = [round((index / (count - 1)) ** 2 * (len(items) - 1)) for index in range(count)]
    for index in range(1, count):
        places[index] = max(places[index], places[index - 1] + 1)
    return [items[min(place, len(items) - 1)] for place in places]


def _cut(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """The part of a picture from left, top to right, bottom, as far as the picture goes."""
    with Image.open(io.BytesIO(picture.content)) as image:
        part = image.crop((*box[:2], min(box[2], image.width), min(box[3], image.height)))
    buffer = io.BytesIO()
    part.save(buffer, "PNG")
    return Picture(buffer.getvalue(), part.width, part.height)


# ---- curves --------------------------------------------------------------------------------------


def _curves(chain: _Chain) -> list[Html]:
    text = "Means over the images between two points; kimg are thousands of training images seen."
    charts, missing = [], []
    for stage in STAGES:
        if chain.stats[stage]:
            charts += _stage_charts(stage, chain.stats[stage])
        elif stage in ("gan", "regressor", "inversion") or (
            stage == "directions" and chain.options.get("directions", "learned") == "learned"
        ):
            missing.append(stage)
    parts = [tag("p", text), tag("div", charts, class_="charts") if charts else None]
    if missing:
        parts.append(chain.missing(missing[0], f"curves of {', '.join(missing)}"))
    return parts


def _stage_charts(stage: str, stats: Sequence[Mapping[str, Any]]) -> Iterator[Html]:
    """The known charts, and one for each figure that no known chart has."""
    found = dict.fromkeys(name for line in stats for name, value in line.items() if finite(value))
    names = [name for name in found if name not in ("kimg", "seconds", "images_per_second")]
    known = CHARTS.get(stage, ())
    taken = {name for chart in known for name in chart.names}
    others = [Chart((name,), name, name, "") for name in names if name not in taken]
    x = [line.get("kimg") for line in stats]
    for chart in (*known, *others):
        series = [
            Series(name, x, [line.get(name) for line in stats])
            for name in chart.names
            if name in names
        ]
        if series:
            yield line_chart(
                chart.title, series, "kimg", chart.unit, label=f"{stage} · {TITLES[stage]}",
                note=chart.note, y_range=chart.y_range,
            )  # fmt: skip


# ---- tables --------------------------------------------------------------------------------------


def _measurements(chain: _Chain) -> list[Html]:
    parts = []
    if chain.evaluation:
        parts += _generation(chain) + _regressor(chain)
        parts += edits.parts(chain.evaluation, chain.attributes)
    else:
        parts.append(chain.missing("evaluate", "measurements"))
    parts += _calibration(chain)
    if chain.evaluation:
        every = raw("evaluate/report.json", chain.evaluation)
        parts.append(details("Every figure: evaluate/report.json", every))
    return parts


def _generation(chain: _Chain) -> list[Html]:
    made = mapping(chain.evaluation.get("generation"))
    if not made:
        return []
    rows = [
        (label, percent(made[key]) if key in ("precision", "recall") else number(made[key]))
        for key, label in _GENERATION.items()
        if key in made
    ]
    text = (
        "Distances compare the features that the judge sees in samples and in photos; 0 would be "
        "no difference, and the floor is what is left between photos and other photos."
    )
    px, seed = plain(made.get("resolution")), plain(made.get("seed"))
    shown = table(f"Samples against photos at {px} px, seed {seed}", ("Measured", "Value"), rows)
    return [tag("h3", "Generated samples"), tag("p", text), shown]


def _regressor(chain: _Chain) -> list[Html]:
    seen = mapping(chain.evaluation.get("regressor"))
    if not seen:
        return []
    means = [
        (label, percent(block.get("accuracy")), percent(block.get("balanced_accuracy")))
        for key, label in (("regressor", "Regressor"), ("judge", "Judge"),
                           ("majority", "Always the more frequent answer"))
        if (block := mapping(seen.get(key)))
    ]  # fmt: skip
    each = {name: mapping(block) for name, block in mapping(seen.get("attributes")).items()}
    rows = [
        (name, percent(one.get("positive")), percent(one.get("accuracy")),
         percent(one.get("balanced_accuracy")), percent(one.get("judge_accuracy")),
         percent(one.get("judge_balanced_accuracy")))
        for name, one in each.items()
    ]  # fmt: skip
    n = f"n = {_n(seen)} test photos, seed {plain(seen.get('seed'))}"
    text = (
        "How often the networks name an attribute rightly. Balanced accuracy counts photos with "
        "and without the attribute alike, so always giving the same answer is worth a half."
    )
    head = ("Attribute", "Photos that have it", "Regressor: accuracy", "… balanced",
            "Judge: accuracy", "… balanced")  # fmt: skip
    per_attribute = table(f"Per attribute, {n}", head, rows)
    if len(rows) > LONG_TABLE:
        per_attribute = details(f"Each of the {len(rows)} attributes", per_attribute)
    return [
        tag("h3", "Recognized attributes"),
        tag("p", text),
        table(f"Mean over the attributes, {n}", ("Network", "Accuracy", "Balanced"), means),
        per_attribute if rows else None,
    ]


def _calibration(chain: _Chain) -> list[Html]:
    heading = tag("h3", "Calibration of the strengths")
    tables = {
        name: [
            point
            for point in content["calibration"]
            if isinstance(point, dict) and finite(point.get("strength"))
        ]
        for name, content in chain.directions.items()
        if isinstance(content["calibration"], list)
    }
    tables = {name: tables[name] for name in chain.attributes if tables.get(name)}
    if not tables:
        return [heading, chain.missing("directions", "calibration")]
    names = list(tables)
    groups = [names[start : start + SERIES] for start in range(0, len(names), SERIES)]
    charts = []
    for group in groups:
        series = []
        for name in group:
            known = {point["strength"]: point.get("change") for point in tables[name]}
            known = dict(sorted(({0.0: 0.0} | known).items()))  # no edit is no change
            series.append(Series(name, list(known), list(known.values())))
        charts.append(line_chart(
            "Strength and what it does", series, "strength", "change of the prediction",
            markers=True, signed=True,
        ))  # fmt: skip
    text = (
        "How far the regressor's mean prediction moves on validation photos at each strength: up "
        "on photos without the attribute, down on photos with it."
    )
    return [
        heading, tag("p", text),
        tag("div", tag("div", charts), _calibration_table(tables), class_="beside"),
    ]  # fmt: skip


def _calibration_table(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Html:
    """Change of each attribute (rows) at each strength (columns)."""
    points = [point for table_ in tables.values() for point in table_]
    strengths = sorted({point["strength"] for point in points})
    rows = []
    for name, table_ in tables.items():
        change = {point["strength"]: point.get("change") for point in table_}
        counts = dict.fromkeys(_n(point) for point in table_)
        cells = [fixed(change.get(strength), signed=True) for strength in strengths]
        rows.append((name, *cells, " / ".join(counts)))
    head = ("Attribute", *(short(strength, signed=True) for strength in strengths), "n")
    return table("Mean change by strength; n photos at each", head, rows)


def _export(chain: _Chain) -> list[Html]:
    report = chain.exported
    if not report:
        return [chain.missing("export", "exported models")]
    variants = {name: mapping(one) for name, one in mapping(report.get("variants")).items()}
    signatures = list(dict.fromkeys(
        signature for one in variants.values() for signature in mapping(one.get("signatures"))
    ))  # fmt: skip
    rows = [_variant_row(name, one, signatures) for name, one in variants.items()]
    photos, drawn = mapping(report.get("photos")), mapping(report.get("strengths"))
    text = (
        "The same editor for servers (SavedModel) and devices (TFLite). Each signature's output is "
        "compared with the trained model's on the same inputs: the largest absolute difference of "
        "any value, where images go from −1 to 1 and latents are taken relative to their largest "
        "value. int8 rounds every value, so its bound is on the noise instead. Nothing beyond its "
        "bounds is published."
    )
    caption = (
        f"Largest difference per signature on {_n(photos)} {plain(photos.get('split'))} photos, "
        f"strengths of seed {plain(drawn.get('seed'))}"
    )
    head = ("File", "Size", "Weights in it", "Verdict", "Bound", *signatures)
    reasons = [
        tag("p", f"{name} did not pass: {one['reason']}", class_="missing")
        for name, one in variants.items()
        if one.get("reason")
    ]
    on_devices = [_device_row(name, one) for name, one in variants.items() if "edits" in one]
    return [
        tag("p", text), *reasons, _page_line(mapping(report.get("page"))),
        table(caption, head, rows) if rows else None,
        *(_device_edits(on_devices, variants.values()) if on_devices else ()),
        details("Every figure: export/report.json", raw("export/report.json", report)),
    ]  # fmt: skip


def _page_line(page: Mapping[str, Any]) -> Html | None:
    """What has become of the device page, if there is to be one."""
    if not page:
        return None
    if page.get("passed") is not True:
        return tag("p", f"The page was not made: {plain(page.get('reason'))}", class_="missing")
    return tag("p", f"The page in export/page runs the variant {plain(page.get('variant'))}.")


def _device_edits(rows: list[tuple], variants: Iterable[Mapping[str, Any]]) -> list[Html]:
    scorers = dict.fromkeys(plain(mapping(one.get("edits")).get("scorer")) for one in variants)
    who = " and ".join(scorer for scorer in scorers if scorer != DASH)
    text = (
        "What each file for devices keeps of the edits by +1 of photos that lack the attribute: "
        "the share of Keras’s change that is left, and by how much more the other attributes move, "
        "of the attribute that fares worst; and how many of all predictions on the edited photos "
        f"fall on the same side as Keras’s. Scored by the {who}. Times are medians of single calls "
        "on one thread."
    )
    head = ("File", "Noise", "Least", "Change kept", "Leakage added", "Agreement", "encode",
            "generate", "translate")  # fmt: skip
    return [tag("p", text), table("Edits and times of the files for devices", head, rows)]


def _device_row(name: str, variant: Mapping[str, Any]) -> tuple:
    edits, times = mapping(variant.get("edits")), mapping(variant.get("milliseconds"))
    attributes = [mapping(one) for one in mapping(edits.get("attributes")).values()]
    signatures = [mapping(one) for one in mapping(variant.get("signatures")).values()]

    def decibels(value: Any) -> str:
        return f"{value:.1f} dB" if finite(value) else DASH

    def worst(choose: Callable[..., Any], parts: list[Mapping[str, Any]], key: str) -> Any:
        return choose((part[key] for part in parts if finite(part.get(key))), default=None)

    return (
        variant.get("path") or name,
        decibels(worst(min, signatures, "psnr")),
        decibels(variant.get("psnr_bound")),
        percent(worst(min, attributes, "kept")),
        fixed(worst(max, attributes, "leakage_added"), 4, signed=True),
        percent(edits.get("agreement")),
        *(
            f"{times[key]:.1f} ms" if finite(times.get(key)) else DASH
            for key in ("encode", "generate", "translate")
        ),
    )


def _variant_row(name: str, variant: Mapping[str, Any], signatures: Sequence[str]) -> tuple:
    measured = mapping(variant.get("signatures"))
    differences = [mapping(measured.get(key)).get("max_difference") for key in signatures]
    passed = variant.get("passed")
    verdict = "passed" if passed is True else "failed" if passed is False else DASH
    return (
        variant.get("path") or name, size(variant.get("bytes")), size(variant.get("weight_bytes")),
        verdict, tiny(variant.get("bound")), *(tiny(difference) for difference in differences),
    )  # fmt: skip


def _options(chain: _Chain) -> list[Html]:
    parts = []
    if chain.options:
        rows = [_option_row(name, value) for name, value in chain.options.items()]
        caption = "All options; those that differ from their defaults are bold"
        shown = table(caption, ("Flag", "Value"), rows, 2)
        parts.append(details(f"All {len(rows)} options", shown))
    else:
        parts.append(chain.missing("gan", "options"))
    begun = {name: metadata for name, metadata in chain.metadata.items() if metadata}
    if begun:
        versions = {name: mapping(metadata.get("versions")) for name, metadata in begun.items()}
        packages = list(dict.fromkeys(package for block in versions.values() for package in block))
        rows = [(package, _by_stage(package, versions)) for package in packages]
        parts.append(table("Versions that the stages ran with", ("Package", "Version"), rows, 2))
        records = {
            stage: {key: value for key, value in metadata.items() if key != "options"}
            for stage, metadata in begun.items()
        }
        parts.append(details("Records of the stages: metadata.json", raw("metadata.json", records)))
    return parts


def _option_row(name: str, value: Any) -> tuple[list[Html], str | Html]:
    field = FIELDS[name]
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    shown = plain(value)
    if field.metadata["unit"] and value is not None:
        shown += f" {field.metadata['unit']}"
    marked = shown if value == default else tag("strong", shown)
    meaning = tag("span", field.metadata["help"], class_="soft")
    return [tag("code", f"--{name}"), meaning], marked


def _by_stage(package: str, versions: Mapping[str, Mapping[str, Any]]) -> str:
    """The version of a package, or each with its stages where they differ."""
    stages: dict[str, list[str]] = {}
    for stage, block in versions.items():
        if package in block:
            stages.setdefault(plain(block[package]), []).append(stage)
    if len(stages) == 1:
        return next(iter(stages))
    return "; ".join(f"{version} ({', '.join(names)})" for version, names in stages.items())


# ---- small parts ---------------------------------------------------------------------------------


def _n(block: Mapping[str, Any], key: str = "n") -> str:
    return number(block.get(key))


def _brief(seconds: Any) -> str:
    return f"{number(1000 * seconds)} ms" if finite(seconds) else DASH


def _date(text: str) -> str:
    """2025-03-31 14:05 UTC of an ISO 8601 time in UTC."""
    return f"{text[:10]} {text[11:16]} UTC" if len(text) >= 16 else text
