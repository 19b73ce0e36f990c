"""The run folder: options, statistics, checkpoints and artifacts of every stage.

    runs/faces/
      config.json            the resolved options, the requested ones, the data set's hash, the
                             substitutions and the custom attributes
      gan/ regressor/ inversion/ directions/ evaluate/ export/
        metadata.json        versions, command line, start and end, kimg, the parents' hashes
        stats.jsonl          one line per tick
        checkpoints/         what resuming needs
        model/               the artifact
      custom_attributes/     what `cgan attribute` added: NAME.json and NAME.png
      report.html

Every write is atomic: to a temporary file in the same folder, then fsync, then rename.
"""

import datetime
import hashlib
import importlib.metadata
import json
import platform
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cgan_tf.core import config as config_module
from cgan_tf.core import presets, rules
from cgan_tf.core.config import NEEDS, OPTIONS, SECTIONS, Config
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import (
    disk_full,
    expand,
    file_hash,
    move_aside,
    names_full_disk,
    open_locked,
    write_json,
    write_text,
)
from cgan_tf.core.folders import remove_leftovers
from cgan_tf.core.version import __version__

FORMAT = 2  # of the run folder; a folder of another format is refused
# Keys that every metadata.json has, and their types.
METADATA = {"stage": str, "options": dict, "data": str, "parents": dict}
CUSTOM = "custom_attributes"  # the folder, and the key in config.json and metadata.json
INIT_FROM = "init_from"  # the key in a stage's metadata.json: the networks that it began with
CUSTOM_NEEDS = ("gan", "regressor", "inversion")  # stages that custom attributes are made from
PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "absl-py", "tensorflow-datasets")


def versions() -> dict[str, str]:
    """The versions of Python, this library and its dependencies."""
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


class StageFolder:
    """The sub-folder of one stage, `RunFolder.stage(name)`.

    Attributes:
        run: the run folder.
        name: the stage's name.
        path: the sub-folder.
        checkpoints: its folder of checkpoints.
        model: its artifact.
    """

    def __init__(self, run: "RunFolder", name: str) -> None:
        self.run = run
        self.name = name
        self.path = run.path / name
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"

    def read_metadata(self) -> dict[str, Any]:
        """metadata.json, or an empty dict if the stage has not begun.

        Raises:
            UserError: the file is damaged.
        """
        try:
            content = json.loads((self.path / "metadata.json").read_text())
            if not isinstance(content, dict) or not all(
                isinstance(content.get(key), kind) for key, kind in METADATA.items()
            ):
                raise ValueError("not written by begin()")
            return content
        except FileNotFoundError:
            return {}
        except ValueError:
            raise UserError(
                f"{self.path / 'metadata.json'} is damaged; --stage={self.name} --restart moves "
                "the old stage aside and starts over"
            ) from None

    def read_stats(self) -> list[dict[str, Any]]:
        """The lines of stats.jsonl, up to the first incomplete one."""
        lines = []
        try:
            for line in (self.path / "stats.jsonl").read_bytes().splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:  # incomplete, or not UTF-8
                    break
        except FileNotFoundError:
            pass
        return lines

    def append_stats(self, line: dict[str, Any]) -> None:
        """Appends a line to stats.jsonl."""
        path = self.path / "stats.jsonl"
        with names_full_disk(path), open(path, "a") as file:
            file.write(json.dumps(line) + "\n")

    def rewind_stats(self, kimg: float) -> None:
        """Drops the lines after `kimg`, since training resumes from there."""
        kept = [line for line in self.read_stats() if line["kimg"] <= kimg + 1e-9]
        write_text(self.path / "stats.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def finished(self) -> bool:
        """Whether the stage's artifact is complete."""
        return self.read_metadata().get("ended") is not None

    def has_progress(self) -> bool:
        """Whether the stage has finished or has a checkpoint."""
        return self.finished() or any(self.checkpoints.glob("step-*.npz"))

    def artifact_hash(self) -> str:
        """SHA-256 of the names and contents of the stage's model files.

        Raises:
            UserError: the model is missing.
        """
        digest = hashlib.sha256()
        try:
            for path in sorted(self.model.iterdir()):
                digest.update(f"{path.name} {file_hash(path)}\n".encode())
        except FileNotFoundError:
            raise UserError(
                f"{self.model} is missing, though the {self.name} stage has finished; "
                f"--stage={self.name} --restart trains it again"
            ) from None
        return digest.hexdigest()

    def begin(self, config: Config, data_digest: str, say: Callable[[str], None] = print) -> bool:
        """Begins or resumes the stage: checks what it depends on and writes metadata.json.

        Args:
            config: the resolved options.
            data_digest: the data set's hash.
            say: prints a line for the user.

        Returns:
            False if the stage has finished and there is nothing to do.

        Raises:
            UserError: a stage that this one needs has not finished, or the options, the data or
                an earlier stage have changed since this stage made progress.
        """
        self.run.check_order((self.name,))
        old = self.read_metadata()
        inputs: dict[str, Any] = {
            "data": data_digest,
            "parents": {name: self.run.stage(name).artifact_hash() for name in NEEDS[self.name]},
        }
        custom = self.run.custom_attributes_hash() if self.name == "export" else None
        if custom:
            inputs[CUSTOM] = custom
        if INIT_FROM in old and self.has_progress():
            inputs[INIT_FROM] = old[INIT_FROM]
        if old and self.has_progress():
            self._refuse_changes(self.changed_options(config) + _changed_inputs(old, inputs))
        if old.get("ended"):
            say(f"{self.name}: finished at {old['ended']}; nothing to do (--restart starts over)")
            return False
        if self.run.writes:
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
                    "options": config_module.stage_options(config, self.name),
                }
                | inputs,
            )
        return True

    def record(self, **facts: Any) -> None:
        """Adds facts to metadata.json; of these, `begin` keeps `INIT_FROM` when it resumes."""
        write_json(self.path / "metadata.json", self.read_metadata() | facts)

    def finish(self, **facts: Any) -> None:
        """Marks the stage as finished; `facts` are added to metadata.json."""
        self.record(**facts, ended=now())

    def changed_options(self, config: Config) -> list[str]:
        """The options that changed since the stage made progress, as "--flag=new (was old)"."""
        metadata = self.read_metadata()
        if metadata.get("options") is None or not self.has_progress():
            return []
        old = recorded_options(self.name, metadata)
        return [
            f"--{flag}={presets.text(value)} (was {presets.text(old[flag])})"
            for flag, value in config_module.stage_options(config, self.name).items()
            if value != old[flag]
        ]

    def check_options(self, config: Config) -> None:
        """Raises a UserError if an option changed since the stage made progress."""
        self._refuse_changes(self.changed_options(config))

    def _refuse_changes(self, changed: list[str]) -> None:
        if changed:
            raise UserError(
                f"the {self.name} stage in {self.run.path} began with other options: "
                f"{', '.join(changed)}; use the old ones or another --run_dir, or give "
                f"--stage={self.name} --restart, which moves the old stage aside"
            )


def recorded_options(stage: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """The options in a stage's metadata; one that its version did not have was its default."""
    return config_module.stage_options(Config(), stage) | metadata.get("options", {})


def _changed_inputs(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The inputs of a stage, other than options, that are not those of its metadata.json."""
    changed = []
    if new["data"] != old["data"]:
        changed.append("--data_dir (its photos or labels have changed)")
    changed += [
        f"the {name} stage (trained again since)"
        for name, digest in new["parents"].items()
        if digest != old["parents"].get(name)
    ]
    if new.get(CUSTOM) != old.get(CUSTOM):
        changed.append("the custom attributes (changed since)")
    return changed


class RunFolder:
    """The folder of one run. Only one process at a time may work in it, see `lock`.

    Args:
        path: the folder.
        flag: the flag that names it, for error messages.

    Attributes:
        path: the folder.
        writes: whether this process writes; False in a worker that is not the chief.
    """

    def __init__(self, path: str | Path, flag: str = "--run_dir") -> None:
        self.path = expand(path, flag)
        self.flag = flag
        self.writes = True

    def stage(self, name: str) -> StageFolder:
        """The sub-folder of a stage, whether it exists or not."""
        return StageFolder(self, name)

    def lock(self) -> None:
        """Locks the folder until this process ends; creates it if necessary.

        Deletes the temporary files of a process that was killed.

        Raises:
            UserError: another process has the lock, or the folder cannot be created.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open_locked(self.path / ".lock")  # open until the process ends
        except BlockingIOError:
            raise UserError(
                f"--run_dir={self.path}: another process is working in it; wait for it, or use "
                "another folder"
            ) from None
        except OSError as error:
            if disk_full(error):
                raise
            raise self._unusable(error) from None
        weakref.finalize(self, file.close)
        remove_leftovers(self.path)

    # config.json

    def read(self) -> dict[str, Any]:
        """The content of config.json, see `save_config`; an empty dict if there is none.

        Raises:
            UserError: the file is damaged, of another format, or of a version with other options.
        """
        path = self.path / "config.json"
        damaged = UserError(f"{path} is damaged; restore it, or use another {self.flag}")
        try:
            content = json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise self._unusable(error) from None
        except ValueError:
            raise damaged from None
        if not isinstance(content, dict):
            raise damaged
        if content.get("format") != FORMAT:
            raise UserError(
                f"{self.flag}={self.path}: a run folder of format {content.get('format')}, but "
                f"this version reads format {FORMAT}; use another {self.flag}, or the version that "
                f"made it ({content.get('version', 'unknown')})"
            )
        parts = [content.get(key) for key in ("options", "requested", "substitutions")]
        if not all(isinstance(part, dict) for part in (*parts, content.get(CUSTOM, {}))):
            raise damaged
        for option in _unknown_options(content["options"]):
            raise UserError(
                f"{path}: this version has no option {option}; use another {self.flag}, or the "
                f"version that made the run ({content.get('version', 'unknown')})"
            )
        try:
            rules.check(config_module.from_dict(content["options"]))
        except TypeError:
            raise damaged from None
        return content

    def load_config(self) -> Config:
        """The resolved options of the run.

        Raises:
            UserError: there is no config.json, or see `read`.
        """
        content = self.read()
        if not content:
            raise UserError(
                f"{self.path}: no run folder (config.json is missing); give one that "
                "train_main.py has made"
            )
        return config_module.from_dict(content["options"])

    def save_config(
        self, config: Config, data: dict[str, Any], requested: dict[str, Any] | None = None
    ) -> None:
        """Writes config.json; keeps its substitutions and custom attributes.

        Args:
            config: the resolved options.
            data: the data set's name, size and hash.
            requested: the options given by flags, now or earlier; None keeps the recorded ones.
        """
        old = self.read()
        custom = old.get(CUSTOM, {})
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
            | ({CUSTOM: custom} if custom else {}),
        )

    def record_substitution(self, name: str, text: str, say: Callable[[str], None] = print) -> None:
        """Prints and records that something else was used than what was requested.

        Args:
            name: what was substituted, e.g. an option; a later record of it replaces this one.
            text: one line for the user.
            say: prints a line for the user.
        """
        if not self.writes:
            return
        say(f"note: {text}")
        content = self.read()
        content["substitutions"][name] = text
        write_json(self.path / "config.json", content)

    def clear_substitutions(self, prefix: str) -> None:
        """Removes the records whose name starts with `prefix`."""
        if not self.writes:
            return
        content = self.read()
        old = content["substitutions"]
        kept = {name: text for name, text in old.items() if not name.startswith(prefix)}
        if kept != old:
            write_json(self.path / "config.json", content | {"substitutions": kept})

    # Checks before the first stage.

    def check_order(self, stages: Sequence[str]) -> None:
        """Raises a UserError if a stage needs one that neither precedes it nor has finished."""
        for index, name in enumerate(stages):
            for parent in NEEDS[name]:
                if parent not in stages[:index] and not self.stage(parent).finished():
                    raise UserError(
                        f"--stage={name}: needs the {parent} stage first; run "
                        f"python train_main.py --stage={parent} --run_dir={self.path}"
                    )

    def check_options(self, config: Config, restarted: Sequence[str] = ()) -> None:
        """Raises a UserError if an option changed that a stage with progress depends on.

        Args:
            config: the resolved options.
            restarted: stages that start over, and may change theirs.
        """
        for name in config_module.STAGES:
            if name not in restarted:
                self.stage(name).check_options(config)

    def restart(self, name: str, say: Callable[[str], None] = print) -> None:
        """Moves a stage's folder aside, if there is one."""
        self._move_aside(name, self.stage(name).path, say)

    # Custom attributes.

    def custom_attributes(self) -> dict[str, Any]:
        """The facts about the attributes that `cgan attribute` added, by name."""
        return self.read().get(CUSTOM, {})

    def custom_path(self, name: str) -> Path:
        """The file of a custom attribute: its regressor head and its direction."""
        return self.path / CUSTOM / f"{name}.json"

    def custom_attributes_hash(self) -> str | None:
        """SHA-256 of the names and files of the custom attributes; None if there are none.

        Raises:
            UserError: a file is missing.
        """
        digest = hashlib.sha256()
        names = self.custom_attributes()
        for name in names:
            path = self.custom_path(name)
            try:
                digest.update(f"{name} {file_hash(path)}\n".encode())
            except FileNotFoundError:
                raise UserError(
                    f"{path} is missing; `cgan attribute --restart` adds it again"
                ) from None
        return digest.hexdigest() if names else None

    def record_custom_attributes(self, facts: dict[str, Any] | None) -> None:
        """Adds custom attributes to config.json; None removes all of them."""
        content = self.read()
        old = content.pop(CUSTOM, {})
        if facts is not None:
            content[CUSTOM] = old | facts
        write_json(self.path / "config.json", content)

    def restart_custom_attributes(self, say: Callable[[str], None] = print) -> None:
        """Moves the custom attributes aside, if there are any."""
        names = self.custom_attributes()
        for name in names:
            self.clear_substitutions(f"calibration of {name}")
        if names:
            self.record_custom_attributes(None)
        self._move_aside(CUSTOM, self.path / CUSTOM, say)

    def _move_aside(self, name: str, path: Path, say: Callable[[str], None]) -> None:
        if path.exists():
            say(f"{name}: the old folder is now {move_aside(path)}")

    def _unusable(self, error: OSError) -> UserError:
        return UserError(f"{self.flag}={self.path}: {error.strerror}; use another folder")


def _unknown_options(options: Mapping[str, Any]) -> list[str]:
    """The flags in stored options that this version does not have."""
    names = []
    for name, value in options.items():
        if name not in SECTIONS:
            names.append(name)
        elif isinstance(value, dict):
            names += [f"{name}_{key}" for key in value]
    return [name for name in names if name not in OPTIONS]
