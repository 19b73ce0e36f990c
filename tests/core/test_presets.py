"""core.presets: what the presets contain, and that they make sense."""

import pytest

from cgan_tf.core import config as config_module
from cgan_tf.core import presets
from cgan_tf.core.config import OPTIONS
from cgan_tf.core.options import make, parse, resolve
from cgan_tf.core.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_holds_only_what_differs_from_the_defaults(preset):
    same = [flag for flag, value in PRESETS[preset].items() if value == OPTIONS[flag].default]
    assert same == []


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_resolves_to_its_values(preset):
    config = resolve(make(preset, {"data_dir": "photos"}))
    assert config.preset == preset
    values = config_module.flat(config)
    assert {flag: values[flag] for flag in PRESETS[preset]} == PRESETS[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_flags_of_a_preset_parse_to_its_values(preset):
    parsed = {}
    for part in presets.describe(preset).split():
        flag, _, text = part.removeprefix("--").partition("=")
        parsed[flag] = parse(flag, text)
    assert parsed == PRESETS[preset]
    assert [type(value) for value in parsed.values()] == list(map(type, PRESETS[preset].values()))


def test_celeba32_is_dcgan_as_published():
    config = make("celeba32", {"data_dir": "photos"})
    gan = config.gan
    # Radford et al. (2015): Adam, a learning rate of 2e-4, momentum 0.5, batches of 128, uniform z
    # of 100 dimensions, batch norm in G and D, no penalty.
    assert (gan.g_lr, gan.d_lr, gan.betas[0], gan.batch_size) == (2e-4, 2e-4, 0.5, 128)
    assert (gan.z_dim, gan.prior, gan.g_norm, gan.d_norm) == (100, "uniform", "batch", "batch")
    assert (gan.objective, gan.penalty, gan.d_steps) == ("non_saturating", "none", 1)
    assert gan.real_label == 0.9 and config.resolution == 32


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "auto"),
        (True, "true"),
        (400.0, "400"),
        (3e-4, "0.0003"),
        (1234567.5, "1234567.5"),
        (7, "7"),
        ("a b", "a b"),
        ((0.0, 0.99), "0,0.99"),
        (("x", "y"), "x,y"),
        (["x", "y"], "x,y"),
        ((), ""),
    ],
)
def test_a_value_as_it_is_written_on_the_command_line(value, text):
    assert presets.text(value) == text
