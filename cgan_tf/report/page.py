"""Writes report.html: images and measurements of a run in one self-contained file.

Every stage writes the page again when it ends. Each part shows what the run folder contains, and
names the command for what is missing. The text is in `templates`, what it shows comes from `Run`.
"""

from functools import cache
from pathlib import Path

import jinja2

from cgan_tf.core.config import OPTIONS
from cgan_tf.core.files import write_text
from cgan_tf.core.run_folder import RunFolder, now
from cgan_tf.core.version import __version__
from cgan_tf.report import format, images, plots, series
from cgan_tf.report.sections import Run


def write(folder: RunFolder) -> Path:
    """Replaces RUN_DIR/report.html atomically and returns its path.

    Raises:
        UserError: config.json or a metadata.json is damaged or of another version.
    """
    path = folder.path / "report.html"
    write_text(path, render(folder))
    return path


def render(folder: RunFolder) -> str:
    """The page as HTML; see `write`."""
    page = _environment().get_template("page.html")
    text = page.render(run=Run(folder), version=__version__, now=now())
    return text.encode("utf-8", "replace").decode()  # a file name may contain lone surrogates


@cache
def _environment() -> jinja2.Environment:
    """Escapes everything but the SVG of `plots`; a missing value is undefined, not an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        extensions=["jinja2.ext.do"],
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {filter_.__name__: filter_ for filter_ in format.FILTERS}
    environment.tests["finite"] = format.finite
    environment.globals |= {
        "curves": plots.curves,
        "images": images,
        "option": OPTIONS.get,
        "series": series,
    }
    return environment
