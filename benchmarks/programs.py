"""Compiled programs and the columns of a table that tell what running them costs."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import timing

Row = dict[str, object]


@dataclasses.dataclass(frozen=True)
class Program:
    """Work that is ready to be timed.

    Attributes:
        call: does it once.
        images: how many it draws or learns from.
        flops: of one call, see `cost.flops`.
        dtype: of the computation.
        compiling: seconds that it took.
        memory: bytes that XLA plans for at the peak of a call, the arguments included, on a device.
        devices: that it runs on.
        text: of the compiled program.
    """

    call: Callable[[], Any]
    images: int
    flops: float
    dtype: str
    compiling: float
    memory: int
    devices: int = 1
    text: str = ""

    def columns(self, seconds: float) -> Row:
        """The columns of a table, given the median seconds of a call."""
        rate = self.flops / seconds
        # The devices that a CPU pretends to have share its cores.
        devices = 1 if jax.default_backend() == "cpu" else self.devices
        peak = devices * timing.matrix_product_rate(self.dtype)
        return {
            "images": self.images,
            "s": seconds,
            "images/s": self.images / seconds,
            "GFLOP an image": self.flops / self.images / 1e9,
            "GFLOP/s": rate / 1e9,
            "share of peak": rate / peak,
            "planned memory (GB)": self.memory / 1e9,
            "compiling (s)": self.compiling,
        }


def compiled(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, float, int]:
    """A program, the seconds that compiling it took, and the bytes that it plans for."""
    start = time.perf_counter()
    program = lowered.compile()
    seconds = time.perf_counter() - start
    memory = program.memory_analysis()
    return (
        program,
        seconds,
        memory.temp_size_in_bytes
        + memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
    )
