"""The PNG files of a run folder, as the page embeds them."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file's content, and its width and height in pixels."""

    content: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The content as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.content).decode("ascii")


def read(path: Path) -> Picture:
    """Reads and decodes a PNG file.

    Raises:
        OSError, SyntaxError: it is missing, or damaged (Pillow raises either).
    """
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return Picture(content, image.width, image.height)


def crop(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """The part of a picture inside (left, top, right, bottom)."""
    with Image.open(io.BytesIO(picture.content)) as image:
        part = image.crop((*box[:2], min(box[2], image.width), min(box[3], image.height)))
    return _encoded([part], {})


def animated(pictures: Sequence[Picture], side: int, seconds: float) -> Picture:
    """An endless animation (APNG) of the upper left squares of pictures.

    Args:
        pictures: the frames in order; the last one is shown three times as long.
        side: of the squares, px.
        seconds: how long each of the other frames is shown.
    """
    # 128 colors take a third of the bytes, without a visible loss in motion.
    parts = (crop(picture, (0, 0, side, side)).content for picture in pictures)
    frames = [Image.open(io.BytesIO(part)).convert("RGB").quantize(128) for part in parts]
    durations = [1000 * seconds] * (len(frames) - 1) + [3000 * seconds]
    return _encoded(frames, {"save_all": True, "append_images": frames[1:],
                             "duration": durations, "loop": 0})  # fmt: skip


def _encoded(frames: Sequence[Image.Image], options: dict[str, Any]) -> Picture:
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", **options)
    return Picture(buffer.getvalue(), frames[0].width, frames[0].height)


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, including the first and the last; more from the start.

    Training changes most at the start, so the gaps grow quadratically.
    """
    if len(items) <= count:
        return list(items)
    places = [round((index / (count - 1)) ** 2 * (len(items) - 1)) for index in range(count)]
    for index in range(1, count):
        places[index] = max(places[index], places[index - 1] + 1)
    return [items[min(place, len(items) - 1)] for place in places]
