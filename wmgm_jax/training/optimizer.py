"""Optimizers, from their section of the config."""

import math

import optax
from ml_collections import ConfigDict

from wmgm_jax.systems.interface import Stage


def make_optimizer(settings: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """AdamW (Adam where `weight_decay` is 0) after clipping, with warm-up and decay.

    Args:
        settings: the optimizer's section of the config.
        num_steps: updates in the whole run, after which a cosine has reached 0.
    """
    rate = settings.learning_rate
    if settings.decay == "cosine":
        schedule = optax.cosine_decay_schedule(rate, max(1, num_steps - settings.warmup_steps))
    else:
        schedule = optax.constant_schedule(rate)
    if settings.warmup_steps:
        # From the first step on: a rate of 0 would waste it.
        warmup = optax.linear_schedule(
            rate / settings.warmup_steps, rate, settings.warmup_steps - 1
        )
        schedule = optax.join_schedules([warmup, schedule], [settings.warmup_steps])
    adamw = optax.adamw(
        schedule,
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    if not settings.clip_norm:
        return adamw
    return optax.chain(optax.clip_by_global_norm(settings.clip_norm), adamw)


def make_optimizers(stage: Stage) -> dict[str, optax.GradientTransformation]:
    """The optimizer of every objective of a stage, by name."""
    return {
        name: make_optimizer(each.optimizer, math.ceil(stage.settings.num_steps / each.every))
        for name, each in stage.objectives.items()
    }
