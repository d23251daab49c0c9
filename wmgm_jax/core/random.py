"""Random draws from one key, or from one key an image: an image then depends on its key alone."""

import jax


def fold_in_each(keys: jax.Array | None, data: int) -> jax.Array | None:
    """A new key for every example: `[B]` keys, or None, which stays None."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, data))(keys)


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal draws of `shape` `[B, ...]`, from one key or from `[B]` keys."""
    if key.ndim == 0:
        return jax.random.normal(key, shape)
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(key)


def fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
    """`jax.random.fold_in` of one key or of `[B]` keys."""
    if key.ndim == 0:
        return jax.random.fold_in(key, data)
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(key, data)
