"""The device page in a headless Chromium: milliseconds per slider move, and the effect of edits.

    python -m benchmarks.browser --export=runs/faces/export --moves=100 --output=browser.json

A move is timed in the page, from the slider's event to the drawn image, which includes the messages
to and from the worker, the model and the drawing. With --run_dir, each attribute's slider is then
set to 0 and +1 on --photos validation photos that lack it, and that run's judge scores the images
that the page downloads. Needs Chromium and the extra `test` for playwright.
"""

import functools
import http.server
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from cgan_tf.core import cli, quiet
from cgan_tf.core.errors import UserError
from cgan_tf.core.files import expand, write_json

if TYPE_CHECKING:
    from playwright.sync_api import Page

WARM_UP = 5  # moves before the timed ones


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("export", None, "Folder that contains page/; default: RUN_DIR/export.")
    flags.DEFINE_string(
        "run_dir", None, "Run whose judge scores the edits; without it only times are measured."
    )
    flags.DEFINE_integer("moves", 100, "Number of timed slider moves.", lower_bound=1)
    flags.DEFINE_integer("photos", 20, "Photos per attribute.", lower_bound=1)
    flags.DEFINE_string("output", "runs/browser.json", "JSON file of the figures.")


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def open_page(folder: Path) -> Iterator["Page"]:
    """The page in `folder`, served on this machine and loaded in a headless Chromium.

    Raises:
        UserError: there is no page or no Chromium, or the page shows an error.
    """
    from playwright.sync_api import sync_playwright

    if not (folder / "index.html").exists():
        raise UserError(f"--export: no page in {folder}; run cgan export --formats=page")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise UserError("this benchmark needs chromium, which is not installed; install it")
    handler = functools.partial(_Silent, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_selector("#file:enabled, #status.error")
            page.evaluate("editor.ready.then(() => {}, () => {})")
            if page.query_selector("#status.error"):
                raise UserError(f"{folder}: {page.inner_text('#status')}")
            yield page
            browser.close()
    finally:
        server.shutdown()
        server.server_close()


def upload(page: "Page", path: Path) -> None:
    """Uploads a photo to the page, and waits until it is drawn, without the photo's own detail."""
    page.set_input_files("#file", path)
    page.evaluate("editor.idle()")
    page.uncheck("#detail")
    page.evaluate("editor.idle()")


def time_page(folder: Path, moves: int) -> list[float]:
    """Milliseconds of each slider move in a page, including the worker and the drawing.

    Args:
        folder: the page, as `export.browser.write` writes it.
        moves: number of timed moves of the first attribute, each to a different strength.
    """
    from PIL import Image

    with tempfile.TemporaryDirectory() as temporary, open_page(folder) as page:
        photo = Path(temporary) / "photo.png"
        noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
        Image.fromarray(noise).save(photo)
        upload(page, photo)
        return page.evaluate(
            """async ([moves, warmUp]) => {
                const [name] = (await editor.ready).attributes;
                const times = [];
                for (let k = 0; k < moves + warmUp; k++) {
                    times.push(await editor.move(name, ((k % 40) + 1) / 20));
                }
                return times.slice(warmUp);
            }""",
            [moves, WARM_UP],
        )


def judged_edits(folder: Path, run_dir: str, count: int) -> dict[str, dict[str, float]]:
    """The judge's mean score of each attribute in the downloaded images, at 0 and at +1.

    Args:
        folder: the page.
        run_dir: run with a judge.
        count: maximum number of validation photos that lack the attribute.
    """
    from cgan_tf import data
    from cgan_tf.core import artifact
    from cgan_tf.core.run_folder import RunFolder
    from cgan_tf.data import images
    from cgan_tf.networks.judge import Judge
    from cgan_tf.stages import judge

    run = RunFolder(run_dir)
    dataset = data.open_data(run.load_config(), say=lambda _: None)
    scorer = artifact.load_model(Judge, run.stage("evaluate").path / judge.FOLDER)
    scores = {}
    with tempfile.TemporaryDirectory() as temporary, open_page(folder) as page:
        names = page.evaluate("editor.ready.then(({ attributes }) => attributes)")
        for name in (name for name in names if name in dataset.attribute_names):
            column = dataset.attribute_names.index(name)
            rows = dataset.splits["validation"]
            rows = rows[dataset.labels[rows, column] == 0][:count]
            shown: dict[float, list[np.ndarray]] = {0.0: [], 1.0: []}
            for pixels in dataset.read(rows):
                photo = Path(temporary) / "photo.png"
                images.save_png(photo, pixels)
                upload(page, photo)
                page.click("#reset")
                for strength, downloads in shown.items():
                    page.evaluate("([n, s]) => editor.move(n, s)", [name, strength])
                    with page.expect_download() as download:
                        page.click("#download")
                    downloads.append(images.decode_file(download.value.path()))
            means = [
                float(np.mean(scorer(images.to_float(np.stack(shown[s])))[:, column]))
                for s in (0.0, 1.0)
            ]
            scores[name] = {"before": means[0], "after": means[1], "n": len(rows)}
    return scores


def main() -> int:
    """Runs the command; exit code 1 if an edit does not raise the judge's score."""
    options = flags.FLAGS
    if options.export is None and options.run_dir is None:
        cli.require("export")
    export = (
        expand(options.export, "--export")
        if options.export
        else expand(options.run_dir, "--run_dir") / "export"
    )
    times = time_page(export / "page", options.moves)
    figures = {
        "moves": len(times),
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.percentile(times, 95)),
    }
    print(
        f"{len(times)} slider moves: median {figures['median_ms']:.1f} ms, "
        f"p95 {figures['p95_ms']:.1f} ms"
    )
    failed = []
    if options.run_dir is not None:
        quiet.import_tensorflow()
        figures["judged"] = judged_edits(export / "page", options.run_dir, options.photos)
        print(f"{'attribute':24} {'judge at 0':>10} {'at +1':>7} {'n':>4}")
        for name, entry in figures["judged"].items():
            print(f"{name:24} {entry['before']:10.3f} {entry['after']:7.3f} {entry['n']:4}")
        failed = [n for n, entry in figures["judged"].items() if entry["after"] <= entry["before"]]
        if failed:
            print(f"not raised: {', '.join(failed)}")
    write_json(Path(options.output), figures)
    print(f"written: {options.output}")
    return int(bool(failed))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
