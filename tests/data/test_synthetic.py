"""Synthetic faces: factors, counterfactuals, pixels, and rendering in several processes."""

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cgan_tf.core.errors import UserError
from cgan_tf.data import images, synthetic
from cgan_tf.data.synthetic import workers
from cgan_tf.data.synthetic.scene import Scene

ATTRIBUTES = (
    "Smiling",
    "Blond_Hair",
    "Black_Hair",
    "Eyeglasses",
    "Wearing_Hat",
    "Mouth_Slightly_Open",
    "Pale_Skin",
    "Bushy_Eyebrows",
    "Wearing_Lipstick",
    "Bangs",
)
RATES = (0.50, 0.35, 0.35, 0.40, 0.35, 0.45, 0.40, 0.40, 0.40, 0.40)


def faces(count: int, seed: int = 5) -> list[synthetic.Face]:
    return [synthetic.sample_face(seed, index) for index in range(count)]


def difference(face: synthetic.Face, attribute: str) -> np.ndarray:
    """[64, 64]: largest change of a channel, in levels, between the attribute off and on."""
    off, on = (
        synthetic.render(synthetic.counterfactual(face, attribute, value), 64).astype(int)
        for value in (False, True)
    )
    return np.abs(on - off).max(-1)


# ---- factors -----------------------------------------------------------------------------------


def test_names_and_order_of_the_attributes():
    assert synthetic.ATTRIBUTES == ATTRIBUTES


def test_face_is_a_pure_function_of_seed_and_index():
    assert synthetic.sample_face(3, 7) == synthetic.sample_face(3, 7)
    assert synthetic.sample_face(3, 7) != synthetic.sample_face(3, 8)
    assert synthetic.sample_face(3, 7) != synthetic.sample_face(7, 3)
    # Pinned: the labels must never change.
    assert synthetic.labels(synthetic.sample_face(0, 0)).tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert synthetic.labels(synthetic.sample_face(0, 1)).tolist() == [0, 1, 0, 0, 1, 1, 0, 1, 0, 0]


def test_factors_are_in_their_documented_ranges():
    sample = faces(300)
    floats = [f.name for f in dataclasses.fields(synthetic.Face) if f.type in (float, "float")]
    values = np.array([[getattr(face, name) for name in floats] for face in sample])
    assert values.min() >= -1 and values.max() <= 1
    signed = [name for name, low in zip(floats, values.min(0), strict=True) if low < 0]
    assert signed == [
        "yaw",
        "pitch",
        "roll",
        "shift_x",
        "shift_y",
        "light_x",
        "light_y",
        "eye_tilt",
        "gaze_x",
        "gaze_y",
        "hair_part",
        "bangs_sweep",
    ]
    for name in ("smiling", "bangs", "black_hair"):
        assert {type(getattr(face, name)) for face in sample} == {bool}
    assert {face.hair_other for face in sample} == {"brown", "red", "gray"}


def test_labels_are_floats_with_the_stated_rates_and_independent():
    labels = np.stack([synthetic.labels(face) for face in faces(4000)])
    assert labels.dtype == np.float32 and labels.shape == (4000, len(ATTRIBUTES))
    np.testing.assert_allclose(labels.mean(0), RATES, atol=0.03)
    blond, black = ATTRIBUTES.index("Blond_Hair"), ATTRIBUTES.index("Black_Hair")
    assert not np.any(labels[:, blond] * labels[:, black])
    correlation = np.corrcoef(labels.T)
    expected = np.eye(len(ATTRIBUTES))
    expected[blond, black] = expected[black, blond] = -0.35 / 0.65  # mutually exclusive
    np.testing.assert_allclose(correlation, expected, atol=0.065)


# ---- counterfactuals ---------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("value", [False, True])
def test_a_counterfactual_changes_only_its_label(attribute, value):
    excluded = {"Blond_Hair": "Black_Hair", "Black_Hair": "Blond_Hair"}.get(attribute)
    for face in faces(30):
        edited = synthetic.counterfactual(face, attribute, value)
        expected = dict(zip(ATTRIBUTES, synthetic.labels(face), strict=True)) | {attribute: value}
        if excluded and value:
            expected[excluded] = False
        assert synthetic.labels(edited).tolist() == [float(expected[name]) for name in ATTRIBUTES]
        names = {name.lower() for name in (attribute, excluded) if name}
        for field in dataclasses.fields(face):
            if field.name not in names:
                assert getattr(edited, field.name) == getattr(face, field.name)
        if getattr(face, attribute.lower()) == value:
            assert edited == face
        else:
            assert edited != face


def test_below_blond_or_black_hair_is_brown():
    named = [face for face in faces(200) if face.black_hair or face.blond_hair]
    assert len(named) > 100
    assert {face.hair_other for face in named} == {"brown"}
    face = next(face for face in named if face.black_hair)
    plain = synthetic.counterfactual(face, "Black_Hair", False)
    assert not plain.black_hair and not plain.blond_hair


def test_the_error_on_an_unknown_attribute_lists_the_known_ones():
    with pytest.raises(UserError) as error:
        synthetic.counterfactual(synthetic.sample_face(0, 0), "Smilling", True)
    message = str(error.value)
    assert "'Smilling'" in message and "\n" not in message
    assert all(name in message for name in ATTRIBUTES)


# ---- pixels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [16, 33, 64, 512])
def test_render_shape_and_dtype(resolution):
    image = synthetic.render(synthetic.sample_face(0, 1), resolution)
    assert image.shape == (resolution, resolution, 3) and image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.std() > 20  # not a uniform image


@pytest.mark.parametrize("resolution", [15, 513, 0, -64])
def test_render_refuses_other_resolutions(resolution):
    face = synthetic.sample_face(0, 0)
    for call in (
        lambda: synthetic.render(face, resolution),
        lambda: synthetic.render_many([face], resolution),
    ):
        with pytest.raises(UserError, match=f"--resolution={resolution}.*16 to 512"):
            call()


def test_rendering_is_deterministic():
    face = synthetic.sample_face(4, 2)
    image = synthetic.render(face, 48)
    synthetic.render(synthetic.sample_face(4, 3), 64)  # no state between faces
    assert np.array_equal(synthetic.render(face, 48), image)
    assert not np.array_equal(synthetic.render(synthetic.sample_face(4, 3), 48), image)


def test_the_eyes_are_where_they_are_in_aligned_photos():
    scenes = [Scene(synthetic.sample_face(4, index), 64) for index in range(200)]
    between = np.array([scene.on_face(0.0, 0.01) for scene in scenes]) / 64
    assert np.abs(between.real - 0.5).max() <= 0.0151  # whatever the pose
    assert np.abs(between.imag - 0.549).max() <= 0.0121
    assert between.real.std() > 0.003 and between.imag.std() > 0.002
    middles = np.array([scene.head(0.0, 0.01, 0.0) for scene in scenes]) / 64
    assert (middles - between).real.std() > 0.015  # the head turns behind them


def test_all_resolutions_show_the_same_face():
    for face in faces(8):
        large = synthetic.render(face, 128).reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(large - synthetic.render(face, 64)).mean() < 4  # of 255 levels


# Where an attribute may change the image, in fractions of its side: top, bottom, left, right.
REGIONS = {
    "Smiling": (0.35, 0.98, 0.12, 0.88),
    "Blond_Hair": (0.00, 1.00, 0.02, 0.98),
    "Black_Hair": (0.00, 1.00, 0.02, 0.98),
    "Eyeglasses": (0.33, 0.75, 0.12, 0.88),
    "Wearing_Hat": (0.00, 0.70, 0.00, 1.00),
    "Mouth_Slightly_Open": (0.58, 0.98, 0.25, 0.75),
    "Pale_Skin": (0.18, 1.00, 0.08, 0.92),
    "Bushy_Eyebrows": (0.28, 0.58, 0.14, 0.86),
    "Wearing_Lipstick": (0.58, 0.92, 0.25, 0.75),
    "Bangs": (0.16, 0.60, 0.12, 0.88),
}
# Number of pixels of 64 x 64 that must change by more than 16 levels: enough for a network to see.
AREAS = {
    "Smiling": 40,
    "Blond_Hair": 50,
    "Black_Hair": 50,
    "Eyeglasses": 80,
    "Wearing_Hat": 250,
    "Mouth_Slightly_Open": 40,
    "Pale_Skin": 500,
    "Bushy_Eyebrows": 35,
    "Wearing_Lipstick": 30,
    "Bangs": 50,
}


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_an_attribute_visibly_changes_its_region_and_nothing_else(attribute):
    top, bottom, left, right = (round(64 * share) for share in REGIONS[attribute])
    outside = np.ones((64, 64), bool)
    outside[top:bottom, left:right] = False
    for face in faces(15):
        change = difference(face, attribute)
        assert change[outside].max(initial=0) == 0
        assert (change > 16).sum() >= AREAS[attribute]


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_the_background_never_changes(attribute):
    """With short hair there is background next to the neck, and always in the upper corners."""
    short = [dataclasses.replace(face, hair_style="crop") for face in faces(6)]
    for face in short:
        change = difference(face, attribute)
        assert change[40:52, :4].max() == 0 and change[40:52, -4:].max() == 0
        assert change[:4, :4].max() == 0 and change[:4, -4:].max() == 0


@pytest.mark.parametrize("hat", ["beanie", "cap", "brim"])
@pytest.mark.parametrize("hair", ["crop", "quiff", "bob", "long", "wavy", "curly", "bun"])
def test_the_hair_color_is_visible_under_a_hat(hair, hat):
    for face in faces(3):
        covered = dataclasses.replace(
            face, hair_style=hair, hat_style=hat, wearing_hat=True, bangs=False
        )
        blond, black = (
            synthetic.render(synthetic.counterfactual(covered, name, True), 64).astype(int)
            for name in ("Blond_Hair", "Black_Hair")
        )
        assert (np.abs(blond - black).max(-1) > 60).sum() >= 40


# ---- many faces --------------------------------------------------------------------------------


def test_render_many_does_not_depend_on_the_number_of_processes():
    some = faces(150)  # more than two chunks, and the last one is short
    expected = np.stack([synthetic.render(face, 16) for face in some])
    for processes in (1, 2):
        images = synthetic.render_many(some, 16, processes)
        assert images.dtype == np.uint8
        assert np.array_equal(images, expected)


def test_render_many_with_no_and_with_few_faces():
    assert synthetic.render_many([], 32, 4).shape == (0, 32, 32, 3)
    assert np.array_equal(
        synthetic.render_many(faces(2), 32, 4)[1], synthetic.render(faces(2)[1], 32)
    )


@pytest.fixture
def started(monkeypatch):
    """The processes that the test starts."""
    processes = []
    start = workers._start_worker

    def record():
        processes.append(start())
        return processes[-1]

    monkeypatch.setattr(workers, "_start_worker", record)
    return processes


def test_render_stream_is_lazy_and_ends_its_processes(started):
    endless = (synthetic.sample_face(0, index) for index in itertools.count())
    stream = synthetic.render_stream(endless, 16, 2)
    for index in range(3):
        assert np.array_equal(next(stream), synthetic.render(synthetic.sample_face(0, index), 16))
    stream.close()
    assert [process.returncode for process in started] == [0, 0]


def test_a_process_that_dies_is_an_error(monkeypatch):
    def dead():
        return subprocess.Popen(
            [sys.executable, "-c", "pass"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    monkeypatch.setattr(workers, "_start_worker", dead)
    with pytest.raises(RuntimeError, match="ended early"):
        synthetic.render_many(faces(150), 16, 2)


def test_the_processes_start_in_any_folder(tmp_path, monkeypatch, started):
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(
        synthetic.render_many(faces(64), 16, 1), synthetic.render_many(faces(64), 16, 2)
    )
    assert [process.returncode for process in started] == [0, 0]


def test_the_data_package_imports_neither_tensorflow_nor_opencv():
    """The rendering processes start fast, and training does not need OpenCV."""
    code = (
        "import sys; from cgan_tf.data import face_detection, portraits, synthetic; "
        "print([name for name in ('tensorflow', 'keras', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_rendering_is_that_of_the_stored_faces():
    """synthetic_faces.png: `sample_face(3, 0)` to `(3, 23)` at 64 px, 8 per row."""
    stored = images.decode_file(Path(__file__).with_name("synthetic_faces.png"))
    faces = [synthetic.sample_face(3, index) for index in range(24)]
    rendered = images.grid(synthetic.render_many(faces, 64), 8)
    difference = np.abs(np.int16(rendered) - stored)
    assert (difference > 1).mean() < 1e-4 and difference.mean() < 1e-2  # rounding of another CPU
