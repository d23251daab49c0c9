"""A U-Net as the score of a noised distribution, its training by score matching, and its stage."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wmgm_jax.config import arguments
from wmgm_jax.core.random import fold_in
from wmgm_jax.diffusion import samplers
from wmgm_jax.diffusion.process import OUProcess, ScoreFunction
from wmgm_jax.losses.score_matching import NOISE_LEVELS, score_matching_loss
from wmgm_jax.networks import UNet, inference
from wmgm_jax.networks.apply import apply_fn
from wmgm_jax.systems.interface import Batch, NetworkCall, Objective, Params, Sampling, Stage


def build(
    config: ConfigDict,
    dtype: str,
    section: str,
    shape: tuple[int, int, int],
    condition_channels: int = 0,
) -> "ScoreModel":
    """The score model of a section of a validated config, with `prediction` and `network`.

    Args:
        config: the whole config.
        dtype: in which the network computes.
        section: the name of the section.
        shape: `(h, w, c)` of one x.
        condition_channels: channels of what the score is conditioned on.
    """
    settings = config[section]
    network = UNet(
        out_channels=shape[-1],
        rematerialise=config.train.rematerialise,
        dtype=jnp.dtype(dtype),
        **arguments(settings.network),
    )
    process = OUProcess(config.process.schedule, config.process.T)
    return ScoreModel(
        network, process, settings.prediction, settings.loss, shape, condition_channels
    )


def noise_level(process: OUProcess, t: jax.Array) -> jax.Array:
    """What the network is told of time: the angle of (alpha, sigma), from 0 to 1000; `[B]`.

    It is 1000 t for a cosine schedule and a function of the noise alone for every schedule, so
    that a network trained under one can be sampled under another.
    """
    return jnp.arctan2(process.sigma(t), process.alpha(t)) * (2000 / jnp.pi)


@dataclasses.dataclass(frozen=True)
class ScoreModel:
    """The score of X_t `[B, h, w, c]`, alone or given a condition; it holds no arrays.

    Attributes:
        network: U-Net with c output channels.
        process: the forward process.
        prediction: what the network predicts: "noise", eps, or "velocity", v = alpha eps -
            sigma X_0, for which eps = sigma x + alpha v and zero is the answer for white data.
        loss_name: a key of `NOISE_LEVELS`.
        shape: `(h, w, c)`.
        condition_channels: channels of the condition `[B, h, w, c']`, which the network sees
            beside x; 0 for none.
    """

    network: UNet
    process: OUProcess
    prediction: str
    loss_name: str
    shape: tuple[int, int, int]
    condition_channels: int = 0

    def init(self, key: jax.Array) -> Params:
        """The network's first parameters."""
        return self.network.init(key, *self._inputs())["params"]

    def score_function(
        self,
        params: Params,
        condition: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> ScoreFunction:
        """The score that the network stands for.

        Args:
            params: its parameters.
            condition: `[B, h, w, c']`, or None.
            dropout_keys: `[B]` keys in training, else None.

        Returns:
            `(x [B, h, w, c], t [B]) -> -eps / sigma`, of x's shape.
        """

        def call(x, level):
            return apply_fn(self.network)({"params": params}, x, level, dropout_keys)

        return self._score(call, condition)

    def _score(self, call: Callable[..., jax.Array], condition: jax.Array | None) -> ScoreFunction:
        """The score that a call of the network, (x, level) -> output, stands for."""

        def score_fn(x, t):
            seen = x if condition is None else jnp.concatenate([x, condition], axis=-1)
            output = call(seen, noise_level(self.process, t))
            alpha, sigma = (
                value(t)[:, None, None, None] for value in (self.process.alpha, self.process.sigma)
            )
            noise = sigma * x + alpha * output if self.prediction == "velocity" else output
            return -noise / sigma

        return score_fn

    def loss(
        self,
        params: Params,
        keys: jax.Array,
        x0: jax.Array,
        condition: jax.Array | None = None,
    ) -> jax.Array:
        """Score matching (Eq. 19), at one time an image.

        Args:
            params: of the network.
            keys: `[B]`.
            x0: `[B, h, w, c]`, of unit scale.
            condition: `[B, h, w, c']`, or None.

        Returns:
            A scalar, the mean over the batch.
        """
        levels = NOISE_LEVELS[self.loss_name]
        t = levels.times(self.process, fold_in(keys, 0))
        noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(fold_in(keys, 1))
        score_fn = self.score_function(params, condition, fold_in(keys, 2))
        loss = score_matching_loss(score_fn, self.process, x0, t, noise)
        return jnp.mean(levels.weight(self.process, t) * loss)

    def make_draw(self, sampling: Sampling) -> Callable[..., jax.Array]:
        """Makes the reverse process (Eq. 20), a pure function of

            (parameters of the network, keys `[B]`, condition `[B, h, w, c']` or None),

        which returns X_0 `[B, h, w, c]`.

        Raises:
            ValueError: an unknown sampler or spacing, or fewer steps than one.
        """
        sampler = samplers.find(sampling.sampler, sampling.num_steps)
        times = self.process.times(sampling.num_steps, sampling.spacing or sampler.spacing)
        num_calls = sampler.num_function_evaluations(sampling.num_steps)

        def draw(params, keys, condition=None):
            call = inference.prepared(self.network, {"params": params}, len(keys) * num_calls)
            score_fn, shape = self._score(call, condition), (len(keys), *self.shape)
            return samplers.sample(sampling.sampler, score_fn, self.process, times, keys, shape)

        return draw

    def stage(
        self,
        name: str,
        section: str,
        config: ConfigDict,
        target: Callable[[Batch], tuple[jax.Array, jax.Array | None]],
        generated_and_target: Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
        is_paired: bool = False,
    ) -> Stage:
        """The training of this model by itself.

        Args:
            name: of the stage, of its one objective and of its entry in the model's parameters.
            section: of the config, with the settings of the stage.
            config: the whole config.
            target: batch -> (x0, condition or None), as `loss` takes them.
            generated_and_target, is_paired: see `Stage`.
        """

        def loss(params, batch_stats, batch):
            value = self.loss(params[name], batch.keys, *target(batch))
            return value, ({f"{name}_loss": value}, batch_stats)

        return Stage(
            section=section,
            settings=config[section],
            init=lambda key: ({name: self.init(key)}, {}),
            objectives={name: Objective(loss, config[section].optimizer)},
            export=lambda params, batch_stats: {name: params[name]},
            generated_and_target=generated_and_target,
            is_paired=is_paired,
        )

    def network_call(self, name: str, sampling: Sampling) -> NetworkCall:
        """The work behind one draw: one call of the network for each call of the score."""
        inputs = self._inputs()
        params = jax.eval_shape(self.network.init, jax.random.key(0), *inputs)
        count = samplers.find(sampling.sampler).num_function_evaluations(sampling.num_steps)
        return NetworkCall(name, count, apply_fn(self.network), (params, *inputs))

    def _inputs(self) -> tuple[jax.Array, jax.Array]:
        height, width, channels = self.shape
        x = jnp.zeros((1, height, width, channels + self.condition_channels))
        return x, jnp.zeros(1)
