"""The presets: named sets of options. Each holds only what differs from the defaults."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # About 11 minutes on two cores with AVX-512, with the installation; half an hour without.
    "demo": {
        "seed": 1,
        "synthetic_size": 8000,
        "gan_kimg": 66.0,
        "gan_batch_size": 16,
        "gan_objective": "rpgan",
        "gan_g_lr": 4e-4,
        "gan_d_lr": 4e-4,
        "gan_ema_kimg": 8.0,
        "regressor_vgg_weights": "narrow",
        "regressor_kimg": 30.0,
        "regressor_batch_size": 16,
        "regressor_lr": 5e-4,
        "inversion_kimg": 12.0,
        "inversion_perceptual_crop": 32,
        # Larger than usual: after so short a training, faces are sharper by 4 dB.
        "features_side": "32",
        "features_kimg": 14.0,
        "directions_kimg": 1.0,
        "directions_preservation_weight": 30.0,
        "directions_calibrated_change": 0.85,
        "evaluate_judge_kimg": 40.0,
        "evaluate_samples": 2000,
        "evaluate_photos": 150,
        "evaluate_projections": 0,
    },
    # The named model that ships with the package: the demo's recipe, longer. Its regressor is small
    # enough for a phone.
    "synthetic64": {
        "seed": 1,
        "synthetic_size": 20000,
        "attributes": (
            "Smiling",
            "Eyeglasses",
            "Bangs",
            "Pale_Skin",
            "Bushy_Eyebrows",
            "Wearing_Lipstick",
        ),
        "gan_kimg": 250.0,
        "gan_batch_size": 16,
        "gan_objective": "rpgan",
        "regressor_vgg_weights": "narrow",
        "regressor_kimg": 80.0,
        "regressor_batch_size": 16,
        "regressor_lr": 5e-4,
        "inversion_perceptual_crop": 32,
        "features_kimg": 80.0,
        "directions_kimg": 10.0,
        "directions_preservation_weight": 30.0,
        "directions_calibrated_change": 0.85,
        "evaluate_judge_kimg": 80.0,
        "evaluate_projections": 0,
        "export_quantize": ("none", "float16", "dynamic"),
    },
    # DCGAN as published (Radford et al. 2015), with one-sided label smoothing.
    "celeba32": {
        "data": "celeba_dir",
        "resolution": 32,
        "flip": False,
        "gan_prior": "uniform",
        "gan_z_dim": 100,
        "gan_batch_size": 128,
        "gan_g_lr": 2e-4,
        "gan_d_lr": 2e-4,
        "gan_betas": (0.5, 0.999),
        "gan_real_label": 0.9,
        "gan_penalty": "none",
        "gan_d_norm": "batch",
        "gan_minibatch_std": False,
        "gan_ema_kimg": 0.0,
        "gan_kimg": 2000.0,
    },
    "celeba64": {
        "data": "celeba_dir",
        "gan_width": 48,
        "gan_kimg": 700.0,
        "regressor_kimg": 150.0,
        "regressor_batch_size": 16,
        "regressor_lr": 5e-4,
        "inversion_kimg": 50.0,
        "inversion_perceptual_crop": 32,
        "directions_kimg": 16.0,
        "directions_preservation_weight": 30.0,
        "directions_calibrated_change": 0.48,
        "evaluate_judge_kimg": 130.0,
    },
}
# VGG16 sees 64 px and quarters of the photos, and the encoder ends at the same 256 channels, so
# that the stages after the GAN cost little more than celeba64's.
PRESETS["celeba128"] = PRESETS["celeba64"] | {
    "resolution": 128,
    "gan_kimg": 1300.0,
    "gan_width": 24,
    "gan_objective": "rpgan",
    "gan_g_lr": 2e-4,
    "gan_d_lr": 2e-4,
    "regressor_resolution": 64,
    "inversion_width": 16,
    "inversion_perceptual_crop": 64,
}
# For a GPU. FFHQ has no labels of its own: put a labels.csv beside the photos.
PRESETS["ffhq256"] = {
    "data": "folder",
    "resolution": 256,
    "gan_arch": "residual",
    "gan_width": 16,
    "gan_batch_size": 32,
    "gan_kimg": 3000.0,
    "regressor_kimg": 150.0,
    "inversion_kimg": 100.0,
    "inversion_width": 16,
    "directions_kimg": 16.0,
    "directions_preservation_weight": 30.0,
    "evaluate_judge_kimg": 130.0,
}
PRESETS["stylegan64"] = PRESETS["celeba64"] | {
    "gan_arch": "stylegan",
    "gan_kimg": 900.0,
    "gan_g_lr": 1e-3,
    "gan_objective": "rpgan",
}


def describe(preset: str) -> str:
    """The flags that a preset stands for."""
    return " ".join(f"--{flag}={text(value)}" for flag, value in PRESETS[preset].items())


def text(value: Any) -> str:
    """An option's value as it is written on the command line."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(text, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)
