"""A trained model, and images from it."""

import functools
import itertools
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
from wmgm_jax.core.devices import BatchProgram, over_devices
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
        config: the model's.
        num_steps: steps of the reverse process; None for the config's.
        sampler: a key of `samplers.SAMPLERS`; None for the config's.
        spacing: of the time grid, see `OUProcess.times`; None for the config's, or for the
            sampler's own where that is not the config's.

    Returns:
        `sample_fn(params, key, num)` -> float32 `[num, H, W, C]` in [0, 1], or, of a model of
        fields, in the units of its data and not clipped; num is static. Image i is a function of
        the parameters, the key and i, whatever num is.

    Raises:
        ValueError: an unknown sampler or spacing, or fewer steps than one.
        UserError: a model that is sampled in one way alone, and not in this one.
    """
    draw = _make_draw(config, num_steps, sampler, spacing)

    @functools.partial(jax.jit, static_argnums=2)
    def sample_fn(params: Any, key: jax.Array, num: int) -> jax.Array:
        return draw(params, _image_keys(key, jnp.arange(num)))

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
        devices: each of them holds all parameters, and draws an equal share of the images.

    Returns:
        `batch_fn((params, key), indices)` -> images `[b, H, W, C]` as of `make_sample_fn`, those of
        the int32 indices `[b]`; b is a multiple of the number of devices.
    """
    draw = _make_draw(config, num_steps, sampler, spacing)

    def draw_share(params_and_key, indices):
        params, key = params_and_key
        return draw(params, _image_keys(key, indices))

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
    """Draws any number of images in batches that are spread over all local devices.

    Args:
        model: a trained model; `sampling.batch_size` of its config is the size of a batch.
        key: as for `sample_fn`, which draws the same images.
        num: how many.
        num_steps, sampler, spacing: see `make_sample_fn`.

    Yields:
        float32 `[b, H, W, C]` as `sample_fn` returns, `num` images in all.
    """
    devices = jax.local_devices()
    # The last batch is filled up, so that one program serves them all.
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
    # The devices begin with a batch before the host takes the one before it.
    for (first, images), _ in itertools.pairwise(itertools.chain(drawn, [None])):
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


def _image_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)
