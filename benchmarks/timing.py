"""How the benchmarks measure: every contender in turn, in one process, by its median."""

import functools
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

Contenders = Mapping[str, Callable[[], Any]]


def paired_medians(
    contenders: Contenders, repeats: int, pause: float = 0.0, calls: int = 1
) -> dict[str, float]:
    """The median seconds of each call, all of them timed once in every round.

    Whatever else the machine does then falls on all of them alike. A round before the first is not
    counted: in it programs compile and memory is touched for the first time.

    Args:
        contenders: calls by name; of what they return, arrays of JAX are waited for.
        repeats: rounds.
        pause: seconds of rest before each turn, in which threads of the one before fall asleep.
        calls: in a turn; the last is timed. The first may have to ask again for memory that another
            library's contender took or gave back.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with tqdm(total=(1 + repeats) * len(contenders), leave=False) as bar:
        for index in range(1 + repeats):
            for name, call in contenders.items():
                bar.set_description(name, refresh=False)
                time.sleep(pause)
                for _ in range(calls - 1):
                    jax.block_until_ready(call())
                start = time.perf_counter()
                jax.block_until_ready(call())
                elapsed = time.perf_counter() - start
                if index > 0:
                    seconds[name].append(elapsed)
                bar.update()
    return {name: statistics.median(values) for name, values in seconds.items()}


@functools.cache
def matrix_product_rate(dtype: str = "float32", precision: str | None = None) -> float:
    """FLOP/s of the best of five large matrix products.

    Args:
        dtype: of the factors and of the product.
        precision: as for `jnp.dot`; None for the backend's own, in which the networks compute.
    """
    side = 2048 if jax.default_backend() == "cpu" else 8192
    product = jax.jit(lambda x: jnp.dot(x, x, precision=precision))
    x = jnp.ones((side, side), dtype)
    product(x).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        product(x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)


def machine() -> str:
    """A line that says what the numbers below it were measured on."""
    dtypes = ["float32"] + ["bfloat16"] * (jax.default_backend() == "gpu")
    rates = ", ".join(f"{matrix_product_rate(dtype) / 1e9:.0f} in {dtype}" for dtype in dtypes)
    kind = jax.devices()[0].device_kind
    cores = f" of {cpu_cores()} cores" if jax.default_backend() == "cpu" else ""
    return (
        f"{jax.device_count()} x {kind}{cores}, jax {jax.__version__}, matrix product (GFLOP/s): "
        f"{rates}"
    )


def cpu_cores() -> int:
    """Those that this process may run on."""
    # Not on every system can a process be confined to some of them.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory() -> float:
    """Of this process until now, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
