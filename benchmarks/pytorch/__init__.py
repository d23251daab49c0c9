"""Our networks and programs against the same work on the authors' PyTorch networks.

Where both should compute the same, that is checked first. Theirs is measured in both layouts that
PyTorch knows, and compared in the faster.
"""

import functools
import logging
from collections.abc import Collection, Iterator

import torch
from ml_collections import ConfigDict

from benchmarks.programs import Row
from benchmarks.pytorch.both import Both, Comparison
from benchmarks.pytorch.checkouts import Code
from benchmarks.pytorch.steps import generator_step, score_step
from benchmarks.systems import FOUR, PAPER, SIX
from benchmarks.timing import cpu_cores, paired_medians
from wmgm_jax.core.errors import UserError

_log = logging.getLogger("wmgm_jax.benchmarks")

# float32 sums of thousands of terms in another order, through a hundred layers.
_TOLERANCE = 1e-3
# As theirs is trained, whatever the config says.
_TRAINED = {
    "score.prediction": "noise",
    "score.loss": "paper",
    "msal.loss": "paper",
    "msal.generator.norm": "batch",
}
# Theirs has no other.
_NEEDED = {
    "system": "wmgm",
    "msal.learning": "adversarial",
    "msal.shared": True,
    "msal.paper.loss_domain": "image",
    "msal.paper.lipschitz": "sigmoid",
    "msal.generator.depth": 5,
    "train.dtype": "float32",
}


def measure(
    config: ConfigDict,
    code: Code,
    works: Collection[str],
    batch_size: int,
    images: int,
    repeats: int,
) -> list[Row]:
    """A row for every kind of work.

    Args:
        config: of WMGM, with settings that theirs can have; it is trained as theirs is.
        code: theirs.
        works: "passes", "drawing", "training" or some of them.
        batch_size: images in a pass of a network and in a training step.
        images: to draw at once.
        repeats: timings of each.

    Raises:
        UserError: settings that theirs cannot have.
    """
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(_TRAINED)
    for key, needed in _NEEDED.items():
        given = functools.reduce(lambda section, name: section[name], key.split("."), config)
        if given != needed:
            raise UserError(f"--config.{key} must be {needed!r} to compare, not {given!r}")
    torch.set_num_threads(cpu_cores())
    rows = []
    for comparison in _comparisons(Both(config, code, batch_size, images), works):
        if comparison.difference is not None and not comparison.difference < _TOLERANCE:
            raise RuntimeError(f"{comparison.what}: they differ by {comparison.difference:.2g}")
        # Threads of PyTorch's spin for a while when their work is done.
        contenders = {"ours": comparison.ours, **comparison.theirs}
        seconds = paired_medians(contenders, repeats, pause=0.2, calls=2)
        best = min(seconds[layout] for layout in comparison.theirs)
        _log.info("%s: ours %.3g s, theirs %.3g s", comparison.what, seconds["ours"], best)
        rows.append(
            {
                "work": comparison.what,
                "ours (s)": seconds["ours"],
                **{f"theirs, {layout} (s)": seconds[layout] for layout in comparison.theirs},
                "theirs / ours": best / seconds["ours"],
                "difference": "" if comparison.difference is None else comparison.difference,
            }
        )
    return rows


def _comparisons(both: Both, works: Collection[str]) -> Iterator[Comparison]:
    """One after the other, so that the memory of one is free for the next."""
    if "passes" in works:
        yield from both.passes()
    if "drawing" in works:
        yield from map(both.drawing, (PAPER, SIX, FOUR))
    if "training" in works:
        yield score_step(both)
        yield generator_step(both)
