"""The networks of `cgan_tf.networks.dcgan` and the textbook step of a GAN, in PyTorch.

Only for `benchmarks.train_step`. Imports nothing of TensorFlow, whose threads would compete with
PyTorch's.
"""

from collections.abc import Callable
from typing import Any

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


def device() -> str:
    """The device that is measured: cuda if there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def product(size: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One bfloat16 product of square matrices, and the function that waits for the device."""
    matrix = torch.randn(size, size, device=device()).bfloat16()
    if device() == "cpu":
        return lambda: (matrix @ matrix)[0, 0].item(), lambda: None
    return lambda: matrix @ matrix, torch.cuda.synchronize


class TextbookStep:
    """One step: D on reals and on fakes, then G through D.

    On a CPU, a call reads its losses; on a GPU, only `finish` does, and waits for the device.

    Args:
        resolution: image size, px.
        z_dim: dimension of the latent.
        widths: channels of the feature maps, coarsest first.
        batch_size: N.
        rates: learning rates of G and D, and Adam's two betas.
        bfloat16: autocast; else float32, with TF32 on a GPU.
        plain: without channels_last, Adam's fused kernel and cuDNN's search for algorithms.
        mode: compile both models with `torch.compile` in this mode; None: eager.

    Attributes:
        weights: the number of weights of G and of D.
    """

    def __init__(
        self,
        resolution: int,
        z_dim: int,
        widths: list[int],
        batch_size: int,
        rates: tuple[float, float, float, float],
        bfloat16: bool = True,
        plain: bool = False,
        mode: str | None = None,
    ) -> None:
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")  # TF32; convolutions have it by default
        torch.backends.cudnn.benchmark = not plain
        self._device, self._bfloat16 = device(), bfloat16
        self._z_shape = (batch_size, z_dim)
        g, d = Generator(z_dim, widths).to(self._device), Discriminator(widths).to(self._device)
        self.weights = [sum(p.numel() for p in model.parameters()) for model in (g, d)]
        reals = torch.rand(batch_size, 3, resolution, resolution, device=self._device) * 2 - 1
        if not plain:
            g, d, reals = (x.to(memory_format=torch.channels_last) for x in (g, d, reals))
        g_lr, d_lr, *betas = rates
        fused = None if plain else True
        self._g_optimizer = torch.optim.Adam(g.parameters(), g_lr, betas, fused=fused)
        self._d_optimizer = torch.optim.Adam(d.parameters(), d_lr, betas, fused=fused)
        self._d, self._reals = d, reals
        self._run_g, self._run_d = (
            (torch.compile(g, mode=mode), torch.compile(d, mode=mode)) if mode else (g, d)
        )
        # CUDA graphs reuse the memory of their results: these marks say when.
        self._begin = torch.compiler.cudagraph_mark_step_begin if mode else lambda: None

    def __call__(self) -> None:
        """One step."""
        self._begin()
        with self._autocast():
            with torch.no_grad():
                fakes = self._run_g(self._latents())
            real_logits, fake_logits = self._run_d(self._reals), self._run_d(fakes)
        softplus = nn.functional.softplus
        d_loss = softplus(-real_logits.float()).mean() + softplus(fake_logits.float()).mean()
        self._d_optimizer.zero_grad()
        d_loss.backward()
        self._d_optimizer.step()

        self._d.requires_grad_(False)  # G's step needs no gradient of D's weights
        with self._autocast():
            fake_logits = self._run_d(self._run_g(self._latents()))
        g_loss = softplus(-fake_logits.float()).mean()
        self._g_optimizer.zero_grad()
        g_loss.backward()
        self._g_optimizer.step()
        self._d.requires_grad_(True)
        self._losses = d_loss.detach() + g_loss.detach()
        if self._device == "cpu":
            self._losses.item()

    def finish(self) -> None:
        """Reads the last losses, which waits for a GPU."""
        self._losses.item()
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device, torch.bfloat16, enabled=self._bfloat16)

    def _latents(self) -> torch.Tensor:
        return torch.randn(*self._z_shape, device=self._device)
