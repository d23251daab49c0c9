"""Random draws from one key, or from one key per image.

With a key per image, an image depends on its own key alone: it is the same in any batch and on any
number of devices.
"""

import functools
from typing import overload

import jax


@overload
def fold_in(key: jax.Array, *data: jax.Array | int) -> jax.Array: ...


@overload
def fold_in(key: None, *data: jax.Array | int) -> None: ...


def fold_in(key, *data):
    """A new key, made by folding each of `data` in turn into an old one.

    Args:
        key: one key or `[B]` keys. None, which means no randomness, stays None.
        data: integers, the same for all keys.

    Returns:
        As many keys as `key` holds.
    """
    if key is None:
        return None
    fold = jax.random.fold_in if key.ndim == 0 else jax.vmap(jax.random.fold_in, (0, None))
    return functools.reduce(fold, data, key)


def fold_in_each(key: jax.Array, data: jax.Array) -> jax.Array:
    """A key for each of the integers `data` `[B]`, folded into one key: `[B]` keys."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, data)


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal draws of `shape` `[B, ...]`, from one key or from `[B]` keys."""
    if key.ndim == 0:
        return jax.random.normal(key, shape)
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(key)
