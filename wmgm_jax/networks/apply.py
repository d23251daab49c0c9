"""A network as a function of its variables."""

from collections.abc import Callable
from typing import cast

import jax
from flax import linen as nn


def apply_fn(network: nn.Module) -> Callable[..., jax.Array]:
    """`network.apply` of a network that returns one array.

    Its type says so. Flax's own allows for what `mutable=...` adds to the result.
    """
    return cast(Callable[..., jax.Array], network.apply)
