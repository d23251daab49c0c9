"""What a config costs: parameters, bytes, and FLOPs to sample one image. Nothing is allocated."""

import json
import math
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from wmgm_jax.systems.interface import Sampling, System
from wmgm_jax.systems.registry import build


def report(config: ConfigDict) -> str:
    """A table of the networks of a config, and the same as JSON on the last line.

    Args:
        config: a validated config.

    Returns:
        Several lines: for every trained network its parameters and their bytes in float32, for
        every network that sampling calls its calls and FLOPs for one image, and the totals.
    """
    facts = summarise(config)
    rows = [("network", "parameters", "MB")]
    for name, count in facts["parameters"].items():
        rows.append((name, f"{count:,}", f"{count * 4 / 1e6:.1f}"))
    rows.append(("", "", ""))
    rows.append(("to sample one image", "calls", "GFLOPs"))
    for call in facts["sampling"]:
        rows.append((call["network"], str(call["calls"]), f"{call['flops'] / 1e9:.3f}"))
    rows.append(("total", "", f"{facts['flops_per_image'] / 1e9:.3f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows]
    return "\n".join([*lines, json.dumps(facts)])


def summarise(config: ConfigDict) -> dict:
    """The facts of `report` as a tree."""
    system = build(config)
    parameters = count_parameters(system)
    calls = []
    for call in system.network_calls(Sampling.of(config)):
        calls.append(
            {
                "network": call.network,
                "calls": call.count,
                "flops": call.count * flops(call.apply, *call.arguments),
            }
        )
    return {
        "system": config.system,
        "parameters": parameters,
        "parameter_bytes": 4 * sum(parameters.values()),
        "sampling": calls,
        "flops_per_image": sum(call["flops"] for call in calls),
    }


def flops(function: Callable, *arguments: Any) -> float:
    """FLOPs of a call by the definition of what it computes, as XLA counts before it optimises.

    Args:
        function: a pure function.
        arguments: trees of arrays or of their shapes.
    """
    # For a CPU some convolutions are written as fewer products, or as more.
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",))
    analysis = lowered.cost_analysis()
    if analysis is None:
        raise NotImplementedError("this version of JAX counts no FLOPs before it compiles")
    return analysis["flops"]


def count_parameters(system: System) -> dict[str, int]:
    """The parameters of every trained network, by its name."""
    parameters = {}
    for stage in system.stages.values():
        params, _ = jax.eval_shape(stage.init, jax.random.key(0))
        for name, tree in params.items():
            parameters[name] = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    return parameters
