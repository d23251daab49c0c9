"""The HTML of `report.html`: one page that contains all its pictures and styles."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto;
       max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { max-width: 46rem; } .facts { color: #666; margin-top: .2rem; }
img, svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .9rem; border-bottom: 1px solid #e3e3e3; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 600; border-bottom-color: #999; }
details { margin-top: 1rem; } summary { cursor: pointer; color: #0072B2; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 12px; }
.scroll { overflow-x: auto; }
"""


def page(title: str, facts: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page.

    Args:
        title, facts: plain text.
        sections: (heading in plain text, HTML of the body).
    """
    body = "".join(f"<section><h2>{escape(head)}</h2>{html}</section>" for head, html in sections)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="facts">{escape(facts)}</p>{body}</body></html>\n'
    )


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def picture(image: np.ndarray, text: str) -> str:
    """A uint8 image `[H, W, C]` as PNG, with an alternative text."""
    data = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(data, "PNG")
    encoded = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{encoded}">'


def plot(figure: "Figure") -> str:
    """A matplotlib figure as SVG."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return f'<div class="scroll">{svg[svg.index("<svg") :]}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table>{body}</table></div>'


def measures_table(measures: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """A table with a row for each measure that is in `labels`."""
    rows = []
    for name, label in labels.items():
        if name not in measures:
            continue
        measure = measures[name]
        low_high, training = measure["interval"], measure["training"]
        rows.append(
            [
                label,
                f"{measure['value']:.4g}",
                "" if low_high is None else "{:.4g} to {:.4g}".format(*low_high),
                "" if training is None else f"{training:.4g}",
                "{:,} / {:,}".format(*measure["images"]),
            ]
        )
    head = ["measure", "value", "95% interval", "training images", "images / reference"]
    return table(head, rows)


def folded(label: str, tree: object) -> str:
    """JSON that unfolds at a click on the label."""
    text = escape(json.dumps(tree, indent=2))
    return f"<details><summary>{escape(label)}</summary><pre>{text}</pre></details>"
