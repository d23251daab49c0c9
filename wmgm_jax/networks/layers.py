"""Layers that several networks use, and the folding of batch norm for inference."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.networks.convolution import Conv

BATCH_NORM_EPSILON = 1e-5
_MOMENTUM, _LARGEST_R, _LARGEST_D = 0.99, 3.0, 5.0
LECUN_NORMAL = nn.initializers.lecun_normal()  # the default of Flax

NormKind = Literal["batch", "renorm", "group"]
# Those that have running statistics.
_RUNNING = ("batch", "renorm")


def group_norm(channels: int, epsilon: float = 1e-5, **kwargs: Any) -> nn.GroupNorm:
    """Group normalisation with at most 32 groups, each of at least 4 channels if possible."""
    largest = max(1, min(32, channels // 4))
    groups = next(n for n in range(largest, 0, -1) if channels % n == 0)
    return nn.GroupNorm(num_groups=groups, epsilon=epsilon, **kwargs)


class BatchRenorm(nn.Module):
    """Batch renormalisation (Ioffe 2017), https://arxiv.org/abs/1702.03275.

        (x - mu_B) / sigma_B * r + d,    r = sigma_B / sigma,    d = (mu_B - mu) / sigma

    mu_B and sigma_B are of the batch, mu and sigma the running ones, and r and d constants to the
    gradient. So training sees the function that sampling sees, (x - mu) / sigma, and has the
    gradient of batch norm. r and d are limited, because the running statistics begin far off.
    The parameters and statistics have the names of `nn.BatchNorm`.

    Attributes:
        dtype: of the result.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H, W, C]`."""
        shape = (x.shape[-1],)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        x = x.astype(jnp.float32)
        mean, deviation = running_mean.value, jnp.sqrt(running_var.value + BATCH_NORM_EPSILON)
        if not train:
            return ((x - mean) / deviation * scale + bias).astype(self.dtype)
        moments = (jnp.mean(x, (0, 1, 2)), jnp.mean(x**2, (0, 1, 2)))
        if not self.is_initializing():
            moments = jax.lax.pmean(moments, BATCH_AXIS)
        batch_mean, batch_var = moments[0], jnp.maximum(moments[1] - moments[0] ** 2, 0)
        batch_deviation = jnp.sqrt(batch_var + BATCH_NORM_EPSILON)
        r, d = jax.lax.stop_gradient((batch_deviation / deviation, (batch_mean - mean) / deviation))
        r, d = r.clip(1 / _LARGEST_R, _LARGEST_R), d.clip(-_LARGEST_D, _LARGEST_D)
        if not self.is_initializing():
            for running, new in ((running_mean, batch_mean), (running_var, batch_var)):
                running.value += (1 - _MOMENTUM) * (jax.lax.stop_gradient(new) - running.value)
        x = (x - batch_mean) / batch_deviation * r + d
        return (x * scale + bias).astype(self.dtype)


class Norm(nn.Module):
    """Normalisation with a scale and a bias per channel, computed in float32.

    Attributes:
        kind: "batch" and "renorm" (see `BatchRenorm`) keep running statistics in the collection
            `batch_stats`. In training they average the batch's own statistics over the devices of
            the axis `BATCH_AXIS`. "group" uses one image at a time.
        dtype: of the result.
    """

    kind: NormKind
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H, W, C]`."""
        if self.kind == "group":
            return group_norm(x.shape[-1], dtype=self.dtype)(x)
        if self.kind == "renorm":
            return BatchRenorm(self.dtype, name="BatchNorm_0")(x, train)
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=BATCH_NORM_EPSILON,
            axis_name=BATCH_AXIS,
            dtype=self.dtype,
            name="BatchNorm_0",
        )(x)


class NormalisedConv(nn.Module):
    """A convolution with a bias, then normalisation.

    Parameters that `fold_batch_norm` has folded have no `Norm_0`. With them, this is the
    convolution alone.

    Attributes:
        channels: of the result.
        kernel_size: of both axes.
        norm: see `Norm`.
        dtype: of the computation.
        padding: pixels at every border; "SAME" keeps H and W.
    """

    channels: int
    kernel_size: int
    norm: NormKind
    dtype: Any
    padding: str | int = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H', W', channels]`."""
        h = Conv(
            self.channels,
            (self.kernel_size, self.kernel_size),
            padding=self.padding,
            use_bias=False,
            dtype=self.dtype,
            name="Conv_0",
        )(x)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        if self.norm in _RUNNING:
            # Batch norm subtracts the mean and the bias with it. The bias's gradient is nothing but
            # rounding errors, which Adam would amplify to a random walk.
            bias = jax.lax.stop_gradient(bias)
        h += bias.astype(h.dtype)
        may_be_folded = self.norm in _RUNNING and not train and not self.is_initializing()
        if may_be_folded and not self.has_variable("params", "Norm_0"):
            return h
        return Norm(self.norm, self.dtype, name="Norm_0")(h, train)


def fold_batch_norm(params: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the same network, without its batch norms.

    Batch norm with running statistics is an affine map, so that it can be part of the convolution
    before it:

        (K * x + b - mean) s + beta = (K s) * x + (b - mean) s + beta,   s = gamma / sqrt(var + eps)

    Args:
        params: parameters of a network or of a part of it. Every batch norm is in a
            `NormalisedConv`.
        batch_stats: the running means and variances; empty without batch norm.
    """
    if "Norm_0" in batch_stats:  # these are of a `NormalisedConv`
        running, affine = (tree["Norm_0"]["BatchNorm_0"] for tree in (batch_stats, params))
        gain = affine["scale"] * jax.lax.rsqrt(running["var"] + BATCH_NORM_EPSILON)
        return {
            "Conv_0": {"kernel": params["Conv_0"]["kernel"] * gain},
            "bias": (params["bias"] - running["mean"]) * gain + affine["bias"],
        }
    folded = {name: fold_batch_norm(params[name], batch_stats[name]) for name in batch_stats}
    return {**params, **folded}


def numbered(
    layer: type[nn.Module], number: int, rematerialise: bool, static_argnums: tuple[int, ...] = ()
) -> Callable[..., nn.Module]:
    """A layer's constructor, with the name that Flax gives to the layer of this number.

    `nn.remat` changes the name of the class, after which Flax names the parameters. With an
    explicit name, the parameters have the same paths with and without rematerialisation.

    Args:
        layer: class of the layer.
        number: of the layer within its parent, from 0.
        rematerialise: whether the backward pass computes the layer's activations again.
        static_argnums: arguments of `__call__` that are Python values; `self` is number 0.
    """
    name = f"{layer.__name__}_{number}"
    if rematerialise:
        layer = nn.remat(layer, static_argnums=static_argnums)
    return functools.partial(layer, name=name)


class Dropout(nn.Module):
    """Dropout with one key per example: an example's mask depends on its own key alone.

    `flax.linen.Dropout` draws one mask for the whole batch. A run would then depend on how its
    batch is spread over devices.

    Attributes:
        rate: probability of a zero.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """
        Args:
            x: `[B, ...]`.
            keys: `[B]` keys in training; None for the identity.

        Returns:
            As x.
        """
        if keys is None or self.rate == 0.0:
            return x
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0)


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 maxima, `[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), C]`."""
    # The gradient of `nn.max_pool` is several times slower on a CPU.
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    x = jnp.maximum(x[:, 0::2], x[:, 1::2])
    return jnp.maximum(x[:, :, 0::2], x[:, :, 1::2])


def sinusoidal_embedding(level: jax.Array, size: int) -> jax.Array:
    """Cosines, then sines, of frequencies from 1 down to almost 1/10000.

    The position encoding of transformers (Vaswani et al. 2017), https://arxiv.org/abs/1706.03762.

    Args:
        level: `[B]`.
        size: even.

    Returns:
        float32 `[B, size]`.
    """
    half = size // 2
    frequencies = jnp.exp(-jnp.log(10000.0) * jnp.arange(half) / half)
    angles = level.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def timestep_embedding(t: jax.Array, size: int) -> jax.Array:
    """Sines, then cosines, of the time with frequencies from 1 down to exactly 1/10000.

    That of NCSN++ (Song et al. 2021), https://arxiv.org/abs/2011.13456.

    Args:
        t: `[B]`, from 0.
        size: even, at least 4.

    Returns:
        float32 `[B, size]`.
    """
    half = size // 2
    frequencies = jnp.exp(-jnp.log(10000.0) * jnp.arange(half) / (half - 1))
    angles = t.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class SelfAttention(nn.Module):
    """Multi-head self-attention between all pixels, added to its input.

    Attributes:
        num_heads: a divisor of the channels.
        dtype: of the computation.
        epsilon: of the group norm.
        kernel_init: draws the first kernel of queries, keys and values.
    """

    num_heads: int
    dtype: Any
    epsilon: float = 1e-5
    kernel_init: nn.initializers.Initializer = LECUN_NORMAL

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C] -> [B, H, W, C]`."""
        batch, height, width, channels = x.shape
        h = group_norm(channels, self.epsilon, dtype=self.dtype)(x)
        h = h.reshape(batch, height * width, channels)
        qkv = nn.Dense(3 * channels, kernel_init=self.kernel_init, dtype=self.dtype)(h)
        qkv = qkv.reshape(batch, height * width, 3, self.num_heads, channels // self.num_heads)
        h = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        h = nn.Dense(channels, kernel_init=nn.initializers.zeros, dtype=self.dtype)(
            h.reshape(batch, height * width, channels)
        )
        return x + h.reshape(x.shape)
