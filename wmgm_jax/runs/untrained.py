"""Networks that have learnt nothing, to be timed: they cost what trained ones do."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from wmgm_jax import systems
from wmgm_jax.core.codec import IMAGES
from wmgm_jax.runs.model import Model
from wmgm_jax.systems.interface import Stage


def model(config: ConfigDict) -> Model:
    """A model of a validated config."""
    system, params = systems.build(config), {}
    for stage in system.stages.values():
        params |= stage.export(*parameters(stage))
    shape = (1, *config.data.image_size, config.data.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    params["statistics"] = system.compute_statistics([IMAGES.to_unit_range(noise)])
    return Model(config, params, {})


def parameters(stage: Stage) -> Any:
    """Of the structure that `stage.init` returns, without the time that compiling that takes.

    No number is nought, as some are at first: kernels are about 0.02, and scales, variances, means
    and biases about 1.
    """
    random = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        x = random.standard_normal(leaf.shape, np.float32)
        return jax.device_put(0.02 * x if x.ndim > 1 else 1 + 0.1 * x)

    return jax.tree.map(draw, jax.eval_shape(stage.init, jax.random.key(0)))
