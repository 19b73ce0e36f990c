"""The networks of `cgan_tf.networks.dcgan` and the textbook step of a GAN, in PyTorch.

Only for `benchmarks.train_step`. Imports nothing of TensorFlow, whose threads would compete with
PyTorch's.
"""

from collections.abc import Callable

import torch
from torch import nn

LOWEST, SLOPE = 4, 0.2  # as in cgan_tf.networks.dcgan
EPSILON, MOMENTUM = 1e-3, 0.1  # of Keras's batch norm; PyTorch's momentum is 1 - Keras's


class Generator(nn.Module):
    """Latent `[N, z_dim]` to image `[N, 3, R, R]`; `widths` are the channels, coarsest first."""

    def __init__(self, z_dim: int, widths: list[int]) -> None:
        super().__init__()
        self.dense = nn.Linear(z_dim, LOWEST * LOWEST * widths[0], bias=False)
        layers: list[nn.Module] = []
        for channels, following in zip(widths, [*widths[1:], 3], strict=True):
            layers += [
                nn.BatchNorm2d(channels, EPSILON, MOMENTUM),
                nn.LeakyReLU(SLOPE),
                nn.ConvTranspose2d(channels, following, 4, 2, 1, bias=following == 3),
            ]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self.start = (widths[0], LOWEST, LOWEST)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.layers(self.dense(latent).unflatten(1, self.start))


class MinibatchStd(nn.Module):
    """Appends a channel with the mean standard deviation within a group, computed in float32."""

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grouped = x.float().unflatten(0, (self.group, -1))
        deviation = (grouped.var(0, correction=0) + 1e-8).sqrt()  # [M, C, H, W]
        statistic = deviation.mean((1, 2, 3)).repeat(self.group)  # [N]
        channel = statistic[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return torch.cat([x, channel.to(x.dtype)], 1)


class Discriminator(nn.Module):
    """Image `[N, 3, R, R]` to logits `[N, 1]`; `widths` are the channels, coarsest first."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in reversed(widths):
            layers += [nn.Conv2d(before, channels, 4, 2, 1), nn.LeakyReLU(SLOPE)]
            before = channels
        dense = nn.Linear(LOWEST * LOWEST * (before + 1), 1)
        self.layers = nn.Sequential(*layers, MinibatchStd(), nn.Flatten(), dense)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


def textbook_step(
    resolution: int,
    z_dim: int,
    widths: list[int],
    batch_size: int,
    rates: tuple[float, float, float, float],
    best: bool,
    compiled: bool = False,
) -> tuple[Callable[[], float], tuple[int, int]]:
    """Builds one step: D on reals and on fakes, then G through D.

    Args:
        resolution: image size, px.
        z_dim: dimension of the latent.
        widths: channels of the feature maps, coarsest first.
        batch_size: N.
        rates: learning rates of G and D, and Adam's two betas.
        best: use channels_last, bfloat16 autocast and Adam's fused kernel; else plain float32.
        compiled: compile both models with `torch.compile`.

    Returns:
        The step, which returns the sum of its losses, and the number of weights of G and of D.
    """
    torch.manual_seed(0)
    g, d = Generator(z_dim, widths), Discriminator(widths)
    counts = tuple(sum(p.numel() for p in model.parameters()) for model in (g, d))
    reals = torch.rand(batch_size, 3, resolution, resolution) * 2 - 1
    if best:
        g, d, reals = (x.to(memory_format=torch.channels_last) for x in (g, d, reals))
    g_lr, d_lr, *betas = rates
    g_optimizer = torch.optim.Adam(g.parameters(), g_lr, betas, fused=best or None)
    d_optimizer = torch.optim.Adam(d.parameters(), d_lr, betas, fused=best or None)
    softplus = nn.functional.softplus
    run_g, run_d = (torch.compile(g), torch.compile(d)) if compiled else (g, d)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=best):
            with torch.no_grad():
                fakes = run_g(torch.randn(batch_size, z_dim))
            real_logits, fake_logits = run_d(reals), run_d(fakes)
        d_loss = softplus(-real_logits.float()).mean() + softplus(fake_logits.float()).mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        d.requires_grad_(False)  # G's step needs no gradient of D's weights
        with torch.autocast("cpu", torch.bfloat16, enabled=best):
            fake_logits = run_d(run_g(torch.randn(batch_size, z_dim)))
        g_loss = softplus(-fake_logits.float()).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        d.requires_grad_(True)
        return d_loss.item() + g_loss.item()

    return step, counts
