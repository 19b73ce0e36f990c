"""LiteRT.js, the runtime of the device page, which this package contains as one archive.

The archive is made from npm packages that `page/package-lock.json` pins by content. After a change
of their versions, this writes it again and prints the `CONTENT_HASH` to enter here (needs npm):

    python -m cgan_tf.export.litert

It has the two builds without threads, which would need special HTTP headers: one for browsers with
relaxed SIMD, one for the others; the library chooses. They are so similar that both compress to
little more than one.
"""

import hashlib
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

from cgan_tf.core.errors import UserError
from cgan_tf.core.files import write_bytes

PAGE = Path(__file__).parent / "page"
ARCHIVE = PAGE / "litert" / "runtime.tar.xz"
# SHA-256 of the tar file in it: another version of xz may compress it to other bytes.
CONTENT_HASH = "61479b8a75bfe73fda1fe0e94f5ea01b7dce4c2a71920f94175cad1e250e5642"

_CORE, _UTILS = "@litertjs/core", "@litertjs/wasm-utils"
_SOURCES = {  # by file name; paths in node_modules
    "index.js": f"{_CORE}/dist/index.js",
    "wasm-utils.js": f"{_UTILS}/dist/index.js",
    **{
        name: f"{_CORE}/wasm/{name}"
        for build in ("", "_compat")
        for name in (f"litert_wasm{build}_internal.js", f"litert_wasm{build}_internal.wasm")
    },
}
# A browser cannot resolve package names, nor a worker import maps: the import becomes a path.
_IMPORT, _LOCAL_IMPORT = f'from "{_UTILS}"', 'from "./wasm-utils.js"'
_NOTICE = """\
LiteRT.js: the npm packages @litertjs/core and @litertjs/wasm-utils, under the Apache License 2.0
(LICENSE.txt). One line of index.js is changed: it imports ./wasm-utils.js by its path.
"""
_DICTIONARY = 2**25  # bytes; holds both builds


def files() -> dict[str, bytes]:
    """The runtime's files by name.

    Raises:
        UserError: the archive is missing or damaged, or this Python cannot unpack it.
    """
    try:
        import lzma  # not in every Python that its user has compiled
    except ImportError:
        raise UserError(
            "the device page needs Python's module lzma, which this Python was built without; use "
            "another Python"
        ) from None
    try:
        content = lzma.decompress(ARCHIVE.read_bytes())
    except (OSError, lzma.LZMAError):
        content = b""
    if hashlib.sha256(content).hexdigest() != CONTENT_HASH:
        raise UserError(f"{ARCHIVE}: missing or damaged; install cgan_tf again")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}


def install(folder: Path) -> Path:
    """Installs the packages of the lock file with npm; returns node_modules.

    Args:
        folder: where to install; receives copies of package.json and the lock file.
    """
    for name in ("package.json", "package-lock.json"):
        write_bytes(folder / name, (PAGE / name).read_bytes())
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    subprocess.run([*command, "--loglevel=error"], cwd=folder, check=True)
    return folder / "node_modules"


def pack(packages: Path) -> bytes:
    """The tar file of the runtime, equal for equal packages.

    Args:
        packages: node_modules.
    """
    content = {name: (packages / source).read_bytes() for name, source in _SOURCES.items()}
    index = content["index.js"].decode()
    if index.count(_IMPORT) != 1:
        raise ValueError(f"index.js imports {_UTILS} {index.count(_IMPORT)} times")
    content["index.js"] = index.replace(_IMPORT, _LOCAL_IMPORT).encode()
    content["NOTICE.txt"] = _NOTICE.encode()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(content):
            entry = tarfile.TarInfo(name)  # time and owner are 0
            entry.size = len(content[name])
            archive.addfile(entry, io.BytesIO(content[name]))
    return file.getvalue()


def main() -> None:
    """Writes the archive."""
    import lzma

    with tempfile.TemporaryDirectory() as folder:
        content = pack(install(Path(folder)))
    strongest = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}
    filters = [strongest | {"dict_size": _DICTIONARY}]
    write_bytes(ARCHIVE, lzma.compress(content, filters=filters))
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size / 1e6:.2f} MB")
    print(f'CONTENT_HASH = "{hashlib.sha256(content).hexdigest()}"')


if __name__ == "__main__":
    main()
