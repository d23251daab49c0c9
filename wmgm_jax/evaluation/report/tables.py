"""The tables of experiments: CSV for programs, Markdown for people."""

import csv
import io
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from wmgm_jax.core import files
from wmgm_jax.evaluation.report.headlines import HEADLINES
from wmgm_jax.evaluation.sets import Measures

_log = logging.getLogger("wmgm_jax.experiments")


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes `path` with the suffixes `.csv` and `.md`.

    Args:
        path: without a suffix.
        rows: their keys are the column heads; a missing value stays blank.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=_head(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path.with_suffix(".csv"), text.getvalue())
    files.write_text(path.with_suffix(".md"), markdown(rows))
    _log.info("wrote %s", path.with_suffix(".md"))


def read_table(path: Path, texts: Collection[str]) -> list[dict[str, object]]:
    """The rows of a table that `write_table` wrote, without blanks; none where there is no table.

    Args:
        path: without a suffix.
        texts: the columns whose values are no numbers.
    """
    path = path.with_suffix(".csv")
    if not path.exists():
        return []
    with path.open() as file:
        return [
            {key: text if key in texts else _number(text) for key, text in row.items() if text}
            for row in csv.DictReader(file)
        ]


def _number(text: str) -> int | float:
    return int(text) if text.isdecimal() else float(text)


def headlines(measures: Measures) -> dict[str, object]:
    """The headline values of an evaluation, by column head."""
    return {label: measures[name]["value"] for name, label in HEADLINES.items() if name in measures}


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table; floats have four digits."""
    head = _head(rows)
    lines = [head, ["---"] * len(head)]
    lines += [[_text(row.get(key, "")) for key in head] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def aligned(rows: Sequence[Mapping[str, object]]) -> str:
    """A table for the terminal; floats have four digits."""
    head = _head(rows)
    cells = [head, *([_text(row.get(key, "")) for key in head] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    # Text is aligned on the left, numbers on the right.
    names = [isinstance(rows[0].get(key), str) for key in head]
    return "".join(
        "  ".join(
            f"{cell:<{width}}" if is_name else f"{cell:>{width}}"
            for cell, width, is_name in zip(line, widths, names, strict=True)
        ).rstrip()
        + "\n"
        for line in cells
    )


def _head(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The keys of all rows, each after the keys that precede it in its row."""
    head: list[str] = []
    for row in rows:
        place = 0
        for key in row:
            if key not in head:
                head.insert(place, key)
            place = head.index(key) + 1
    return head


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
