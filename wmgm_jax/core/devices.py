"""Work divided among this host's devices: each has all parameters and a share of the batch."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH_AXIS = "batch"

T = TypeVar("T")


def shardings(devices: Sequence[jax.Device]) -> tuple[NamedSharding, NamedSharding]:
    """The shardings of (a copy on each device, an equal share of the leading axis on each)."""
    mesh = Mesh(np.array(devices), (BATCH_AXIS,))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(BATCH_AXIS))


@dataclasses.dataclass(frozen=True)
class BatchProgram:
    """A jitted function of a batch, in which each device computes its share; see `over_devices`.

    Attributes:
        program: the jitted function (shared, batch) -> batch.
        whole: where `shared` lies: a copy on each device.
        split: where a batch lies: an equal share on each device.
    """

    program: Any
    whole: NamedSharding
    split: NamedSharding

    def __call__(self, shared: Any, batch: Any) -> Any:
        """Moves the arguments to the devices, unless they are there, and computes.

        Args:
            shared: a tree of arrays that all examples share.
            batch: a tree of arrays `[b, ...]`; the number of devices divides b.

        Returns:
            A tree of arrays `[b, ...]`, divided among the devices.
        """
        # Moved here, because with several hosts JAX does not divide NumPy arrays by itself.
        return self.program(self.share(shared), self.divide(batch))

    def share(self, tree: Any) -> Any:
        """A copy of a tree of arrays on each device."""
        return jax.device_put(tree, self.whole)

    def divide(self, batch: Any) -> Any:
        """A tree of arrays `[b, ...]`, an equal share on each device."""
        return jax.device_put(batch, self.split)

    def lower(self, shared: Any, batch: Any) -> jax.stages.Lowered:
        """The program lowered for such arguments, ready to be compiled ahead of its first call."""
        return self.program.lower(shared, batch)

    def in_batches(self, shared: Any, examples: Any, batch_size: int) -> Any:
        """The results for any number of examples, computed `batch_size` at a time.

        Args:
            shared: as for a call.
            examples: a tree of arrays `[N, ...]`; the number of devices divides `batch_size`
                and N.
            batch_size: examples in a batch; the last batch may have fewer.

        Returns:
            A tree of NumPy arrays `[N, ...]`.
        """
        shared, count = self.share(shared), len(jax.tree.leaves(examples)[0])
        batches = [
            self(shared, jax.tree.map(lambda x, rows=rows: x[rows], examples))
            for rows in (slice(i, i + batch_size) for i in range(0, count, batch_size))
        ]
        return jax.tree.map(lambda *parts: np.concatenate(parts), *jax.device_get(batches))


def over_devices(
    function: Callable[[Any, Any], Any], devices: Sequence[jax.Device]
) -> BatchProgram:
    """Makes one jitted program of which each device computes its share, independent of the others.

    Args:
        function: (shared, batch) -> batch. The batches are arrays `[b, ...]` or trees of them, and
            example i of the result depends on example i alone.
        devices: their number divides b.
    """
    whole, split = shardings(devices)
    # Without `shard_map` XLA would gather the batch wherever images are taken a few at a time.
    share = jax.shard_map(
        function,
        mesh=whole.mesh,
        in_specs=(whole.spec, split.spec),
        out_specs=split.spec,
        check_vma=False,
    )
    program = jax.jit(share, in_shardings=(whole, split), out_shardings=split)
    return BatchProgram(program, whole, split)


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each yielded after the next one was made.

    If making an item only starts work on the devices, they have work while the host waits for the
    item before.
    """
    pending: list[T] = []
    for item in items:
        yield from pending
        pending = [item]
    yield from pending


def dividing(batch_size: int) -> tuple[jax.Device, ...]:
    """As many local devices as divide a batch of this size."""
    return tuple(jax.local_devices()[: math.gcd(batch_size, jax.local_device_count())])
