"""Hot reload, as in TensorFlow Serving: a new version in the folder replaces the served one.

The folder is polled. Its highest version is loaded while the old one serves, warmed up, and takes
over; requests in flight finish on the old one. Adding a higher version is a release, and removing
it a return to the one before. A version that cannot be loaded is said once, and changes nothing.
"""

import asyncio
import concurrent.futures
import contextlib
import gc
import logging
import weakref
from collections.abc import Callable
from pathlib import Path

from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from cgan_tf.core.errors import UserError
from cgan_tf.core.saved_models import GRAPH_NAME, numbered_versions
from cgan_tf.export.serving import grpc_service
from cgan_tf.export.serving import model as served
from cgan_tf.export.serving.engine import Engine
from cgan_tf.export.serving.model import ServedModel

Content = frozenset[tuple[str, int, int]]  # path, size and time of each file


class Reloader:
    """Looks for new versions, and replaces the served one.

    Args:
        engine: its model is replaced.
        folder: the folder of version folders.
        max_rows: maximum number of rows in one request.
        say: prints a line for the user.
    """

    def __init__(
        self, engine: Engine, folder: Path, max_rows: int, say: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._max_rows = max_rows
        self._say = say
        self._seen: dict[int, Content] = {}  # at the last poll
        self._refused: dict[int, Content] = {}
        self._said: dict[int, str] = {}
        self._old: weakref.ref[ServedModel] | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "versions")

    async def run(self, wait_s: float) -> None:
        """Polls every `wait_s` seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self.poll()
            except Exception:  # what is served must not depend on this
                logging.exception("polling %s failed", self._folder)

    async def poll(self) -> None:
        """Looks once; a version is loaded if it has not changed since the poll before."""
        self._free_old()
        found = await self._in_thread(_contents, self._folder)
        settled = {version for version in found if found[version] == self._seen.get(version)}
        self._seen = found
        for version in {*self._said, *self._engine.others} - set(found):  # removed
            self._said.pop(version, None)
            self._engine.others.pop(version, None)
        for version in sorted(found, reverse=True):
            if version == self._engine.model.version:
                return
            if version not in settled or self._refused.get(version) == found[version]:
                continue
            if await self._load(version):
                return
            self._refused[version] = found[version]

    async def _load(self, version: int) -> bool:
        """Loads a version and serves it; says why if that is impossible."""
        engine, others = self._engine, self._engine.others
        others[version] = grpc_service.version_status(version, ModelVersionStatus.LOADING)
        try:
            model = await self._in_thread(self._loaded, version)
        except Exception as error:  # a damaged version can raise any exception
            others[version] = grpc_service.version_status(
                version, ModelVersionStatus.END, str(error)
            )
            line = (
                f"version {version} is not served: {error}; version {engine.model.version} stays; "
                "replace or remove the folder"
            )
            if self._said.get(version) != line:
                self._say(line)
            self._said[version] = line
            return False
        del others[version]
        self._say(f"serving {model.name} version {version}, instead of {engine.model.version}")
        self._old = weakref.ref(engine.model)
        engine.model = model
        engine.metrics.version(version)
        return True

    def _loaded(self, version: int) -> ServedModel:
        folder = numbered_versions(self._folder).get(version, self._folder / str(version))
        if not (folder / GRAPH_NAME).is_file():
            raise UserError(f"{folder}: incomplete, without {GRAPH_NAME}")
        model = ServedModel(folder, self._engine.model.name, version, self._max_rows)
        served.warm_up(model)
        return model

    def _free_old(self) -> None:
        """Frees the memory of the version before, once its last request is answered.

        TensorFlow's objects refer to each other in circles, and `server.run` has hidden them from
        the garbage collector.
        """
        if self._old is not None and self._old() is None:
            self._old = None
            gc.unfreeze()
            gc.collect()
            gc.freeze()

    async def _in_thread(self, function: Callable, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def close(self) -> None:
        """Ends the thread, after the version that it is loading."""
        self._thread.shutdown(wait=False)


def _contents(folder: Path) -> dict[int, Content]:
    """The files of each version folder; a folder that is being removed is left out."""
    found = {}
    for version, path in numbered_versions(folder).items():
        states = {}
        for file in path.rglob("*"):
            with contextlib.suppress(OSError):  # a file that vanishes meanwhile
                states[str(file)] = file.lstat()
        if path.is_dir():
            found[version] = frozenset(
                (name, state.st_size, state.st_mtime_ns) for name, state in states.items()
            )
    return found
