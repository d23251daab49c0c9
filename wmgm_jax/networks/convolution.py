"""The convolution of all networks: `nn.Conv`, computed on a CPU by the fastest algorithm.

`policy.py` chooses the algorithm. In training, every call looks at its shapes. For sampling,
`transform_kernels` transforms the kernels once; a `Conv` that is given a transformed kernel uses
it.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks import policy, winograd
from wmgm_jax.networks.policy import Algorithm

# The Flax collection of kernels that are transformed for Winograd's algorithm. A kernel has the
# same path in it as in `params`.
TRANSFORMED = "transformed_kernels"


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` as `nn.Conv` calls it, without dilation and groups.

    Args:
        x: `[B, H, W, C]`.
        kernel: `[h, w, C, D]`.
        strides: as for `conv_general_dilated`.
        padding: as for `conv_general_dilated`.
        options: the other arguments of `conv_general_dilated`.

    Returns:
        `[B, H', W', D]`.
    """
    xla = functools.partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    # With other strides, "SAME" pads one side only.
    by_a_pixel = list(padding) == [(1, 1), (1, 1)] or (padding == "SAME" and max(strides) == 1)
    algorithm = Algorithm.XLA
    if kernel.shape[:2] == (3, 3) and by_a_pixel and x.dtype == jnp.float32:
        algorithm = policy.POLICY.algorithm(x.shape, kernel.shape, tuple(strides))
    if algorithm is Algorithm.XLA:
        return xla(x, kernel)
    on_cpu = {
        Algorithm.PRODUCT: functools.partial(product_of_windows, stride=strides[0]),
        Algorithm.WINOGRAD: winograd.convolution,
    }[algorithm]
    return _by_platform(on_cpu, xla)(x, kernel)


def _by_platform(on_cpu: Callable, elsewhere: Callable) -> Callable:
    """A function of two arrays: `on_cpu` on a CPU, `elsewhere` on other devices.

    Its gradients are those of the function that runs.
    """

    def gradients(function):
        return lambda cotangent, *inputs: jax.vjp(function, *inputs)[1](cotangent)

    # Without a custom gradient, JAX would keep the residuals of both functions on every platform.
    @jax.custom_vjp
    def function(*inputs):
        return jax.lax.platform_dependent(*inputs, cpu=on_cpu, default=elsewhere)

    def backward(inputs, cotangent):
        return jax.lax.platform_dependent(
            cotangent, *inputs, cpu=gradients(on_cpu), default=gradients(elsewhere)
        )

    function.defvjp(lambda *inputs: (function(*inputs), inputs), backward)
    return function


def product_of_windows(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution with one pixel of zeros at every border, as one matrix product.

    Args:
        x: `[B, H, W, C]`.
        kernel: `[3, 3, C, D]`.
        stride: s, of both axes.

    Returns:
        `[B, ceil(H/s), ceil(W/s), D]`.
    """
    height, width, channels = x.shape[1:]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [
        x[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)
    ]
    return jnp.concatenate(places, axis=-1) @ kernel.reshape(9 * channels, -1)


class Conv(nn.Conv):
    """`nn.Conv` of images `[B, H, W, C]`, by the algorithm that `policy.py` chooses.

    The parameters are those of `nn.Conv`. If the collection `TRANSFORMED` holds this layer's
    kernel, and the layer keeps H and W in float32, it uses that one.
    """

    conv_general_dilated: Any = convolve

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """`[B, H, W, C] -> [B, H', W', features]`."""
        if _keeps_size(self) and self.has_variable(TRANSFORMED, "kernel"):
            bias = self.get_variable("params", "bias", 0.0)
            return winograd.conv3x3(inputs, self.get_variable(TRANSFORMED, "kernel")) + bias
        return super().__call__(inputs)


def _keeps_size(layer: Conv) -> bool:
    return (
        layer.strides in (None, 1, (1, 1))
        and layer.padding in ("SAME", 1)
        and layer.dtype in (None, jnp.float32)
    )


def transform_kernels(params: Mapping[str, Any], images: int) -> dict[str, Any]:
    """The collection `TRANSFORMED` for a network that runs with constant parameters.

    Args:
        params: the network's parameters.
        images: number of images that the network will see, over all calls.

    Returns:
        Transformed kernels at the paths of the kernels that `policy.py` chooses. On a device other
        than a CPU there are none.
    """
    if jax.default_backend() != "cpu":
        return {}
    transformed = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            transformed[name] = transform_kernels(value, images)
        elif name == "kernel" and policy.POLICY.transforms_once(value.shape, images):
            transformed[name] = winograd.transform_kernel(value)
    return transformed
