"""Networks as sampling evaluates them: the same functions by less work.

Batch norm by running statistics is an affine map, and is folded into the convolution before it. On
a CPU, 3x3 convolutions of many channels run by Winograd's minimal filtering. Both change the
parameters once, before the first evaluation; the network's own code runs as it stands, with the
layers that they concern replaced.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from wmgm_jax.networks import winograd
from wmgm_jax.networks.layers import BATCH_NORM_EPSILON, Norm

# Below so many channels, in or out, the transforms of a tile cost more than the products that they
# save; below so many images, those of the kernels do.
_WINOGRAD_CHANNELS = 48
_WINOGRAD_IMAGES = 8


def prepared(
    network: nn.Module, variables: Mapping[str, Any], images: int
) -> Callable[..., jax.Array]:
    """A network with its parameters, ready to be evaluated many times.

    Args:
        network: a Flax module.
        variables: its collections: `params` and, of a network with batch norm, `batch_stats`.
        images: how many it is going to see, in all evaluations together.

    Returns:
        What `network.apply` is in inference, with these variables: it takes the inputs alone.
    """
    params = fold(variables["params"], variables.get("batch_stats", {}))
    kernels = {}
    if jax.default_backend() == "cpu" and images >= _WINOGRAD_IMAGES:
        kernels = {
            path[:-1]: winograd.transform_kernel(kernel)
            for path, kernel in flatten_dict(params).items()
            if _is_worth_it(path, kernel)
        }

    def replace(call, args, kwargs, context):
        layer, path = context.module, context.module.path
        if context.method_name == "__call__":
            if isinstance(layer, Norm) and layer.kind == "batch":
                return args[0]
            if isinstance(layer, nn.Conv) and path in kernels and _keeps_size(layer):
                bias = layer.variables["params"].get("bias", 0.0)
                return winograd.conv3x3(args[0], kernels[path]) + bias
        return call(*args, **kwargs)

    def apply(*args, **kwargs):
        with nn.intercept_methods(replace):
            return network.apply({"params": params}, *args, **kwargs)

    return apply


def fold(params: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the same network without its batch norms.

        (K * x + b - mean) s + beta = (K s) * x + (b - mean) s + beta,   s = gamma / sqrt(var + eps)

    Args:
        params: in which a `NormalisedConv` has a `Conv_0`, a `bias` and a `Norm_0`.
        batch_stats: the running means and variances; empty where the network has no batch norm.
    """
    params, batch_stats = flatten_dict(params), flatten_dict(batch_stats)
    for *layer, _, _, name in list(batch_stats):
        if name == "mean":
            norm = (*layer, "Norm_0", "BatchNorm_0")
            mean, variance = batch_stats[*norm, "mean"], batch_stats[*norm, "var"]
            gain = params.pop((*norm, "scale")) * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
            beta = params.pop((*norm, "bias"))
            params[*layer, "Conv_0", "kernel"] *= gain
            params[*layer, "bias"] = (params[*layer, "bias"] - mean) * gain + beta
    return unflatten_dict(params)


def _is_worth_it(path: tuple[str, ...], kernel: jax.Array) -> bool:
    """Whether a parameter is a kernel whose convolution is faster by Winograd's algorithm."""
    return (
        path[-1] == "kernel"
        and kernel.shape[:-2] == (3, 3)
        and min(kernel.shape[-2:]) >= _WINOGRAD_CHANNELS
    )


def _keeps_size(layer: nn.Conv) -> bool:
    return (
        layer.strides in (None, 1, (1, 1))
        and layer.padding in ("SAME", 1)
        and layer.dtype in (None, jnp.float32)
    )
