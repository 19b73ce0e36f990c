"""core.config: sections, flags, which stage owns which option, JSON."""

import dataclasses
import json

import pytest

from cgan_tf.core import config as config_module
from cgan_tf.core.config import NEEDS, OPTIONS, STAGES, Config

COMMON = {flag for flag, option in OPTIONS.items() if not option.section}


def changing(**values):
    """The stages whose options differ from the defaults' for these values, by flag."""
    changed = config_module.replace(Config(), **values)
    return {
        stage
        for stage in STAGES
        if config_module.stage_options(changed, stage)
        != config_module.stage_options(Config(), stage)
    }


def test_every_section_is_a_stage_and_prefixes_its_flags():
    sections = [
        field.name
        for field in dataclasses.fields(Config)
        if dataclasses.is_dataclass(field.default)
    ]
    assert tuple(sections) == STAGES
    for flag, option in OPTIONS.items():
        assert flag == (f"{option.section}_{option.name}" if option.section else option.name)
        assert option.section in ("", *STAGES)


def test_every_option_has_one_line_of_help_that_fits_the_terminal():
    for flag, option in OPTIONS.items():
        text = option.metadata["help"]
        assert 5 < len(text) <= 94 and "\n" not in text and not text.endswith("."), flag
        assert text[0].islower() or text.split()[0][0].isupper(), flag


@pytest.mark.parametrize(
    "values, stages",
    [
        ({"gan_kimg": 1.0}, {"gan"}),
        ({"regressor_lr": 1.0}, {"regressor"}),
        ({"inversion_width": 8}, {"inversion"}),
        ({"features_side": "none"}, {"features"}),
        ({"directions_family": "sefa"}, {"directions"}),
        ({"evaluate_samples": 100}, {"evaluate"}),
        ({"export_truncation": 0.5}, {"export"}),
        ({"seed": 1}, set(STAGES)),
        ({"resolution": 32}, set(STAGES)),
        ({"data": "celeba"}, set(STAGES)),
        ({"precision": "float32"}, set(STAGES)),
        ({"deterministic": False}, set(STAGES)),
        ({"synthetic_size": 200}, set(STAGES)),
        ({"flip": False}, {"gan", "regressor", "inversion", "features", "directions"}),
        ({"init_from": "runs/big"}, {"gan", "regressor", "inversion"}),
        ({"attributes": ("Male",)}, {"features", "directions", "evaluate", "export"}),
        ({"devices": ("CPU:0",), "checkpoint_minutes": 9.0, "tensorboard": True}, set()),
        ({"steps_per_call": 4, "device_cache_gib": 1.0, "gpu_memory_gib": 2.0}, set()),
        ({"jit": "true"}, set(STAGES)),
        ({"data_dir": "a", "cache_dir": "b", "cache_gib": 1.0, "preset": "demo"}, set()),
    ],
)
def test_a_change_concerns_the_stages_that_own_the_option(values, stages):
    assert changing(**values) == stages


def test_the_cases_above_cover_every_common_option_and_every_stage():
    cases = [
        mark.args[1]
        for mark in test_a_change_concerns_the_stages_that_own_the_option.pytestmark
        if mark.name == "parametrize"
    ][0]
    flags = {flag for values, _ in cases for flag in values}
    assert flags >= COMMON
    assert {OPTIONS[flag].section for flag in flags - COMMON} == set(STAGES)


def test_every_stage_needs_only_earlier_ones():
    for index, stage in enumerate(STAGES):
        assert set(NEEDS[stage]) <= set(STAGES[:index])


@pytest.mark.parametrize(
    "stages, expected",
    [
        (["gan"], ["gan", "inversion", "features", "directions", "evaluate", "export"]),
        (["regressor"], ["regressor", "inversion", "features", "directions", "evaluate", "export"]),
        (["directions"], ["directions", "evaluate", "export"]),
        (["export"], ["export"]),
        (STAGES, list(STAGES)),
        ([], []),
    ],
)
def test_stages_with_their_dependents(stages, expected):
    assert list(config_module.with_dependents(stages)) == expected


def test_replace_get_and_flat_agree():
    config = config_module.replace(Config(), gan_kimg=1.5, seed=3, gan_betas=(0.5, 0.9))
    assert (config.gan.kimg, config.seed, config.gan.betas) == (1.5, 3, (0.5, 0.9))
    assert config.gan.batch_size == Config().gan.batch_size and config.regressor == (
        Config().regressor
    )
    values = config_module.flat(config)
    assert list(values) == list(OPTIONS)
    assert values == {flag: config_module.get(config, flag) for flag in OPTIONS}
    assert {flag for flag in OPTIONS if values[flag] != OPTIONS[flag].default} == {
        "gan_kimg",
        "seed",
        "gan_betas",
    }


def test_options_survive_json():
    config = config_module.replace(
        Config(), seed=4, attributes=("A", "B"), gan_betas=(0.5, 0.99), regressor_resolution=32
    )
    stored = json.loads(json.dumps(config_module.to_dict(config)))
    assert config_module.from_dict(stored) == config
    assert stored["gan"]["betas"] == [0.5, 0.99] and stored["attributes"] == ["A", "B"]
    assert set(stored) == COMMON | set(STAGES)


def test_options_that_are_not_stored_have_their_defaults():
    assert config_module.from_dict({}) == Config()
    assert config_module.from_dict({"gan": {"width": 8}}) == (
        config_module.replace(Config(), gan_width=8)
    )


@pytest.mark.parametrize(
    "stored", [{"w_dim": 3}, {"gan": {"w_dim": 3}}, {"gan": 3}, {"gan": [1]}, {"gan": None}]
)
def test_unknown_options_and_sections_that_are_no_dicts_are_a_type_error(stored):
    with pytest.raises(TypeError):
        config_module.from_dict(stored)


@pytest.mark.parametrize(
    "penalty, terms", [("none", ()), ("r1", ("r1",)), ("r1+r2", ("r1", "r2")), ("gp", ("gp",))]
)
def test_the_terms_of_a_penalty(penalty, terms):
    config = config_module.replace(Config(), gan_penalty=penalty)
    assert config_module.penalty_terms(config) == terms
