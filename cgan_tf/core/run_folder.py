"""The run folder: where every stage keeps its options, figures, checkpoints and artifacts.

    runs/faces/
      config.json            the resolved options, what was substituted, the data set's hash, the
                             own attributes
      gan/ regressor/ inversion/ directions/ evaluate/ export/
        metadata.json        versions, command line, start and end, kimg, the parents' hashes
        stats.jsonl          one line per tick
        checkpoints/         what resuming needs
        model/               the artifact
      attributes/            the own attributes (`cgan attribute`): NAME.json and NAME.png
      report.html

Every write is atomic: a temporary name beside the target, fsync, rename.
"""

import datetime
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import platform
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cgan_tf import __version__
from cgan_tf.core import config as config_module
from cgan_tf.core import rules
from cgan_tf.core.config import NEEDS, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import file_hash, set_aside, write_json, write_text

FORMAT = 2  # of the run folder; a folder of another format is refused
METADATA = {"stage", "options", "data", "parents"}  # what later commands need
CUSTOM = "custom_attributes"  # folder of what `cgan attribute` adds
CUSTOM_NEEDS = ("gan", "regressor", "inversion")  # stages that an own attribute was made from
PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "absl-py", "tensorflow-datasets")


def versions() -> dict[str, str]:
    """Python's, this library's and its packages' versions."""
    return {"python": platform.python_version(), "cgan_tf": __version__} | {
        name: _version(name) for name in PACKAGES
    }


def _version(package: str) -> str:
    """A package's version; "unknown" if it was installed without metadata."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged; restore it, or take another --run_dir")


def _flag(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


class StageFolder:
    """One stage's sub-folder."""

    def __init__(self, run: "RunFolder", name: str) -> None:
        self.run = run
        self.name = name
        self.path = run.path / name
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"

    def read_metadata(self) -> dict[str, Any]:
        """metadata.json, or an empty dict before the stage has begun."""
        try:
            content = json.loads((self.path / "metadata.json").read_text())
            if not isinstance(content, dict) or not METADATA <= set(content):
                raise ValueError("not what begin() wrote")
            return content
        except FileNotFoundError:
            return {}
        except ValueError:
            raise UserError(
                f"{self.path / 'metadata.json'} is damaged; --stage={self.name} --restart moves "
                "the old stage aside and begins anew"
            ) from None

    def read_stats(self) -> list[dict[str, Any]]:
        """The lines of stats.jsonl; a torn last line is left out."""
        lines = []
        try:
            for line in (self.path / "stats.jsonl").read_text().splitlines():
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:
                    break
        except FileNotFoundError:
            pass
        return lines

    def append_stats(self, line: dict[str, Any]) -> None:
        """One more line of stats.jsonl."""
        with open(self.path / "stats.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def rewind_stats(self, kimg: float) -> None:
        """Drops the lines past `kimg`: the work after the checkpoint will be done again."""
        kept = [line for line in self.read_stats() if line["kimg"] <= kimg + 1e-9]
        write_text(self.path / "stats.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def finished(self) -> bool:
        """Whether the stage's artifact is complete."""
        return self.read_metadata().get("ended") is not None

    def artifact_hash(self) -> str:
        """SHA-256 over the stage's model files, in the order of their names.

        Raises:
            UserError: the model is gone.
        """
        digest = hashlib.sha256()
        try:
            for path in sorted(self.model.iterdir()):
                digest.update(f"{path.name} {file_hash(path)}\n".encode())
        except FileNotFoundError:
            raise UserError(
                f"{self.model} is missing, though the {self.name} stage had finished; "
                f"--stage={self.name} --restart makes it anew"
            ) from None
        return digest.hexdigest()

    def has_work(self) -> bool:
        """Whether something has been made that a change of options would put in doubt."""
        return self.finished() or any(self.checkpoints.glob("step-*.npz"))

    def begin(self, config: Config, data_digest: str, say: Callable[[str], None] = print) -> bool:
        """Opens the stage for work, or says that there is none left.

        Args:
            config: the resolved options.
            data_digest: the data set's hash.
            say: where a line for the user goes.

        Returns:
            False if the stage has finished.

        Raises:
            UserError: a stage that this one needs has not finished, or the options, the data or
                an earlier stage are no longer those that this stage began with.
        """
        self.run.check_order((self.name,))
        parents = {name: self.run.stage(name).artifact_hash() for name in NEEDS[self.name]}
        own = self.run.custom_hash() if self.name == "export" else None
        old = self.read_metadata()
        if old and self.has_work():
            changed = self.changed_options(config)
            if old["data"] != data_digest:
                changed.append("--data_dir (its photos or labels are not the same)")
            changed += [
                f"the {parent} stage (trained anew since)"
                for parent in parents
                if parents[parent] != old["parents"].get(parent)
            ]
            if own != old.get("custom_attributes"):
                changed.append("the own attributes (others since)")
            self.refuse(changed)
            if old.get("ended"):
                say(
                    f"{self.name}: finished at {old['ended']}; nothing to do "
                    "(--restart begins anew)"
                )
                return False
        if not self.run.writes:
            return True
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(
            self.path / "metadata.json",
            {
                "stage": self.name,
                "command": sys.argv,
                "versions": versions(),
                "started": old.get("started", now()),
                "resumed": old.get("resumed", []) + ([now()] if old else []),
                "ended": None,
                "options": self._options(config),
                "data": data_digest,
                "parents": parents,
            }
            | ({"custom_attributes": own} if own else {}),
        )
        return True

    def _options(self, config: Config) -> dict[str, Any]:
        return config_module.stage_options(config, self.name)

    def changed_options(self, config: Config) -> list[str]:
        """This stage's options that changed since it began, each as "--name=new (was old)"."""
        old = self.read_metadata().get("options")
        if old is None or not self.has_work():
            return []
        # An older version did not have the newer options: it did what their defaults do.
        old = self._options(Config()) | old
        return [
            f"--{name}={_flag(value)} (was {_flag(old[name])})"
            for name, value in self._options(config).items()
            if value != old[name]
        ]

    def refuse(self, changed: list[str]) -> None:
        """Raises a UserError if anything changed since the stage began."""
        if changed:
            raise UserError(
                f"the {self.name} stage in {self.run.path} began with other options: "
                f"{', '.join(changed)}; take the old ones or another --run_dir, or give "
                f"--stage={self.name} --restart, which moves the old stage aside"
            )

    def finish(self, **facts: Any) -> None:
        """Marks the stage as complete, with what is worth keeping about it."""
        write_json(self.path / "metadata.json", self.read_metadata() | facts | {"ended": now()})


class RunFolder:
    """One chain's folder. Only one process at a time may work in it (`lock`)."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.writes = True  # False in a worker that is not the chief

    def stage(self, name: str) -> StageFolder:
        """The sub-folder of a stage, whether it exists or not."""
        return StageFolder(self, name)

    def lock(self) -> None:
        """Keeps a second process out until this one ends.

        Raises:
            UserError: another process works in this folder, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / ".lock", "w")  # noqa: SIM115 - held until the end
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"--run_dir={self.path}: {error.strerror}; take another folder"
            ) from None
        weakref.finalize(self, file.close)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--run_dir={self.path}: another process is working in it; wait for it, or take "
                "another folder"
            ) from None

    def read(self) -> dict[str, Any]:
        """config.json as it stands: format, options, data, substitutions; empty if there is none.

        Raises:
            UserError: it is damaged, or of another version.
        """
        path = self.path / "config.json"
        try:
            content = json.loads(path.read_text())
            if not isinstance(content, dict):
                raise ValueError("not what save_config() wrote")
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise UserError(
                f"--run_dir={self.path}: {error.strerror}; take another folder"
            ) from None
        except ValueError:
            raise _damaged(path) from None
        if content.get("format") != FORMAT:
            raise UserError(
                f"--run_dir={self.path}: a run folder of format {content.get('format')}, but this "
                f"version reads format {FORMAT}; use another --run_dir, or the version that made "
                f"it ({content.get('version', 'unknown')})"
            )
        options = content.get("options")
        others = (
            content.get("requested"),
            content.get("substitutions"),
            content.get("custom_attributes", {}),
        )
        if not all(isinstance(part, dict) for part in (options, *others)):
            raise _damaged(path)
        try:
            rules.check(config_module.from_dict(options))
        except TypeError:
            raise _damaged(path) from None
        return content

    def load_config(self) -> Config:
        """The resolved options of this run.

        Raises:
            UserError: this is no run folder.
        """
        content = self.read()
        if not content:
            raise UserError(
                f"{self.path}: no run folder (config.json is missing); give one that "
                "train_main.py has made"
            )
        return config_module.from_dict(content["options"])

    def restart(self, name: str, say: Callable[[str], None] = print) -> None:
        """Moves a stage's folder aside, if there is one."""
        path = self.stage(name).path
        if path.exists():
            say(f"{name}: the old stage is now {set_aside(path)}")

    def restart_custom(self, say: Callable[[str], None] = print) -> None:
        """Moves the own attributes aside, if there are any."""
        names = self.custom_attributes()
        for name in names:
            self.retract(f"calibration of {name}")
        if names:
            self.record_custom(None)
        self.restart(CUSTOM, say)

    def check_order(self, stages: Sequence[str]) -> None:
        """Raises a UserError if one of the stages needs one that has not finished before it."""
        for index, name in enumerate(stages):
            for parent in NEEDS[name]:
                if parent not in stages[:index] and not self.stage(parent).finished():
                    raise UserError(
                        f"--stage={name}: needs the {parent} stage first; run "
                        f"python train_main.py --stage={parent} --run_dir={self.path}"
                    )

    def check_options(self, config: Config, restarted: tuple[str, ...] = ()) -> None:
        """Raises a UserError if a stage that has begun would not be what config.json says of it.

        Args:
            config: the resolved options.
            restarted: stages that begin anew with these options.
        """
        for name in config_module.STAGES:
            if name not in restarted:
                stage = self.stage(name)
                stage.refuse(stage.changed_options(config))

    def save_config(
        self, config: Config, data: dict[str, Any], requested: dict[str, Any] | None = None
    ) -> None:
        """Writes the options and what is known of the data; keeps the substitutions.

        Args:
            config: the resolved options.
            data: the data set's name, size and hash.
            requested: what was given by flags; what is already recorded if None.
        """
        old = self.read()
        write_json(
            self.path / "config.json",
            {
                "format": FORMAT,
                "version": __version__,
                "options": config_module.to_dict(config),
                "requested": old.get("requested", {}) if requested is None else requested,
                "data": data,
                "substitutions": old.get("substitutions", {}),
            }
            | ({"custom_attributes": own} if (own := self.custom_attributes()) else {}),
        )

    def custom_attributes(self) -> dict[str, Any]:
        """What `cgan attribute` has added: the facts about each attribute, by its name."""
        return self.read().get("custom_attributes", {})

    def custom_path(self, name: str) -> Path:
        """The file of an own attribute: its head and its direction."""
        return self.path / CUSTOM / f"{name}.json"

    def custom_hash(self) -> str | None:
        """SHA-256 over the files of the own attributes; None without any.

        Raises:
            UserError: one is gone.
        """
        digest = hashlib.sha256()
        names = self.custom_attributes()
        for name in names:
            try:
                digest.update(f"{name} {file_hash(self.custom_path(name))}\n".encode())
            except FileNotFoundError:
                raise UserError(
                    f"{self.custom_path(name)} is missing; cgan attribute --restart "
                    "makes it anew"
                ) from None
        return digest.hexdigest() if names else None

    def record_custom(self, facts: dict[str, Any] | None) -> None:
        """Adds own attributes to config.json, which makes them the run's; None takes all out."""
        content = self.read()
        own = content.pop("custom_attributes", {})
        if facts is not None:
            content["custom_attributes"] = own | facts
        write_json(self.path / "config.json", content)

    def substitute(self, name: str, text: str, say: Callable[[str], None] = print) -> None:
        """Says and records that something was used in the place of what was asked for."""
        if not self.writes:
            return
        say(f"note: {text}")
        content = self.read()
        content["substitutions"][name] = text
        write_json(self.path / "config.json", content)

    def retract(self, prefix: str) -> None:
        """Forgets the substitutions whose names begin so: what they noted is being made anew."""
        if not self.writes:
            return
        content = self.read()
        kept = {
            name: text
            for name, text in content["substitutions"].items()
            if not name.startswith(prefix)
        }
        if kept != content["substitutions"]:
            write_json(self.path / "config.json", content | {"substitutions": kept})
