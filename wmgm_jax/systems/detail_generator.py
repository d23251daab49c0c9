"""The generator of the details, one network for all scales.

    x_H^k = G(x_L^k, z^k),   z^k ~ N(0, I)

Bands reach the network with unit scale. One shared generator sees every scale, but the statistics
of batch norm differ between scales, so there is one set of them per scale.

`msal.learning` chooses between adversarial learning and the two that the paper compares it with
(Table 2, Appendix H.2). They replace G by another network with the same inputs, and have no
discriminator. Standard learning uses a plain U-Net, operator learning a Fourier neural operator.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wmgm_jax import wavelets
from wmgm_jax.config import arguments
from wmgm_jax.core.random import fold_in, normal
from wmgm_jax.networks import FNO, AttentionUNet, PlainUNet, inference
from wmgm_jax.systems.interface import Batch, NetworkCall, Params, Statistics
from wmgm_jax.systems.statistics import denormalise_details, normalise_low


class Learning(NamedTuple):
    """A way to learn the details.

    Attributes:
        network: the class of the generator.
        section: of `config.msal`, with the arguments of the network.
        is_adversarial: whether there is a discriminator.
    """

    network: Any
    section: str
    is_adversarial: bool


LEARNING = {
    "adversarial": Learning(AttentionUNet, "generator", is_adversarial=True),
    "standard": Learning(PlainUNet, "unet", is_adversarial=False),
    "operator": Learning(FNO, "fno", is_adversarial=False),
}


class DetailGenerator:
    """G, with or without parameters of its own for every scale. It holds no arrays.

    Attributes:
        scales: 1 (the finest) to S.
        network: the Flax module, `[B, h, w, C + noise channels] -> [B, h, w, 3C]`.
        is_adversarial: whether it is trained against a discriminator.
    """

    def __init__(self, config: ConfigDict, dtype: str):
        """
        Args:
            config: validated, with a section `msal`.
            dtype: in which the network computes.
        """
        settings = config.msal
        learning = LEARNING[settings.learning]
        self.scales = range(1, config.wavelet.levels + 1)
        self.is_adversarial = learning.is_adversarial
        self.network = learning.network(
            out_channels=3 * config.data.channels,
            rematerialise=config.train.rematerialise,
            dtype=jnp.dtype(dtype),
            **arguments(settings[learning.section]),
        )
        self._image_size, self._channels = config.data.image_size, config.data.channels
        self._noise_channels = settings.noise_per_channel * config.data.channels
        self._is_shared = settings.shared

    # --- Algorithm 2: sampling -------------------------------------------------------------------

    def generate_details(
        self, params: Params, keys: jax.Array, low: jax.Array, k: int
    ) -> wavelets.Details:
        """x_H^k = G(x_L^k, z^k), one pass.

        Args:
            params: of the model.
            keys: `[B]`, for z^k.
            low: x_L^k, `[B, h, w, C]`.
            k: the scale.

        Returns:
            Three of `[B, h, w, C]`.
        """
        statistics = params["statistics"]
        generate = inference.prepared(self.network, self.variables(params, k), images=len(keys))
        output = generate(self.inputs(keys, low, statistics, k), train=False)
        return denormalise_details(output, statistics, k)

    def variables(self, params: Params, k: int) -> dict[str, Params]:
        """The network's of scale k, from the entries `generator` and `batch_stats`."""
        return {
            "params": self.at_scale(params["generator"], k),
            "batch_stats": params["batch_stats"][scale_name(k)],
        }

    def inputs(self, keys: jax.Array, low: jax.Array, statistics: Statistics, k: int) -> jax.Array:
        """What the network sees: x_L^k `[B, h, w, C]`, normalised, and z^k."""
        z = normal(keys, (*low.shape[:-1], self._noise_channels))
        return jnp.concatenate([normalise_low(low, statistics, k), z], axis=-1)

    # --- Algorithm 1: training -------------------------------------------------------------------

    def pyramid(self, batch: Batch):
        """(k, (x_L^k, x_H^k)) of the images of a batch, from the finest scale on."""
        return enumerate(wavelets.pyramid(batch.images, self.scales[-1]), 1)

    def draw(
        self,
        params: Params,
        batch_stats: Params,
        keys: jax.Array,
        low: jax.Array,
        statistics: Statistics,
        k: int,
    ) -> tuple[jax.Array, Params]:
        """One draw in training.

        Args:
            params: by objective, with `generator`.
            batch_stats: the batch-norm averages, by scale.
            keys: `[B]`, for z^k.
            low: x_L^k, `[B, h, w, C]`.
            statistics: of the training set.
            k: the scale.

        Returns:
            Normalised x_H^k `[B, h, w, 3C]`, and the updated averages of this scale.
        """
        output, updated = self.network.apply(
            self.variables({**params, "batch_stats": batch_stats}, k),
            self.inputs(keys, low, statistics, k),
            train=True,
            mutable=["batch_stats"],
        )
        return output, updated.get("batch_stats", {})

    def init(self, key: jax.Array) -> tuple[Params, Params]:
        """The first parameters, and the batch-norm averages by scale."""

        def init_network(key):
            return self.network.init(key, self.example(1), train=False)

        batch_stats = init_network(key).get("batch_stats", {})
        params = self.shared_or_by_scale(lambda key: init_network(key)["params"], key)
        return params, {scale_name(k): batch_stats for k in self.scales}

    # --- scales ----------------------------------------------------------------------------------

    def shared_or_by_scale(
        self, init_network: Callable[[jax.Array], Params], key: jax.Array
    ) -> Params:
        """Parameters of a network: those that all scales share, or each scale's own."""
        if self._is_shared:
            return init_network(key)
        return {scale_name(k): init_network(fold_in(key, k)) for k in self.scales}

    def at_scale(self, params: Params, k: int) -> Params:
        """A network's parameters for scale k, of what `shared_or_by_scale` made."""
        return params if self._is_shared else params[scale_name(k)]

    def band_shape(self, k: int) -> tuple[int, int, int]:
        """`(h, w, C)` of x_L^k."""
        height, width = self._image_size
        return height // 2**k, width // 2**k, self._channels

    def example(self, k: int) -> jax.Array:
        """Zeros of the shape of one input of scale k."""
        height, width, channels = self.band_shape(k)
        return jnp.zeros((1, height, width, channels + self._noise_channels))

    def network_call(self, k: int) -> NetworkCall:
        """The work behind the details of scale k."""
        x = self.example(k)
        init = functools.partial(self.network.init, train=False)
        apply = functools.partial(self.network.apply, train=False)
        variables = jax.eval_shape(init, jax.random.key(0), x)
        return NetworkCall(f"generator, scale {k}", 1, apply, (variables, x))


def scale_name(k: int) -> str:
    """Of scale k in parameters and metrics."""
    return f"scale_{k}"
