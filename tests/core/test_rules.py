"""core.rules: every rule and range, with the line that a user sees."""

import pytest
from refusal import message

from cgan_tf.core import config as config_module
from cgan_tf.core import options, presets, rules
from cgan_tf.core.config import OPTIONS, Config

# Options and the line that refuses them; at least one for each of RULES, see below.
CASES = [
    *(
        ({"resolution": side}, f"--resolution={side}: one of 32, 64, 128, 256, 512")
        for side in (0, 16, 48, 100, 1024)
    ),
    ({"seed": -1}, "--seed=-1: from 0 to 4294967295"),
    ({"seed": 2**32}, "--seed=4294967296: from 0 to 4294967295"),
    ({"data": "folder"}, "--data_dir: give the folder of the photos (--data=folder needs it)"),
    ({"data": "photos"}, "--data_dir: give the folder of the photos (--data=photos needs it)"),
    (
        {"data": "celeba_dir", "data_dir": ""},
        "--data_dir: give the folder of the photos (--data=celeba_dir needs it)",
    ),
    ({"gan_betas": (0.5,)}, "--gan_betas=0.5: give two numbers from 0 to below 1"),
    ({"gan_betas": (0.0, 1.0)}, "--gan_betas=0,1: give two numbers from 0 to below 1"),
    ({"gan_betas": (-0.1, 0.9)}, "--gan_betas=-0.1,0.9: give two numbers from 0 to below 1"),
    (
        {"gan_betas": (float("nan"), 0.9)},
        "--gan_betas=nan,0.9: give two numbers from 0 to below 1",
    ),
    ({"gan_real_label": 1.1}, "--gan_real_label=1.1: must be at most 1"),
    (
        {"gan_arch": "stylegan", "gan_g_norm": "pixel"},
        "--gan_g_norm=pixel with --gan_arch=stylegan: its style layers normalize; use "
        "--gan_g_norm=batch or --gan_arch=dcgan",
    ),
    (
        {"gan_arch": "stylegan", "gan_prior": "uniform"},
        "--gan_prior=uniform with --gan_arch=stylegan: its mapping network only uses the direction "
        "of z; use --gan_prior=normal or --gan_arch=dcgan",
    ),
    ({"gan_style": "adain"}, "--gan_style=adain: only --gan_arch=stylegan has it, not dcgan"),
    (
        {"export_truncation": 0.5},
        "--export_truncation=0.5: only --gan_arch=stylegan has it, not dcgan",
    ),
    *(
        (
            {"inversion_space": space},
            f"--inversion_space={space}: only --gan_arch=stylegan has w; use --inversion_space=z, "
            "or train another generator",
        )
        for space in ("w", "ws")
    ),
    (
        {"gan_arch": "residual", "gan_d_norm": "batch"},
        "--gan_d_norm=batch with --gan_arch=residual: its D has no normalization; use "
        "--gan_d_norm=none or --gan_arch=dcgan",
    ),
    (
        {"gan_arch": "residual", "gan_equalized_lr": True},
        "--gan_equalized_lr=true with --gan_arch=residual: its layers do not have it; use "
        "--gan_equalized_lr=false or another --gan_arch",
    ),
    (
        {"gan_arch": "residual", "gan_progressive": True},
        "--gan_progressive=true with --gan_arch=residual: its levels are not trained one by one; "
        "use --gan_progressive=false or another --gan_arch",
    ),
    (
        {"gan_arch": "residual", "gan_style": "adain"},
        "--gan_style=adain: only --gan_arch=stylegan has it, not residual",
    ),
    (
        {"gan_objective": "hinge", "gan_real_label": 0.9},
        "--gan_real_label=0.9: labels are smoothed in minimax and non_saturating, not in "
        "--gan_objective=hinge",
    ),
    (
        {"gan_objective": "wgan", "gan_penalty": "r1"},
        "--gan_penalty=r1: wgan clips D's weights instead; use --gan_penalty=none or "
        "--gan_objective=wgan_gp",
    ),
    (
        {"gan_objective": "wgan_gp", "gan_penalty": "r1"},
        "--gan_penalty=r1: wgan_gp needs gp; use --gan_penalty=auto or another --gan_objective",
    ),
    *(
        (
            {"gan_objective": objective, "gan_augment": "ada"},
            f"--gan_augment=ada with --gan_objective={objective}: the sign of D on reals, which "
            "controls ada, has no meaning there; use --gan_augment=diffaugment",
        )
        for objective in ("wgan", "wgan_gp", "ragan", "rpgan")
    ),
    *(
        (
            {**penalty, "gan_d_norm": "spectral"},
            "--gan_d_norm=spectral with --gan_penalty=gp: spectral normalization bounds D's "
            "gradient already; use --gan_d_norm=none",
        )
        for penalty in ({"gan_penalty": "gp"}, {"gan_objective": "wgan_gp"})
    ),
    *(
        (
            {**penalty, "gan_d_norm": "batch"},
            "--gan_d_norm=batch with --gan_penalty=gp: the penalty is per image, batch norm mixes "
            "images; use --gan_d_norm=none",
        )
        for penalty in ({"gan_penalty": "gp"}, {"gan_objective": "wgan_gp"})
    ),
    (
        {"gan_equalized_lr": True, "gan_d_norm": "spectral"},
        "--gan_equalized_lr=true with --gan_d_norm=spectral: both rescale the weights; use one",
    ),
    (
        {"gan_equalized_lr": True, "gan_objective": "wgan"},
        "--gan_equalized_lr=true with --gan_objective=wgan: it would rescale the clipped weights; "
        "use one",
    ),
    (
        {"init_from": "runs/big", "gan_progressive": True},
        "--gan_progressive=true with --init_from=runs/big: its networks have grown already; use "
        "--gan_progressive=false",
    ),
    (
        {"gan_objective": "wgan", "gan_d_norm": "spectral"},
        "--gan_d_norm=spectral with --gan_objective=wgan: weight clipping bounds D already; use "
        "--gan_d_norm=none or batch",
    ),
    *(
        (
            {"regressor_resolution": side},
            f"--regressor_resolution={side}: must divide --resolution=64",
        )
        for side in (48, 128)
    ),
    (
        {"inversion_perceptual_crop": 65},
        "--inversion_perceptual_crop=65: must be at most --resolution=64",
    ),
    (
        {"features_side": "64"},
        "--features_side=64: must be at most half of --resolution=64; use --features_side=auto",
    ),
    *(
        (
            {flag: 6},
            f"--{flag}=6: must be divisible by 4, the group of --gan_minibatch_std",
        )
        for flag in ("gan_batch_size", "directions_batch_size")
    ),
    *(
        (
            {"directions_family": family, "gan_arch": "stylegan", "inversion_space": "z"},
            f"--directions_family={family} with --inversion_space=z: stylegan's components are "
            "found in w; use --inversion_space=w or ws",
        )
        for family in ("sefa", "pca")
    ),
    *(
        ({flag: ()}, f"--{flag}: nothing given; see --help")
        for flag in ("export_formats", "export_quantize", "devices")
    ),
]
# Lines of the checks that are no rules: choices, and the form of a condition.
OTHER_CASES = [
    (
        {"gan_prior": "unifrom"},
        "--gan_prior=unifrom: unknown value (did you mean uniform?); one of normal, uniform",
    ),
    (
        {"data": "zzz"},
        "--data=zzz: unknown value; one of synthetic, celeba, celeba_dir, folder, photos",
    ),
    (
        {"directions_family": "hyperplanes"},
        "--directions_family=hyperplanes: unknown value (did you mean hyperplane?); one of "
        "learned, hyperplane, sefa, pca",
    ),
    (
        {"export_formats": ("tflit",)},
        "--export_formats=tflit: unknown value (did you mean tflite?); one of saved_model, tflite, "
        "page",
    ),
    (
        {"export_quantize": ("none", "int3")},
        "--export_quantize=int3: unknown value (did you mean int8?); one of none, float16, "
        "dynamic, weight_int8, int8",
    ),
    ({"gan_kimg": float("inf")}, "--gan_kimg=inf: must be finite"),
    ({"gan_kimg": float("nan")}, "--gan_kimg=nan: must be more than 0"),
    *(
        (
            {"directions_condition": (condition,)},
            f"--directions_condition={condition}: write EDITED:PRESERVED+PRESERVED, e.g. "
            "Smiling:Male+Young",
        )
        for condition in ("Smiling", "Smiling:", ":Male", "Smiling:Male+", "Smiling:+Male")
    ),
    (
        {"directions_condition": ("Male:Young+Male",)},
        "--directions_condition=Male:Young+Male: Male cannot be preserved while it is edited",
    ),
    (
        {"directions_condition": ("Male:Young+Young",)},
        "--directions_condition=Male:Young+Young: an attribute is named twice",
    ),
    (
        {"directions_condition": ("Male:Young", "Bald:Male", "Male:Bald")},
        "--directions_condition=Male:Bald: Male has a condition already; write a single Male:A+B",
    ),
]
# At the edge of each rule, and allowed.
ALLOWED = [
    {"gan_real_label": 1.0},
    {"gan_real_label": 0.9, "gan_objective": "minimax"},
    {"gan_real_label": 0.9},
    {"seed": 2**32 - 1},
    {"data": "folder", "data_dir": "photos"},
    {"data": "celeba"},
    {"gan_betas": (0.0, 0.0)},
    {"gan_g_norm": "pixel", "gan_prior": "uniform"},
    {"gan_arch": "stylegan", "gan_style": "adain", "export_truncation": 0.5},
    {"gan_arch": "stylegan", "inversion_space": "ws", "directions_family": "sefa"},
    {"gan_arch": "stylegan", "inversion_space": "z"},
    {"directions_family": "pca"},
    {"gan_objective": "wgan", "gan_penalty": "none", "gan_d_norm": "batch"},
    {"gan_objective": "wgan", "gan_augment": "diffaugment"},
    {"gan_objective": "hinge", "gan_augment": "ada"},
    {"gan_penalty": "r1", "gan_d_norm": "spectral"},
    {"gan_equalized_lr": True, "gan_d_norm": "batch"},
    {"resolution": 128, "regressor_resolution": 32, "inversion_perceptual_crop": 128},
    {"resolution": 512, "regressor_resolution": 256, "inversion_perceptual_crop": 512},
    {"gan_arch": "residual", "gan_g_norm": "pixel", "gan_prior": "uniform"},
    {"gan_arch": "residual", "gan_objective": "rpgan"},
    {"gan_minibatch_std": False, "gan_batch_size": 6, "directions_batch_size": 2},
    {"regressor_batch_size": 3, "inversion_batch_size": 3},
    {"directions_condition": ("Male:Young", "Young:Male+Bald")},
    {"features_side": "32"},
    {"features_side": "none", "resolution": 32},
]
# Every other bound can be tried with these options: they contradict no rule.
NEUTRAL = {"gan_arch": "stylegan", "gan_minibatch_std": False}


def resolve(values):
    """What a command does with these options."""
    return options.resolve(options.make(None, values))


@pytest.mark.parametrize("values, line", CASES + OTHER_CASES)
def test_refused_options_are_one_line(values, line):
    assert message(resolve, values) == line


@pytest.mark.parametrize("values", ALLOWED)
def test_options_at_the_edge_are_allowed(values):
    resolve(values)


def test_every_rule_has_a_case(monkeypatch):
    found = set()
    with monkeypatch.context() as patch:
        patch.setattr(rules, "check", lambda config: None)
        for values, _ in CASES:
            config = config_module.replace(Config(), **values)
            found |= {first_rule(config), first_rule(options.resolve(config))}
    assert sorted(set(range(len(rules.RULES))) - found) == []


def first_rule(config):
    """The index of the rule that refuses the options; None if they are allowed."""
    holds = (index for index, (condition, _) in enumerate(rules.RULES) if condition(config))
    return next(holds, None)


BOUNDS = [
    (flag, bound, option.metadata[bound])
    for flag, option in OPTIONS.items()
    for bound in ("minimum", "above", "below")
    if option.metadata[bound] is not None
]


def nearby(flag, limit, sign):
    """The closest simple value above (+1) or below (-1) a limit, of the flag's type."""
    return limit + sign if OPTIONS[flag].hint in (int, int | None) else limit + sign * 2**-10


@pytest.mark.parametrize("flag, bound, limit", BOUNDS)
def test_ranges_end_where_they_say(flag, bound, limit):
    outside = {"minimum": nearby(flag, limit, -1), "above": limit, "below": limit}[bound]
    inside = {
        "minimum": limit,
        "above": nearby(flag, limit, +1),
        "below": nearby(flag, limit, -1),
    }[bound]
    words = {"minimum": "at least", "above": "more than", "below": "less than"}[bound]
    kind = float if OPTIONS[flag].hint in (float, float | None) else int
    rules.check(config_module.replace(Config(), **NEUTRAL, **{flag: kind(inside)}))
    line = message(rules.check, config_module.replace(Config(), **NEUTRAL, **{flag: outside}))
    assert line == f"--{flag}={presets.text(outside)}: must be {words} {limit:g}"


def test_every_number_has_a_lower_bound():
    bounded = {flag for flag, _, _ in BOUNDS}
    kinds = (int, float, int | None, float | None)
    numbers = {flag for flag, option in OPTIONS.items() if option.hint in kinds}
    # These two have a rule each.
    assert numbers - bounded == {"seed", "resolution"}


@pytest.mark.parametrize(
    "values, line",
    [
        ({"gan_kimg": 0.0}, "--gan_kimg=0: must be more than 0"),
        ({"gan_batch_size": 1}, "--gan_batch_size=1: must be at least 2"),
        ({"gan_gamma": -0.5}, "--gan_gamma=-0.5: must be at least 0"),
        ({"gan_real_label": 0.5}, "--gan_real_label=0.5: must be more than 0.5"),
        ({"directions_calibrated_change": 1.0}, "--directions_calibrated_change=1: must be less"),
        ({"inversion_perceptual_crop": 15}, "--inversion_perceptual_crop=15: must be at least 16"),
        ({"regressor_resolution": 16}, "--regressor_resolution=16: must be at least 32"),
        ({"synthetic_size": 99}, "--synthetic_size=99: must be at least 100"),
    ],
)
def test_some_ranges_in_numbers(values, line):
    assert message(resolve, values).startswith(line)


# What only the data, or the devices, can decide.

KNOWN = ("Smiling", "Male", "Young")


@pytest.mark.parametrize(
    "names, condition, line",
    [
        (
            ("Smilling",),
            (),
            "--attributes=Smilling: the data has no such attribute (did you mean Smiling?); it has "
            "Smiling, Male, Young",
        ),
        (
            ("Zzz",),
            (),
            "--attributes=Zzz: the data has no such attribute; it has Smiling, Male, Young",
        ),
        (("Male", "Male"), (), "--attributes=Male,Male: an attribute is named twice"),
        (
            ("Smiling",),
            ("Male:Young",),
            "--directions_condition=Male:Young: Male is not edited; --attributes has Smiling",
        ),
        (
            ("Smiling",),
            ("Smilin:Young",),
            "--directions_condition=Smilin:Young: Smilin is not edited (did you mean Smiling?); "
            "--attributes has Smiling",
        ),
        (
            ("Smiling",),
            ("Smiling:Young+Mal",),
            "--directions_condition=Smiling:Young+Mal: the data has no attribute Mal (did you mean "
            "Male?); it has Smiling, Male, Young",
        ),
    ],
)
def test_attributes_that_the_data_does_not_have(names, condition, line):
    config = config_module.replace(Config(), directions_condition=condition)
    assert message(rules.check_attributes, config, names, KNOWN) == line


def test_attributes_that_the_data_has():
    config = config_module.replace(Config(), directions_condition=("Smiling:Young+Male",))
    rules.check_attributes(config, ("Smiling", "Male"), KNOWN)


@pytest.mark.parametrize(
    "values, replicas, line",
    [
        (
            {"gan_batch_size": 4},
            2,
            "--gan_batch_size=4: 2 replicas share it with groups of 4 (--gan_minibatch_std): must "
            "be divisible by 8",
        ),
        (
            {"gan_batch_size": 6, "gan_minibatch_std": False},
            4,
            "--gan_batch_size=6: 4 replicas share it: must be divisible by 4",
        ),
        (
            {"regressor_batch_size": 33},
            2,
            "--regressor_batch_size=33: 2 replicas share it: must be divisible by 2",
        ),
        (
            {"inversion_batch_size": 33},
            2,
            "--inversion_batch_size=33: 2 replicas share it: must be divisible by 2",
        ),
        (
            {"jit": "true"},
            2,
            "--jit=true: XLA cannot communicate between 2 replicas; use --jit=false",
        ),
        (
            {"directions_batch_size": 12},
            2,
            "--directions_batch_size=12: 2 replicas share it with groups of 4 "
            "(--gan_minibatch_std): must be divisible by 8",
        ),
        (
            {
                "gan_batch_size": 72,
                "regressor_batch_size": 33,
                "inversion_batch_size": 33,
                "directions_batch_size": 36,
                "devices": ("GPU:0", "GPU:1", "GPU:2"),
            },
            3,
            "--devices=GPU:0,GPU:1,GPU:2: 3 replicas cannot share the features' batch of 16; use "
            "2, 4, 8, ... of them",
        ),
    ],
)
def test_batches_that_the_replicas_cannot_share(values, replicas, line):
    config = config_module.replace(Config(), **values)
    assert message(rules.check_replicas, config, replicas) == line
    rules.check_replicas(config, 1)


def test_the_default_batches_can_be_shared():
    for replicas in (1, 2, 4, 8):
        rules.check_replicas(Config(), replicas)


def test_conditions_by_edited_attribute():
    config = config_module.replace(Config(), directions_condition=("A:B+C", "B:A"))
    assert rules.conditions(config) == {"A": ("B", "C"), "B": ("A",)}
    assert rules.conditions(Config()) == {}
