"""core.options: the text of every flag, what overrides what, and how `auto` is resolved."""

import os
import tempfile

import pytest
from refusal import message

from cgan_tf.core import config as config_module
from cgan_tf.core import options, presets
from cgan_tf.core.config import OPTIONS, Config
from cgan_tf.core.options import make, parse, resolve


def resolved(**values):
    return config_module.flat(resolve(make(None, values)))


@pytest.mark.parametrize(
    "flag, text, value",
    [
        ("gan_kimg", "2.5", 2.5),
        ("gan_kimg", "1e2", 100.0),
        ("gan_batch_size", "32", 32),
        ("seed", "0", 0),
        ("flip", "False", False),
        ("flip", "TRUE", True),
        ("flip", "0", False),
        ("flip", "1", True),
        ("attributes", "Smiling, Blond_Hair,", ("Smiling", "Blond_Hair")),
        ("attributes", "", ()),
        ("gan_betas", "0, 0.99", (0.0, 0.99)),
        ("data_dir", "a b/c", "a b/c"),
        ("gan_penalty", "auto", "auto"),
        ("gan_penalty_interval", "auto", None),
        ("gan_batch_size", "auto", None),
        ("regressor_resolution", "auto", None),
        ("inversion_perceptual_crop", "auto", None),
        ("inversion_perceptual_crop", "32", 32),
    ],
)
def test_parse(flag, text, value):
    parsed = parse(flag, text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "flag, text, remedy",
    [
        ("gan_kimg", "much", "give a number"),
        ("gan_kimg", "nan", "give a number"),
        ("gan_kimg", "inf", "give a number"),
        ("gan_kimg", "auto", "give a number"),
        ("gan_batch_size", "2.5", "give a whole number or auto"),
        ("regressor_batch_size", "2.5", "give a whole number"),
        ("regressor_batch_size", "auto", "give a whole number"),
        ("gpu_memory_gib", "all", "give a number or auto"),
        ("seed", "", "give a whole number"),
        ("seed", "auto", "give a whole number"),
        ("regressor_resolution", "big", "give a whole number or auto"),
        ("flip", "maybe", "give true or false"),
        ("gan_betas", "1,x", "give numbers, separated by commas"),
    ],
)
def test_a_text_that_cannot_be_parsed(flag, text, remedy):
    assert message(parse, flag, text) == f"--{flag}={text}: {remedy}"


def test_a_user_without_a_home_has_a_temporary_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, no passwd entry
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert resolved()["cache_dir"] == str(tmp_path / "cgan_tf")


def test_paths_are_stored_from_the_root(tmp_path, monkeypatch):
    """A later command, in another folder, finds the photos again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    values = resolved(data="folder", data_dir="my/../photos", cache_dir="~/cache")
    assert values["data_dir"] == str(tmp_path / "photos")
    assert values["cache_dir"] == str(tmp_path / "home" / "cache")
    values = resolved(evaluate_identity_model="face.onnx")
    assert values["evaluate_identity_model"] == str(tmp_path / "face.onnx")
    assert resolved(data_dir="gs://bucket/celeba")["data_dir"] == "gs://bucket/celeba"
    assert resolved()["data_dir"] is None


@pytest.mark.parametrize("flag", ["data_dir", "cache_dir"])
def test_a_path_in_an_unknown_home_is_refused(flag):
    """It would be a folder called ~ in the current one."""
    assert message(resolved, data="folder", **({"data_dir": "x"} | {flag: "~no_such_user/x"})) == (
        f"--{flag}=~no_such_user/x: the home folder that ~ stands for is unknown; give the "
        "complete path"
    )


def test_every_default_survives_its_flag():
    for flag, option in OPTIONS.items():
        if option.default is not None:
            assert parse(flag, presets.text(option.default)) == option.default, flag


def test_a_flag_overrides_the_preset_which_overrides_the_defaults():
    config = make("celeba32", {"data_dir": "p", "gan_width": 7, "gan_z_dim": 9})
    assert (config.gan.width, config.gan.z_dim) == (7, 9)
    assert config.gan.prior == presets.PRESETS["celeba32"]["gan_prior"] != Config().gan.prior
    assert config.preset == "celeba32"
    assert make(None, {}) == make("", {}) == Config()


def test_a_batch_size_that_will_be_measured_begins_with_what_it_is_without_auto():
    auto = {"gan_batch_size": None}
    assert make(None, auto).gan.batch_size == Config().gan.batch_size
    assert make("demo", auto).gan.batch_size == presets.PRESETS["demo"]["gan_batch_size"]
    stored = resolve(make(None, {"gan_batch_size": 256}))
    assert make(None, auto, stored) == stored


def test_an_unknown_preset_is_refused_with_the_closest_and_the_list():
    names = ", ".join(presets.PRESETS)
    assert message(make, "celeba46", {}) == (
        f"--preset=celeba46: unknown preset (did you mean celeba64?); one of {names}"
    )
    assert message(make, "qqq", {}) == f"--preset=qqq: unknown preset; one of {names}"


def test_a_stored_run_keeps_its_options_except_the_given_ones():
    stored = resolve(make("demo", {"seed": 5, "gan_width": 12}))
    assert make(None, {}, stored) == make("demo", {}, stored) == stored
    changed = make(None, {"gan_kimg": 2.0}, stored)
    assert changed == config_module.replace(stored, gan_kimg=2.0)
    assert message(make, None, {"gan_kimg": -1.0}, stored) == "--gan_kimg=-1: must be more than 0"


@pytest.mark.parametrize(
    "preset, made", [("demo", "preset demo"), (None, "no preset")], ids=["preset", "none"]
)
def test_another_preset_than_the_stored_one_is_refused(preset, made):
    stored = resolve(make(preset, {}))
    assert message(make, "celeba64", {"data_dir": "p"}, stored) == (
        f"--preset=celeba64: this run folder was made with {made}; use another --run_dir"
    )


# What auto stands for.


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, {"gan_penalty": "r1", "gan_penalty_interval": 16}),
        ({"gan_objective": "minimax"}, {"gan_penalty": "none", "gan_penalty_interval": 1}),
        ({"gan_objective": "rpgan"}, {"gan_penalty": "r1+r2", "gan_penalty_interval": 16}),
        ({"gan_objective": "wgan"}, {"gan_penalty": "none"}),
        ({"gan_objective": "wgan_gp"}, {"gan_penalty": "gp", "gan_penalty_interval": 1}),
        (
            {"gan_objective": "wgan_gp", "gan_penalty_interval": 4},
            {"gan_penalty": "gp", "gan_penalty_interval": 4},
        ),
        ({"gan_objective": "hinge", "gan_penalty": "none"}, {"gan_penalty": "none"}),
        (
            {"gan_objective": "ragan", "gan_penalty": "gp"},
            {"gan_penalty": "gp", "gan_penalty_interval": 1},
        ),
        (
            {"gan_penalty": "r1+r2", "gan_penalty_interval": 8},
            {"gan_penalty": "r1+r2", "gan_penalty_interval": 8},
        ),
        ({}, {"inversion_space": "z"}),
        ({"gan_arch": "stylegan"}, {"inversion_space": "w"}),
        ({"gan_arch": "stylegan", "inversion_space": "z"}, {"inversion_space": "z"}),
        ({"gan_arch": "stylegan", "inversion_space": "ws"}, {"inversion_space": "ws"}),
        ({"gan_arch": "residual"}, {"inversion_space": "z"}),
        ({"resolution": 128}, {"regressor_resolution": 128, "inversion_perceptual_crop": 128}),
        ({"resolution": 512}, {"regressor_resolution": 128, "inversion_perceptual_crop": 128}),
        (
            {"resolution": 128, "regressor_resolution": 64, "inversion_perceptual_crop": 32},
            {"regressor_resolution": 64, "inversion_perceptual_crop": 32},
        ),
    ],
)
def test_what_auto_resolves_to(given, expected):
    values = resolved(**given)
    assert {flag: values[flag] for flag in expected} == expected


@pytest.mark.parametrize("objective", config_module.OBJECTIVES)
def test_every_objective_resolves_to_a_penalty(objective):
    assert resolved(gan_objective=objective)["gan_penalty"] in (
        "none",
        *config_module.PENALTIES,
    )


def test_resolving_leaves_no_auto_but_what_the_machine_and_the_data_decide():
    values = resolved(data="folder", data_dir="photos")
    open_flags = {flag for flag, value in values.items() if value in ("auto", ("auto",), None)}
    machine = {"precision", "jit", "devices", "steps_per_call"}
    machine |= {"device_cache_gib", "gpu_memory_gib"}
    assert open_flags == machine | {"regressor_vgg_weights", "evaluate_identity_model"}


@pytest.mark.parametrize("preset", [None, *presets.PRESETS])
def test_resolving_twice_changes_nothing(preset):
    once = resolve(make(preset, {"data_dir": "photos"}))
    assert resolve(once) == once


def test_a_seed_is_generated_unless_given():
    seeds = {resolved()["seed"] for _ in range(4)}
    assert len(seeds) > 1 and all(0 <= seed < 2**31 for seed in seeds)
    assert resolved(seed=0)["seed"] == 0


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert resolved()["cache_dir"] == "/somewhere/cgan_tf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert resolved()["cache_dir"] == "/home/me/.cache/cgan_tf"
    assert resolved(cache_dir="mine")["cache_dir"] == os.path.abspath("mine")


# What auto stood for in a stored run.


@pytest.mark.parametrize(
    "before, now, expected",
    [
        (
            {},
            {"gan_objective": "rpgan"},
            {"gan_penalty": "r1+r2", "gan_penalty_interval": 16},
        ),
        (
            {},
            {"gan_objective": "wgan_gp"},
            {"gan_penalty": "gp", "gan_penalty_interval": 1},
        ),
        ({}, {"gan_penalty": "gp"}, {"gan_penalty": "gp", "gan_penalty_interval": 1}),
        (
            {"gan_penalty": "r1", "gan_penalty_interval": 5},
            {"gan_objective": "rpgan"},
            {"gan_penalty": "r1", "gan_penalty_interval": 5},
        ),
        (
            {"gan_penalty": "r2"},
            {"gan_penalty": "auto"},
            {"gan_penalty": "r1", "gan_penalty_interval": 16},
        ),
        (
            {},
            {"resolution": 32},
            {"regressor_resolution": 32, "inversion_perceptual_crop": 32},
        ),
        (
            {"resolution": 128, "inversion_perceptual_crop": 64},
            {"resolution": 64},
            {"regressor_resolution": 64, "inversion_perceptual_crop": 64},
        ),
        ({}, {"gan_arch": "stylegan"}, {"inversion_space": "w"}),
        ({"gan_arch": "stylegan"}, {"gan_arch": "dcgan"}, {"inversion_space": "z"}),
        ({}, {"gan_kimg": 3.0}, {"gan_penalty": "r1", "regressor_resolution": 64}),
    ],
)
def test_auto_follows_a_changed_option_of_a_stored_run(before, now, expected):
    stored = resolve(make(None, before))
    values = config_module.flat(resolve(make(None, now, stored, before)))
    assert {flag: values[flag] for flag in expected} == expected


def test_what_a_preset_sets_is_not_derived_again():
    stored = resolve(make("celeba128", {"data_dir": "celeba"}))
    values = config_module.flat(resolve(make(None, {"resolution": 256}, stored)))
    for flag in ("regressor_resolution", "inversion_perceptual_crop"):
        assert values[flag] == presets.PRESETS["celeba128"][flag] != 128


def test_an_unrelated_change_keeps_derived_values_of_an_earlier_version(monkeypatch):
    stored = resolve(make(None, {}))
    monkeypatch.setattr(options, "LAZY_INTERVAL", 99)
    assert make(None, {"gan_kimg": 3.0}, stored).gan.penalty_interval == 16


def test_every_derived_option_accepts_auto():
    for flag, sources in options.DERIVED_FROM.items():
        assert OPTIONS[flag].default in ("auto", None)
        assert set(sources) <= set(OPTIONS)
