"""Where the time of drawing goes: by network and by kind of work, as XLA's own profiler saw it."""

import collections
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from benchmarks.programs import Row
from benchmarks.systems import PAPER, drawing
from wmgm_jax.core.errors import UserError
from wmgm_jax.runs import untrained

# The first that a name matches; names are those of Flax's modules and JAX's primitives.
_NETWORKS = {"score network": r"/UNet/", "generator": r"/AttentionUNet/", "elsewhere": ""}
_KINDS = {
    "products of Winograd's algorithm": r"Conv_\d+/(.*/)?dot_general$",
    "its transforms": r"Conv_\d+/(?!(.*/)?conv_general_dilated$)",
    "other convolutions": r"conv_general_dilated$",
    "projections of attention": r"Attention_\d+/Dense_\d+/",
    "attention itself": r"Attention_\d+/(?!GroupNorm|Dense)",
    "normalisation": r"Norm_\d+/",
    "dense layers of the time": r"Dense_\d+/",
    "activations, sums, copies": "",
}


def measure(config: ConfigDict, images: int) -> list[Row]:
    """A row for every network and kind of work, the longest first.

    Args:
        config: of WMGM.
        images: to draw at once, by the paper's 16 steps.

    Raises:
        UserError: a config of another system.
    """
    if config.system != "wmgm":
        raise UserError("--config must be of WMGM, of which the suite profile draws: see --help")
    program = drawing(untrained.model(config), images, PAPER)
    jax.block_until_ready(program.call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(program.call())
        seconds = by_instruction(Path(folder))
    names = origins(program.text)
    totals: collections.Counter = collections.Counter()
    for instruction, spent in seconds.items():
        if instruction in names:
            totals[kind(names[instruction])] += spent
    return [
        {"network": network, "work": work, "s": spent, "share": spent / totals.total()}
        for (network, work), spent in totals.most_common()
    ]


def by_instruction(folder: Path) -> Mapping[str, float]:
    """Seconds of every instruction in a trace, on all threads together."""
    seconds: collections.Counter = collections.Counter()
    for path in folder.rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                for event in line.events:
                    seconds[event.name] += event.duration_ns / 1e9
    return seconds


def origins(text: str) -> dict[str, str]:
    """Of a compiled program's instructions, the names under which they were traced.

    Those that only hold others - loops, calls - are left out: their time is that of the others.
    """
    found = re.findall(
        r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata=\{[^}]*op_name="([^"]*)"', text, re.M
    )
    return {
        name: origin
        for name, origin in found
        if not re.match(r"(while|call|conditional)(\.|$)", name)
    }


def kind(origin: str) -> tuple[str, str]:
    """The network and the kind of work of an instruction that was traced under this name."""
    network = next(name for name, pattern in _NETWORKS.items() if re.search(pattern, origin))
    return network, next(name for name, pattern in _KINDS.items() if re.search(pattern, origin))
