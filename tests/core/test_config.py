"""cgan_tf.config: every flag's text, every check, the presets, what wins over what."""

import dataclasses
import json

import pytest

from cgan_tf.core import config as module
from cgan_tf.core.config import FIELDS, NEEDS, PRESETS, STAGES, Config
from cgan_tf.core.errors import UserError


def message(call, *arguments):
    """The one line of the UserError that the call raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_field_is_documented_and_belongs_to_known_stages():
    assert [name for name, field in FIELDS.items() if len(field.metadata["help"]) < 5] == []
    assert {stage for field in FIELDS.values() for stage in field.metadata["stages"]} == set(STAGES)
    everywhere = {name for name, f in FIELDS.items() if set(f.metadata["stages"]) == set(STAGES)}
    assert {"seed", "data", "resolution", "deterministic", "precision"} <= everywhere
    # Where things are and how often they are saved may change on resume.
    for name in ("data_dir", "cache_dir", "cache_gib", "checkpoint_minutes", "preset"):
        assert FIELDS[name].metadata["stages"] == ()


def test_stage_fields_are_those_of_the_stage_in_order():
    fields = module.stage_fields("directions")
    assert {"seed", "attributes", "directions_lr", "hold_weight", "perceptual"} <= set(fields)
    assert not {"kimg", "inversion_lr", "eval_fakes", "cache_dir"} & set(fields)
    assert list(fields) == [name for name in FIELDS if name in fields]


def test_every_stage_needs_only_earlier_ones():
    for index, stage in enumerate(STAGES):
        assert set(NEEDS[stage]) <= set(STAGES[:index])


@pytest.mark.parametrize(
    "stages, wanted",
    [
        (["gan"], ["gan", "inversion", "directions", "evaluate", "export"]),
        (["regressor"], ["regressor", "inversion", "directions", "evaluate", "export"]),
        (["directions"], ["directions", "evaluate", "export"]),
        (["export"], ["export"]),
        (STAGES, list(STAGES)),
        ([], []),
    ],
)
def test_stages_with_those_that_need_them(stages, wanted):
    assert list(module.with_dependents(stages)) == wanted


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("kimg", "2.5", 2.5),
        ("kimg", "1e2", 100.0),
        ("batch_size", "32", 32),
        ("seed", "0", 0),
        ("flip", "False", False),
        ("flip", "TRUE", True),
        ("flip", "0", False),
        ("attributes", "Smiling, Blond_Hair,", ("Smiling", "Blond_Hair")),
        ("attributes", "", ()),
        ("perceptual_weights", "1,0.5,0,2", (1.0, 0.5, 0.0, 2.0)),
        ("level_batch_sizes", "64, 32", (64, 32)),
        ("data_dir", "a b/c", "a b/c"),
    ],
)
def test_parse(name, text, value):
    parsed = module.parse(name, text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "name, text, remedy",
    [
        ("kimg", "much", "give a number"),
        ("kimg", "nan", "give a number"),
        ("kimg", "inf", "give a number"),
        ("batch_size", "2.5", "give a whole number"),
        ("seed", "", "give a whole number"),
        ("flip", "maybe", "give true or false"),
        ("perceptual_weights", "1,x", "give numbers with commas between them"),
        ("level_batch_sizes", "8,x", "give whole numbers with commas between them"),
    ],
)
def test_parse_names_flag_value_and_remedy(name, text, remedy):
    assert message(module.parse, name, text) == f"--{name}={text}: {remedy}"


@pytest.mark.parametrize(
    "options, line",
    [
        ({"kimg": 0.0}, "--kimg=0.0: must be more than 0"),
        ({"batch_size": 1}, "--batch_size=1: must be at least 2"),
        ({"beta1": 1.0}, "--beta1=1.0: must be less than 1"),
        ({"ema_kimg": -0.1}, "--ema_kimg=-0.1: must be at least 0"),
        ({"cache_gib": -1.0}, "--cache_gib=-1.0: must be at least 0"),
        ({"r1_gamma": -0.1}, "--r1_gamma=-0.1: must be at least 0"),
        ({"penalty_interval": -1}, "--penalty_interval=-1: must be at least 0"),
        ({"d_steps": 0}, "--d_steps=0: must be at least 1"),
        (
            {"arch": "stylegan", "prior": "uniform"},
            "--prior=uniform with --arch=stylegan: its mapping takes z by its direction alone; "
            "take --prior=normal or --arch=dcgan",
        ),
        (
            {"arch": "stylegan", "g_norm": "pixel"},
            "--g_norm=pixel with --arch=stylegan: its styles normalize; take --g_norm=batch or "
            "--arch=dcgan",
        ),
        ({"style": "adain"}, "--style=adain: only --arch=stylegan has it, not dcgan"),
        ({"truncation": 0.5}, "--truncation=0.5: only --arch=stylegan has it, not dcgan"),
        (
            {"space": "ws"},
            "--space=ws: only --arch=stylegan has w; take --space=z, or train another generator",
        ),
        ({"cosine_weight": -1.0}, "--cosine_weight=-1.0: must be at least 0"),
        (
            {"cosine_weight": 2.0, "directions": "sefa"},
            "--cosine_weight=2: only --directions=learned has it, not sefa",
        ),
        ({"hyperplane_samples": 499}, "--hyperplane_samples=499: must be at least 500"),
        (
            {"directions": "hyperplanes"},
            "--directions=hyperplanes: unknown value (did you mean hyperplane?); one of learned, "
            "hyperplane, sefa, pca",
        ),
        (
            {"directions": "pca", "arch": "stylegan", "space": "z"},
            "--directions=pca with --space=z: of stylegan it moves w; take --space=w or ws",
        ),
        (
            {"hold": ("Smiling",)},
            "--hold=Smiling: write EDITED:HELD+HELD, e.g. Smiling:Male+Young",
        ),
        (
            {"hold": ("Smiling:Male+",)},
            "--hold=Smiling:Male+: write EDITED:HELD+HELD, e.g. Smiling:Male+Young",
        ),
        (
            {"hold": ("Male:Young+Male",)},
            "--hold=Male:Young+Male: Male cannot be held while it is edited",
        ),
        (
            {"hold": ("Male:Young", "Male:Bald")},
            "--hold=Male:Young,Male:Bald: an attribute is named twice",
        ),
        (
            {"hold": ("Male:Young+Young",)},
            "--hold=Male:Young+Young: an attribute is named twice",
        ),
        ({"level_batch_sizes": (8,)}, "--level_batch_sizes: only --progressive has levels"),
        (
            {"progressive": True, "fade_kimg": 61.0},
            "--fade_kimg=61: longer than its level (--level_kimg=60)",
        ),
        (
            {"progressive": True, "kimg": 210.0},
            "--kimg=210: 3 levels of --level_kimg=60 and the last one's fade take 210 already; "
            "give more, or shorter levels",
        ),
        (
            {"progressive": True, "level_batch_sizes": (64, 64)},
            "--level_batch_sizes=64,64: 4 numbers are needed, from 8 px to --resolution=64",
        ),
        (
            {"progressive": True, "level_batch_sizes": (64, 30, 64, 64)},
            "--level_batch_sizes=64,30,64,64: each must be divisible by 4, the group of "
            "--minibatch_std",
        ),
        (
            {"progressive": True, "level_batch_sizes": (128, 64, 64, 32)},
            "--level_batch_sizes=128,64,64,32: the last is that of --batch_size=64; make them "
            "equal",
        ),
        (
            {"objective": "hing"},
            "--objective=hing: unknown value (did you mean hinge?); one of minimax, "
            "non_saturating, lsgan, wgan, wgan_gp, hinge, ragan, rpgan",
        ),
        (
            {"objective": "rpgan", "clip_value": 0.01},
            "--clip_value=0.01: only --objective=wgan clips D's weights, not rpgan",
        ),
        (
            {"objective": "wgan", "penalty": "r1"},
            "--penalty=r1: wgan clips D's weights instead; take --penalty=none or "
            "--objective=wgan_gp",
        ),
        (
            {"objective": "wgan_gp", "penalty": "r1"},
            "--penalty=r1: wgan_gp is held by gp; take --penalty=auto or another --objective",
        ),
        (
            {"penalty": "gp", "d_norm": "spectral"},
            "--d_norm=spectral with --penalty=gp: spectral normalization holds D's gradient too; "
            "take --d_norm=none",
        ),
        (
            {"objective": "wgan_gp", "d_norm": "batch"},
            "--d_norm=batch with --penalty=gp: the penalty is each image's own, batch norm ties "
            "them together; take --d_norm=none",
        ),
        (
            {"objective": "wgan", "d_norm": "spectral"},
            "--d_norm=spectral with --objective=wgan: its clipping holds D already; take "
            "--d_norm=none or batch",
        ),
        (
            {"equalized_lr": True, "d_norm": "spectral"},
            "--equalized_lr=True with --d_norm=spectral: it holds weights that are scaled "
            "afterwards; take one of the two",
        ),
        (
            {"objective": "rpgan", "augment": "ada"},
            "--augment=ada with --objective=rpgan: the sign of D on reals, which steers ada, means "
            "nothing in this game; take --augment=diffaugment",
        ),
        (
            {"augment": "ada", "augment_ops": ()},
            "--augment_ops: none given with --augment=ada; take some of color, translation, cutout",
        ),
        (
            {"augment_ops": ("colour",)},
            "--augment_ops=colour: unknown (did you mean color?); one of color, translation, "
            "cutout",
        ),
        (
            {"objective": "hinge", "real_label": 0.9},
            "--real_label=0.9: labels are smoothed in minimax and non_saturating, not in "
            "--objective=hinge",
        ),
        ({"real_label": 0.5}, "--real_label=0.5: must be more than 0.5"),
        ({"real_label": 1.1}, "--real_label=1.1: must be at most 1"),
        ({"seed": -1}, "--seed=-1: from 0 to 4294967295"),
        ({"seed": 2**32}, "--seed=4294967296: from 0 to 4294967295"),
        ({"resolution": 48}, "--resolution=48: one of 32, 64, 128"),
        ({"checkpoint_minutes": 0.0}, "--checkpoint_minutes=0.0: must be more than 0"),
        (
            {"prior": "unifrom"},
            "--prior=unifrom: unknown value (did you mean uniform?); one of normal, uniform",
        ),
        (
            {"data": "zzz"},
            "--data=zzz: unknown value; one of synthetic, celeba, celeba_dir, folder",
        ),
        (
            {"data": "folder"},
            "--data_dir: give the folder of the photos (--data=folder needs it)",
        ),
        (
            {"resolution": 64, "regressor_resolution": 48},
            "--regressor_resolution=48: at least 32, and a divisor of --resolution=64",
        ),
        (
            {"resolution": 64, "regressor_resolution": 16},
            "--regressor_resolution=16: at least 32, and a divisor of --resolution=64",
        ),
        ({"perceptual_crop": 8}, "--perceptual_crop=8: from 16 to --resolution=64"),
        ({"perceptual_crop": 65}, "--perceptual_crop=65: from 16 to --resolution=64"),
        (
            {"perceptual_weights": (1.0, 1.0, 1.0)},
            "--perceptual_weights=1,1,1: give four numbers that are not negative",
        ),
        (
            {"perceptual_weights": (1.0, 1.0, 1.0, -1.0)},
            "--perceptual_weights=1,1,1,-1: give four numbers that are not negative",
        ),
        (
            {"minibatch_std": True, "batch_size": 6},
            "--batch_size=6: must be divisible by 4, the group of --minibatch_std",
        ),
        (
            {"minibatch_std": True, "batch_size": 8, "directions_batch_size": 6},
            "--directions_batch_size=6: must be divisible by 4, the group of --minibatch_std",
        ),
        (
            {"formats": ("tflit",)},
            "--formats=tflit: unknown (did you mean tflite?); one of saved_model, tflite, page",
        ),
        ({"formats": ()}, "--formats=: names nothing to export; see --help"),
        ({"quantize": ()}, "--quantize=: names nothing to export; see --help"),
        (
            {"quantize": ("int3",)},
            "--quantize=int3: unknown (did you mean int8?); one of none, float16, dynamic, "
            "weight_int8, int8",
        ),
    ],
)
def test_a_value_out_of_range_is_one_line_that_names_it(options, line):
    options = {"resolution": 64} | options
    assert message(module.check, Config(**options)) == line


def test_values_at_the_edge_are_taken():
    for options in (
        {"real_label": 1.0, "beta1": 0.0, "r1_gamma": 0.0, "ema_kimg": 0.0},
        {"seed": 2**32 - 1, "resolution": 128, "regressor_resolution": 32},
        {"resolution": 64, "perceptual_crop": 16},
        {"minibatch_std": False, "batch_size": 6, "directions_batch_size": 2},
    ):
        module.check(Config(**options))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_hold_only_what_differs_and_make_sense(preset):
    config = module.make(preset, {"data_dir": "photos"})
    assert config.preset == preset
    if preset != "celeba32":  # a fixed recipe: it must not move with the defaults
        same = [name for name, value in PRESETS[preset].items() if value == FIELDS[name].default]
        assert same == []


def test_celeba32_is_the_recipe_of_the_readme():
    config = module.make("celeba32", {"data_dir": "photos"})
    recipe = {
        "resolution": 32,
        "z_dim": 100,
        "prior": "uniform",
        "width": 32,
        "batch_size": 128,
        "g_lr": 2e-4,
        "d_lr": 2e-4,
        "beta1": 0.5,
        "real_label": 0.9,
        "objective": "non_saturating",
        "penalty": "none",
        "d_steps": 1,
    }
    assert {name: getattr(config, name) for name in recipe} == recipe


@pytest.mark.parametrize(
    "options, names, interval",
    [
        ({}, ("r1",), 16),
        ({"objective": "minimax"}, (), 16),
        ({"objective": "rpgan"}, ("r1", "r2"), 16),
        ({"objective": "wgan"}, (), 16),
        ({"objective": "wgan_gp"}, ("gp",), 1),
        ({"objective": "wgan_gp", "penalty_interval": 4}, ("gp",), 4),
        ({"objective": "hinge", "penalty": "none"}, (), 16),
        ({"objective": "ragan", "penalty": "gp"}, ("gp",), 1),
        ({"penalty": "r1+r2", "penalty_interval": 8}, ("r1", "r2"), 8),
    ],
)
def test_the_penalty_that_auto_takes(options, names, interval):
    config = Config(**options)
    module.check(config)
    assert module.penalty(config) == names
    assert module.penalty_interval(config) == interval


def test_given_wins_over_preset_wins_over_defaults():
    plain, preset = module.make(None, {}), module.make("celeba32", {"data_dir": "p"})
    given = module.make("celeba32", {"data_dir": "p", "width": 7, "z_dim": 9})
    assert (given.width, given.z_dim) == (7, 9)
    assert given.prior == preset.prior == "uniform" != plain.prior
    assert plain == Config()


def test_an_existing_run_keeps_its_options_but_for_those_given():
    stored = dataclasses.replace(Config(), preset="demo", seed=5, kimg=1.5, width=12)
    again = module.make(None, {"kimg": 2.0}, stored)
    assert again == dataclasses.replace(stored, kimg=2.0)
    assert module.make("demo", {}, stored) == stored
    assert message(module.make, "celeba64", {}, stored) == (
        "--preset=celeba64: this run folder was made with preset demo; take another --run_dir"
    )
    bare = dataclasses.replace(stored, preset="")
    assert "made with no preset" in message(module.make, "demo", {}, bare)
    assert message(module.make, None, {"kimg": -1.0}, stored).startswith("--kimg=-1.0:")


def test_an_unknown_preset_is_named_with_the_nearest():
    assert message(module.make, "celeba46", {}) == (
        f"--preset=celeba46: unknown preset (did you mean celeba64?); one of {', '.join(PRESETS)}"
    )
    assert message(module.make, "qqq", {}).startswith("--preset=qqq: unknown preset; one of")


def test_options_survive_json():
    config = Config(seed=4, attributes=("A", "B"), perceptual_weights=(1.0, 0.0, 0.5, 2.0))
    stored = json.loads(json.dumps(module.to_dict(config)))
    assert module.from_dict(stored) == config
    assert set(stored) == set(FIELDS)


@pytest.mark.parametrize(
    "name, hint", [("Smilling", " (did you mean Smiling?)"), ("Chin", ""), ("", "")]
)
def test_closest(name, hint):
    assert module.closest(name, ("Smiling", "Eyeglasses")) == hint


@pytest.mark.parametrize(
    "options, space",
    [
        ({}, "z"),
        ({"space": "z", "arch": "stylegan"}, "z"),
        ({"arch": "stylegan"}, "w"),
        ({"arch": "stylegan", "space": "ws"}, "ws"),
    ],
)
def test_auto_takes_the_space_of_the_generator(options, space):
    assert module.space(module.Config(**options)) == space


def test_the_batch_size_holds_for_all_levels():
    assert module.level_batch_sizes(module.Config(resolution=32, batch_size=8)) == (8, 8, 8)
    given = module.Config(resolution=32, batch_size=8, level_batch_sizes=(32, 16, 8))
    assert module.level_batch_sizes(given) == (32, 16, 8)


def test_a_projection_needs_a_distance():
    module.make(None, {"projection_pixels": 0.0})
    with pytest.raises(UserError, match="no distance is left"):
        module.make(None, {"projection_pixels": 0.0, "projection_features": 0.0})
