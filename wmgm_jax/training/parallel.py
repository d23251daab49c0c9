"""Training on all devices of all hosts, by `jax.pmap` over the axis `BATCH_AXIS`.

The state is replicated: every device holds a copy of it, on a leading axis. The batch is split.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wmgm_jax.core.devices import BATCH_AXIS


def compiled(steps_fn: Callable, state, images: jax.Array) -> Callable:
    """Compiles (state, images) -> (state, metrics) of one device for all of them.

    Args:
        steps_fn: the function of one device.
        state: replicated.
        images: split, see `split_over_devices`.

    Returns:
        The function of replicated states and split images. It reuses the memory of its state.
    """
    return jax.pmap(steps_fn, BATCH_AXIS, donate_argnums=0).lower(state, images).compile()


def replicate(state):
    """A copy of a tree of arrays for every device of this host, on the leading axis."""
    copies = jax.local_device_count()
    return jax.tree.map(lambda x: _over_devices(np.broadcast_to(x, (copies, *np.shape(x)))), state)


def first_replica(x: jax.Array) -> jax.Array:
    """This host's first copy of a replicated array, where it lies."""
    return x.addressable_data(0)[0]


def rows_of_this_host(batch_size: int) -> slice:
    """Which images of a whole batch this host's devices take."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def split_over_devices(images: np.ndarray) -> jax.Array:
    """This host's `[K, b, H, W, C]` as `[devices, K, b / devices, H, W, C]`."""
    steps, devices = len(images), jax.local_device_count()
    parts = images.reshape(steps, devices, -1, *images.shape[2:])
    return _over_devices(parts.swapaxes(0, 1))


def _over_devices(x: np.ndarray) -> jax.Array:
    """One row of this host's array for each of its devices, laid out as `jax.pmap` wants it."""
    layout = NamedSharding(Mesh(np.array(jax.devices()), (BATCH_AXIS,)), PartitionSpec(BATCH_AXIS))
    return jax.make_array_from_process_local_data(layout, x)
