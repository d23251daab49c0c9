"""Tables that an experiment leaves: CSV for programs, Markdown for eyes."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from wmgm_jax import files

_log = logging.getLogger("wmgm_jax.experiments")


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes `path` with the suffixes `.csv` and `.md`.

    Args:
        path: without a suffix.
        rows: all with the same keys, the heads of the columns.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path.with_suffix(".csv"), text.getvalue())
    files.write_text(path.with_suffix(".md"), markdown(rows))
    _log.info("wrote %s", path.with_suffix(".md"))


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table of rows with the same keys; fractions to four digits."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([_text(row[key]) for key in head] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
