"""Networks for sampling: the same functions with less work.

With constant parameters, some work can be done once instead of at every call. Batch norm is folded
into the convolution before it (`layers.fold_batch_norm`). On a CPU, the kernels of wide 3x3
convolutions are transformed for Winograd's algorithm (`convolution.transform_kernels`). The layers
see in their variables what was done.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from wmgm_jax.networks.apply import apply_fn
from wmgm_jax.networks.convolution import TRANSFORMED, transform_kernels
from wmgm_jax.networks.layers import fold_batch_norm


def prepared(
    network: nn.Module, variables: Mapping[str, Any], images: int
) -> Callable[..., jax.Array]:
    """A network bound to constant parameters, ready for many calls.

    Args:
        network: a Flax module.
        variables: its collections: `params` and, with batch norm, `batch_stats`.
        images: number of images that the network will see, over all calls.

    Returns:
        `network.apply` in inference, bound to these variables: it takes the inputs only.
    """
    params = fold_batch_norm(variables["params"], variables.get("batch_stats", {}))
    constants = {"params": params, TRANSFORMED: transform_kernels(params, images)}
    # The type of `apply` allows for a second result, which it has only with mutable collections.
    return functools.partial(apply_fn(network), constants)
