"""Steps of training, ours and theirs. Their losses are not compared."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import training
from benchmarks.pytorch import tensors
from benchmarks.pytorch.both import Both, Comparison
from benchmarks.pytorch.loops import generator_loss, score_loss, training_step
from wmgm_jax import wavelets
from wmgm_jax.core.codec import IMAGES
from wmgm_jax.core.errors import UserError
from wmgm_jax.diffusion.process import perturb
from wmgm_jax.systems.interface import Stage
from wmgm_jax.systems.scores import noise_level
from wmgm_jax.systems.statistics import normalise_low


def score_step(both: Both) -> Comparison:
    stage = both.system.stages["score"]
    t = np.linspace(0.1, 1.0, both.batch_size, dtype=np.float32) * both.process.T
    low = wavelets.low(IMAGES.to_unit_range(both.pixels), both.levels)
    x0 = normalise_low(low, both.statistics, both.levels)
    noise = both.normal(both.levels, both.channels)
    theirs = {}
    for layout, network in both.copies("score").items():
        inputs = [tensors.tensor(x, layout) for x in (perturb(both.process, x0, t, noise), noise)]
        level = tensors.tensor(noise_level(both.process, t), layout)
        loss = functools.partial(score_loss, network.train(), inputs[0], level, inputs[1])
        theirs[layout] = _trained(both, network, "score", loss)
    what = f"step of score, {both.batch_size} images"
    return Comparison(what, _our_step(both, stage, ("score",)), theirs)


def generator_step(both: Both) -> Comparison:
    stage, settings = both.system.stages["msal"], both.config.msal.paper
    active = ("generator",)
    if active not in training.kinds(stage):
        raise UserError("--config.msal.paper.discriminator_every must be above 1 to compare")
    theirs, discriminators = {}, both.copies("discriminator")
    for layout, network in both.copies("generator").items():
        # Of theirs, the gradient would be computed only to be thrown away.
        discriminator = discriminators[layout].requires_grad_(False).train()
        loss = functools.partial(
            generator_loss,
            network.train(),
            discriminator,
            both.code.ssim.SSIM(),
            _scales(both, layout),
            settings,
        )
        theirs[layout] = _trained(both, network, "generator", loss)
    what = f"step of the generator, {both.batch_size} images"
    return Comparison(what, _our_step(both, stage, active), theirs)


def _scales(both: Both, layout: str) -> list[dict[str, Any]]:
    """What `generator_loss` sees of every scale."""
    images = IMAGES.to_unit_range(both.pixels)
    return [
        {
            "low": tensors.tensor(low, layout),
            "normalised": tensors.tensor(normalise_low(low, both.statistics, k), layout),
            "detail_std": tensors.per_channel(both.statistics["detail_std"])[k - 1].flatten(0, 1),
            "target": tensors.tensor(wavelets.low(images, k - 1) / 2 ** (k - 1), layout),
            "shrink": 2 ** (k - 1),
        }
        for k, (low, _) in enumerate(wavelets.pyramid(images, both.levels), 1)
    ]


def _our_step(both: Both, stage: Stage, active: tuple[str, ...]) -> Callable[[], Any]:
    programs = training.steps(stage, [active], both.statistics, both.pixels, "float32")
    return programs[active].call


def _trained(
    both: Both, network: torch.nn.Module, objective: str, loss: Callable
) -> Callable[[], torch.Tensor]:
    stage = "score" if objective == "score" else "msal"
    settings = both.system.stages[stage].settings
    optimizer = both.system.stages[stage].objectives[objective].optimizer
    return tensors.finished(training_step(network, optimizer, settings.ema_decay, loss))
