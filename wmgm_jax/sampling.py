"""Drawing images from a trained model."""

import functools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from wmgm_jax import systems
from wmgm_jax.core.codec import codec_of
from wmgm_jax.core.devices import BatchProgram, one_ahead, over_devices
from wmgm_jax.core.random import fold_in_each
from wmgm_jax.runs.model import Model
from wmgm_jax.systems.interface import Sampling

SampleFunction = Callable[[Any, jax.Array, int], jax.Array]

_log = logging.getLogger("wmgm_jax")


def make_sample_fn(
    config: ConfigDict,
    num_steps: int | None = None,
    sampler: str | None = None,
    spacing: str | None = None,
) -> SampleFunction:
    """Makes the sampler of a model: one jitted program from key to finished images.

    Args:
        config: of the model.
        num_steps: steps of the reverse process; None for the number in the config.
        sampler: a key of `samplers.SAMPLERS`; None for the one in the config.
        spacing: of the time grid, see `OUProcess.times`. None for the one in the config, or, if
            `sampler` is another one than in the config, for the sampler's own.

    Returns:
        `sample_fn(params, key, num)` -> float32 `[num, H, W, C]`: images in [0, 1], or fields in
        the units of the data, not clipped. num is static. Image i is a function of the parameters,
        the key and i; it does not depend on num.

    Raises:
        ValueError: an unknown sampler or spacing, or fewer steps than one.
        UserError: the model can be sampled in only one way, and not in this one.
    """
    draw = _make_draw(config, num_steps, sampler, spacing)

    @functools.partial(jax.jit, static_argnums=2)
    def sample_fn(params: Any, key: jax.Array, num: int) -> jax.Array:
        return draw(params, fold_in_each(key, jnp.arange(num)))

    return sample_fn


def make_batch_fn(
    config: ConfigDict,
    devices: Sequence[jax.Device],
    num_steps: int | None = None,
    sampler: str | None = None,
    spacing: str | None = None,
) -> BatchProgram:
    """Makes the sampler of a model as one jitted program over several devices.

    Args:
        config, num_steps, sampler, spacing: as for `make_sample_fn`.
        devices: each holds all parameters and draws an equal share of the images.

    Returns:
        `batch_fn((params, key), indices)` -> the images `[b, H, W, C]` of `make_sample_fn` with the
        int32 indices `[b]`. The number of devices divides b.
    """
    draw = _make_draw(config, num_steps, sampler, spacing)

    def draw_share(params_and_key, indices):
        params, key = params_and_key
        return draw(params, fold_in_each(key, indices))

    return over_devices(draw_share, devices)


def sample_batches(
    model: Model,
    key: jax.Array,
    num: int,
    *,
    num_steps: int | None = None,
    sampler: str | None = None,
    spacing: str | None = None,
) -> Iterator[np.ndarray]:
    """Draws any number of images, in batches that all local devices share.

    Args:
        model: a trained model; its config gives the batch size in `sampling.batch_size`.
        key: as for `sample_fn`, which draws the same images.
        num: how many images to draw.
        num_steps, sampler, spacing: see `make_sample_fn`.

    Yields:
        float32 `[b, H, W, C]` as from `sample_fn`, `num` images in all.
    """
    devices = jax.local_devices()
    # The last batch is filled up, so that one program serves all batches.
    share = -(-min(num, model.config.sampling.batch_size) // len(devices))
    batch_size = share * len(devices)

    start = time.monotonic()
    batch_fn = make_batch_fn(model.config, devices, num_steps, sampler, spacing)
    shared = batch_fn.share((model.params, key))

    def indices(first: int) -> jax.Array:
        return batch_fn.divide(jnp.arange(first, first + batch_size))

    program = batch_fn.lower(shared, indices(0)).compile()
    _log.info("sampling: compiled in %.0f s", time.monotonic() - start)
    drawn = ((first, program(shared, indices(first))) for first in range(0, num, batch_size))
    for first, images in one_ahead(drawn):
        yield np.asarray(images)[: num - first]


def draw_raw(model: Model, num: int, seed: int) -> Iterator[np.ndarray]:
    """Draws images as files hold them, in batches and with a progress bar.

    Args:
        model: a trained model.
        num: how many images to draw.
        seed: of the images.

    Yields:
        `[b, H, W, C]`, `num` images in all: uint8 images, or float32 fields in the units of the
        data.
    """
    with tqdm(total=num, desc="sampling", unit="image", disable=not sys.stderr.isatty()) as bar:
        for samples in sample_batches(model, jax.random.key(seed), num):
            yield model.codec.sample_file(samples)
            bar.update(len(samples))


def _make_draw(config, num_steps, sampler, spacing):
    defaults = Sampling.of(config)
    if spacing is None:
        spacing = defaults.spacing if sampler in (None, defaults.sampler) else ""
    draw = systems.build(config, dtype=config.sampling.dtype).make_draw(
        Sampling(
            defaults.sampler if sampler is None else sampler,
            defaults.num_steps if num_steps is None else num_steps,
            spacing,
        )
    )

    def draw_samples(params: Any, keys: jax.Array) -> jax.Array:
        return codec_of(params["statistics"]).to_sample(draw(params, keys))

    return draw_samples
