"""A run folder's content, read once, as the page's templates use it."""

import json
import operator
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cgan_tf.core.config import NEEDS, STAGES
from cgan_tf.core.run_folder import RunFolder
from cgan_tf.report import images
from cgan_tf.report.format import entries, finite, listed, mapping, plain
from cgan_tf.report.images import Picture


class Run:
    """What the templates show. A damaged file is left out, and a note says so."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path
        content = folder.read()
        self.options = mapping(content.get("options"))
        self.data = mapping(content.get("data"))
        self.custom = {name: folder.custom_path(name) for name in folder.custom_attributes()}
        stages = {name: folder.stage(name) for name in STAGES}
        self.metadata = {name: stage.read_metadata() for name, stage in stages.items()}
        self.stats = {
            name: [line for line in stage.read_stats() if isinstance(line, dict)]
            for name, stage in stages.items()
        }
        notes = [*listed(self.data.get("notes")), *mapping(content.get("substitutions")).values()]
        self.notes = [f"Note: {plain(text)}." for text in notes] + list(self._stale())
        self.evaluation = self._json(self.path / "evaluate" / "report.json")
        self.exported = self._json(self.path / "export" / "report.json")
        self.edits = {
            name: entries(block) for name, block in mapping(self.evaluation.get("edits")).items()
        }
        self.directions: dict[str, dict[str, Any]] = {}
        for path in (*sorted(stages["directions"].model.glob("*.json")), *self.custom.values()):
            content = self._json(path)
            if "calibration" in content:
                self.directions[str(content.get("attribute", path.stem))] = content
        pictured = sorted((self.path / "evaluate").glob("edits_*.png"))
        self.attributes = list(dict.fromkeys([
            *listed(self.options.get("attributes")),
            *(name for method in self.edits.values() for name in method),
            *self.directions,
            *(path.stem.removeprefix("edits_") for path in pictured),
        ]))  # fmt: skip

    def _stale(self) -> Iterator[str]:
        """A note for each stage that is older than one of the stages that it needs."""
        for stage, parents in NEEDS.items():
            started = self.metadata[stage].get("started")
            newer = [
                parent
                for parent in parents
                if started and str(self.metadata[parent].get("ended") or "9999") > str(started)
            ]
            if newer:
                yield (
                    f"The {stage} stage used an earlier {' and '.join(newer)}; its images and "
                    f"values are out of date. Run it again with {self.command(stage)} --restart"
                )

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            return mapping(json.loads(path.read_text()))
        except FileNotFoundError:
            pass
        except ValueError:
            self._note_damage(path)
        return {}

    def _note_damage(self, path: Path) -> None:
        self.notes.append(f"{path.relative_to(self.path)} is damaged and is left out.")

    def picture(self, path: Path | str) -> Picture | None:
        """A PNG, given by its path or by its name in the run folder; None if missing or damaged."""
        path = path if isinstance(path, Path) else self.path / path
        try:
            return images.read(path)
        except FileNotFoundError:
            pass
        except (OSError, SyntaxError):  # what Pillow raises for a damaged file
            self._note_damage(path)
        return None

    def grids(self, stage: str, stem: str, count: int | None = None) -> list[tuple[int, Picture]]:
        """The grids STEMnnnnnn.png with their kimg: the last, or `count` of those before it."""
        found = (self.path / stage).glob(f"{stem}*.png")
        numbers = ((path.stem.removeprefix(stem), path) for path in found)
        files = sorted((int(digits), path) for digits, path in numbers if digits.isdecimal())
        chosen = files[-1:] if count is None else images.spread(files[:-1], count)
        return [(kimg, picture) for kimg, path in chosen if (picture := self.picture(path))]

    @property
    def resolution(self) -> int:
        """Side of the run's images in px."""
        return self.options.get("resolution") or 64

    def columns(self, picture: Picture) -> int:
        """The number of images in a row of a grid; 0 if its width does not fit the resolution."""
        return 0 if picture.width % self.resolution else picture.width // self.resolution

    def command(self, stage: str | None = None) -> str:
        """The command that runs a stage, or writes this page."""
        verb = f"train --stage={stage}" if stage else "report"
        return f"cgan {verb} --run_dir={shlex.quote(str(self.path))}"

    def seconds(self, stage: str) -> float | None:
        """A stage's wall-clock time; of an interrupted one, its training time."""
        metadata, stats = self.metadata[stage], self.stats[stage]
        if metadata.get("ended") and not metadata.get("resumed"):
            try:
                ends = (datetime.fromisoformat(metadata[key]) for key in ("ended", "started"))
                return operator.sub(*ends).total_seconds()
            except (KeyError, ValueError, TypeError):
                pass
        return stats[-1].get("seconds") if stats else None

    def ordered(self, found: Any) -> dict[str, Any]:
        """A JSON object by attribute in the page's order."""
        known = mapping(found)
        return {name: known[name] for name in (*self.attributes, *known) if name in known}

    def calibrations(self) -> dict[str, list[dict[str, Any]]]:
        """The points of each direction's calibration, sorted by strength."""
        found = {}
        for name in self.attributes:
            points = map(mapping, listed(mapping(self.directions.get(name)).get("calibration")))
            points = [point for point in points if finite(point.get("strength"))]
            if points:
                found[name] = sorted(points, key=lambda point: point["strength"])
        return found
