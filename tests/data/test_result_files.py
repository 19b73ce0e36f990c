"""The names of files that are made of photos."""

import random
import time
import unicodedata
from pathlib import Path

import pytest

from cgan_tf.data.result_files import finally_written, further_target, path_key, unique_names

ALL = (".jpg", ".png", ".webp")


@pytest.mark.parametrize(
    "photos, outputs",
    [
        (["a.jpg", "b.gif", "c.PNG"], ["a.jpg", "b.png", "c.PNG"]),
        (["a.jpg", "a.gif"], ["a.jpg", "a.png"]),
        (["a.gif", "a.png"], ["a.gif.png", "a.png"]),
        (["a.bmp", "a.gif", "a.jpg"], ["a.bmp.png", "a.gif.png", "a.jpg"]),
        (["a.gif", "a.gif.png", "a.png"], ["a.gif.2.png", "a.gif.png", "a.png"]),
        (["A.gif", "a.png", "b.PNG"], ["A.gif.png", "a.png", "b.PNG"]),
        (["A.JPG", "a.jpg"], ["A.JPG", "a.2.jpg"]),
        (["A.GIF", "a.gif"], ["A.GIF.png", "a.gif.2.png"]),
        (["A.jpg", "a.2.jpg", "a.JPG", "a.jpg"], ["A.jpg", "a.2.jpg", "a.3.JPG", "a.4.jpg"]),
    ],
)
def test_every_photo_has_an_output_of_its_own(photos, outputs):
    assert unique_names(photos, ALL) == outputs
    assert len({name.casefold() for name in outputs}) == len(outputs)


def test_faces_alone_are_png():
    names = unique_names(["a.jpg", "a.png", "b.jpg", "b.webp", "c.jpg"], (".png",))
    assert names == ["a.jpg.png", "a.png", "b.jpg.png", "b.webp.png", "c.png"]


def test_normal_forms_of_unicode_are_one_name():
    names = unique_names([unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")], ALL)
    assert len({unicodedata.normalize("NFC", name) for name in names}) == 2


def test_names_do_not_depend_on_the_order_of_the_photos():
    photos = ["a.gif", "a.gif.png", "a.png", "b.bmp", "b.gif", "c.gif"]
    names = dict(zip(photos, unique_names(photos, ALL), strict=True))
    random.Random(1).shuffle(photos)
    assert dict(zip(photos, unique_names(photos, ALL), strict=True)) == names


def test_any_names_are_unique():
    draw = random.Random(2)
    for _ in range(2000):
        photos = {
            "".join(draw.choices(["a", "A", ".jpg", ".JPG", ".gif", ".2"], k=draw.randint(1, 4)))
            for _ in range(8)
        }
        photos = sorted(photo + draw.choice([".jpg", ".gif", ".png"]) for photo in photos)
        outputs = unique_names(photos, ALL)
        assert len({name.casefold() for name in outputs}) == len(photos), photos


def test_many_photos_take_no_time():
    distinct = [f"{index:05d}.jpg" for index in range(20_000)]
    pairs = [f"{index // 2:05d}.{('gif', 'png')[index % 2]}" for index in range(20_000)]
    letters = "abcdefghijklmno"
    cases = [
        "".join(c.upper() if index >> bit & 1 else c for bit, c in enumerate(letters)) + ".jpg"
        for index in range(20_000)
    ]
    start = time.process_time()
    for photos in (distinct, pairs, cases):
        assert len({name.casefold() for name in unique_names(photos, ALL)}) == 20_000
    assert time.process_time() - start < 3


def test_further_results_of_a_photo_have_names_of_their_own():
    taken = {path_key(Path(name)) for name in ("s/a.png", "s/b.png", "s/B.2.PNG")}
    names = [further_target(Path("s/a.png"), number, taken).as_posix() for number in (2, 3)]
    assert names == ["s/a.2.png", "s/a.3.png"]
    names = [further_target(Path("s/b.png"), number, taken).as_posix() for number in (2, 3)]
    assert names == ["s/b.3.png", "s/b.4.png"]


def test_a_table_is_written_after_an_error_too():
    written = []

    def fail():
        written.append(2)
        raise OSError

    with finally_written(lambda: written.append(1)):
        pass
    with pytest.raises(KeyboardInterrupt), finally_written(fail):
        raise KeyboardInterrupt
    assert written == [1, 2]
    with pytest.raises(OSError), finally_written(fail):
        pass
