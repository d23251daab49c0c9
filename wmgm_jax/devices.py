"""How arrays lie on this host's devices: whole on each, or split along the batch."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wmgm_jax.networks.layers import BATCH_AXIS


def shardings(devices: Sequence[jax.Device]) -> tuple[NamedSharding, NamedSharding]:
    """(a copy on each device, an equal share of the leading axis on each)."""
    mesh = Mesh(np.array(devices), (BATCH_AXIS,))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(BATCH_AXIS))


def dividing(batch_size: int) -> list[jax.Device]:
    """As many of the local devices as such a batch can be divided among."""
    return jax.local_devices()[: math.gcd(batch_size, jax.local_device_count())]
