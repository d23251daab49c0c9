"""Sampling and training around PyTorch networks, with the arithmetic of our programs.

Tensors are `[B, C, H, W]`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import torch
from ml_collections import ConfigDict
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wmgm_jax.diffusion.process import OUProcess
from wmgm_jax.systems.scores import noise_level


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of Euler-Maruyama: x <- x + drift (x - 2 eps / sigma) + spread z, eps the network's
    answer to x at `level`."""

    level: float
    sigma: float
    drift: float
    spread: float


def schedule(process: OUProcess, num_steps: int) -> list[Step]:
    """The steps of `samplers.euler_maruyama` on a uniform grid."""
    times = process.times(num_steps)
    t, dt = jnp.asarray(times[:-1]), jnp.asarray(times[:-1] - times[1:])
    g = process.g(t)
    spread = (jnp.sqrt(2 * dt) * g).at[-1].set(0.0)
    columns = noise_level(process, t), process.sigma(t), g**2 * dt, spread
    return [Step(*map(float, row)) for row in zip(*columns, strict=True)]


def draw(
    networks: Mapping[str, torch.nn.Module],
    steps: list[Step],
    statistics: Mapping[str, torch.Tensor],
    shape: tuple[int, ...],
    noise: Callable[[tuple[int, ...]], torch.Tensor],
) -> torch.Tensor:
    """Images in [0, 1], `[B, C, H, W]`: Algorithm 2 as `sample_fn` computes it.

    Args:
        networks: `score`, and `generator` of the details.
        steps: from `schedule`.
        statistics: see `compute_statistics`; `[..., C]` as `[..., C, 1, 1]`.
        shape: of the coarsest band, `(B, C, h, w)`.
        noise: shape -> standard normal draws, in the order in which they are needed.
    """
    low_mean, low_std = statistics["low_mean"], statistics["low_std"]
    x = noise(shape)
    for step in steps:
        level = torch.full((len(x),), step.level, device=x.device)
        predicted = networks["score"](x, level)
        x = x + step.drift * (x - 2 / step.sigma * predicted)
        if step.spread:
            x = x + step.spread * noise(shape)
    levels = len(statistics["detail_std"])
    low = x * low_std[levels] + low_mean[levels]
    for k in range(levels, 0, -1):
        normalised = (low - low_mean[k]) / low_std[k]
        details = networks["generator"](torch.cat([normalised, noise(low.shape)], dim=1))
        low = inverse_haar(low, details * statistics["detail_std"][k - 1].flatten(0, 1))
    return torch.clamp((low + 1) / 2, 0, 1)


def inverse_haar(low: torch.Tensor, details: torch.Tensor) -> torch.Tensor:
    """`[B, C, h, w]` and the three bands `[B, 3 C, h, w]` -> `[B, C, 2 h, 2 w]`."""
    lh, hl, hh = details.chunk(3, dim=1)
    top, bottom, top_step, bottom_step = low + lh, low - lh, hl + hh, hl - hh
    corners = [top + top_step, top - top_step, bottom + bottom_step, bottom - bottom_step]
    return functional.pixel_shuffle(torch.stack(corners, dim=2).flatten(1, 2) / 2, 2)


def training_step(
    network: torch.nn.Module, optimizer: ConfigDict, ema_decay: float, loss: Callable
) -> Callable[[], torch.Tensor]:
    """A step of AdamW that minimises `loss()`, and of the average of the parameters.

    Args:
        network: in training mode.
        optimizer: its section of the config.
        ema_decay: of the average.
        loss: of the network, on what it holds.
    """
    adamw = torch.optim.AdamW(
        network.parameters(),
        lr=optimizer.learning_rate,
        betas=(optimizer.b1, optimizer.b2),
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        fused=True,
    )
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))

    def step() -> torch.Tensor:
        adamw.zero_grad()
        value = loss()
        value.backward()
        adamw.step()
        average.update_parameters(network)
        return value.detach()

    return step


def score_loss(network: torch.nn.Module, noised, level, noise) -> torch.Tensor:
    """Eq. 19: the noise of what is noised, predicted."""
    return functional.mse_loss(network(noised, level), noise)


def generator_loss(
    generator: torch.nn.Module,
    discriminator: torch.nn.Module,
    similarity: torch.nn.Module,
    scales: list[Mapping[str, Any]],
    settings: ConfigDict,
) -> torch.Tensor:
    """Eq. 21 in the domain of images.

    Args:
        generator, discriminator: in training mode.
        similarity: SSIM of two batches in [0, 1].
        scales: of each x_L^k its tensors `low`, `normalised` and `detail_std`, the `target`
            x_L^(k-1), and `shrink`, which brings that to [-1, 1].
        settings: `msal.paper` of the config.
    """
    total = 0.0
    for scale in scales:
        z = torch.randn_like(scale["normalised"])
        details = generator(torch.cat([scale["normalised"], z], dim=1)) * scale["detail_std"]
        fake = inverse_haar(scale["low"], details) / scale["shrink"]
        unlike = 1 - similarity((fake + 1) / 2, (scale["target"] + 1) / 2)
        judgement = torch.sigmoid(discriminator(fake)).mean()
        total = total + (
            settings.mse_weight * functional.mse_loss(fake, scale["target"])
            + settings.ssim_weight * unlike
            - settings.adversarial_weight * judgement
        )
    return total
