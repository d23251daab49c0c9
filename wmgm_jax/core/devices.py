"""Work on this host's devices: some arrays are whole on each, others split along the batch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH_AXIS = "batch"


def shardings(devices: Sequence[jax.Device]) -> tuple[NamedSharding, NamedSharding]:
    """(a copy on each device, an equal share of the leading axis on each)."""
    mesh = Mesh(np.array(devices), (BATCH_AXIS,))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(BATCH_AXIS))


def over_devices(
    function: Callable[[Any, Any], Any], devices: Sequence[jax.Device]
) -> Callable[[Any, Any], Any]:
    """One jitted program in which each device does its share of a batch, and knows of no other.

    Args:
        function: (what all images share, a batch) -> a batch; the batches are arrays `[b, ...]`, or
            trees of them, and image i of the result is a function of image i.
        devices: whose number divides b.

    Returns:
        What `function` is, for the whole batch.
    """
    whole, split = shardings(devices)
    # Left to itself XLA would gather the batch wherever images are taken a few at a time.
    share = jax.shard_map(
        function,
        mesh=whole.mesh,
        in_specs=(whole.spec, split.spec),
        out_specs=split.spec,
        check_vma=False,
    )
    return jax.jit(share, in_shardings=(whole, split), out_shardings=split)


def dividing(batch_size: int) -> tuple[jax.Device, ...]:
    """As many of the local devices as such a batch can be divided among."""
    return tuple(jax.local_devices()[: math.gcd(batch_size, jax.local_device_count())])
