"""The scripts of the device page, run by Node.js instead of a browser."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from programs import find

from cgan_tf.export import browser, face_rules

_DRIVER = """\
import { readFileSync } from "node:fs";

function bytesOf(text) {
  return new Uint8Array(Buffer.from(text, "base64"));
}
function decoded(key, value) {
  if (value?.floats !== undefined) return new Float32Array(bytesOf(value.floats).buffer);
  if (value?.bytes === undefined) return value;
  const data = new Uint8ClampedArray(bytesOf(value.bytes).buffer);
  return { data, width: value.width, height: value.height };
}
const text = (values) => Buffer.from(values.buffer).toString("base64");
const given = JSON.parse(readFileSync(0), decoded);
const result = await (async (given) => {
"""
_END = """
})(given);
console.log(JSON.stringify(result));
"""


def make_scripts(folder: Path) -> Path:
    """Copies the scripts into an empty folder, with the rules, as Node.js reads them."""
    for script in browser.SOURCES.glob("*.js"):
        shutil.copy(script, folder)
    (folder / face_rules.RULES).write_text(face_rules.rules())
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def run(scripts: Path, body: str, **given: Any) -> Any:
    """What the body of an async function returns, as JSON.

    Args:
        scripts: folder of `make_scripts`.
        body: it can `await import("./NAME.js")`, and return bytes as `text(array)` in base64.
        given: the properties of its argument `given`. uint8 `[H, W, 3]` becomes {data, width,
            height} with 4 bytes per pixel, uint8 `[H, W]` with one; float32 a Float32Array.
    """
    driver = scripts / "driver.js"
    driver.write_text(_DRIVER + body + _END)
    done = subprocess.run(
        [find("node"), str(driver)],
        input=json.dumps(given, default=_encoded),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _encoded(array: np.ndarray) -> dict[str, Any]:
    if array.dtype == np.float32:
        return {"floats": base64.b64encode(array.tobytes()).decode()}
    height, width = array.shape[:2]
    if array.ndim == 3:
        array = np.dstack([array, np.full((height, width), 255, np.uint8)])
    data = base64.b64encode(array.tobytes()).decode()
    return {"bytes": data, "width": width, "height": height}
