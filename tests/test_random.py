"""Keys: one for a batch, or one per image."""

import jax
import jax.numpy as jnp
import numpy as np

from wmgm_jax.core.random import fold_in


def test_fold_in_takes_one_key_or_many_or_none():
    keys = jax.random.split(jax.random.key(0), 3)
    one_by_one = jnp.stack(
        [jax.random.fold_in(jax.random.fold_in(key, 5), jnp.int32(7)) for key in keys]
    )
    for found, expected in (
        (fold_in(keys, 5, jnp.int32(7)), one_by_one),
        (fold_in(keys[0], 5, 7), one_by_one[0]),
        (fold_in(keys), keys),
    ):
        assert found.shape == expected.shape
        np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(expected))
    assert fold_in(None, 5) is None
