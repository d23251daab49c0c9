"""Adds to the site what lies outside of docs/: experiment results, CONTRIBUTING and CHANGELOG.

Links are written so that they work in the repository; here they become links within the site.
"""

import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / "experiments" / "results"
_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files, config):
    """Adds the files."""
    sources = {f"results/{path.relative_to(_RESULTS).as_posix()}": path for path in _results()}
    sources |= {page: _ROOT / name for name, page in _PAGES.items()}
    for uri, path in sources.items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, **_):
    """Turns links of the repository into links of the site, and gives tables a title."""
    uri = page.file.src_uri
    if uri in _PAGES.values():
        markdown = re.sub(r"\]\(docs/", "](", markdown)
    for name, target in _PAGES.items():
        markdown = re.sub(rf"\]\((?:\.\./)*{re.escape(name)}", f"]({target}", markdown)
    markdown = re.sub(r"\]\((?:\.\./)?experiments/results/", "](results/", markdown)
    if uri.startswith("results/") and not markdown.startswith("# "):
        experiment, table = PurePosixPath(uri).parent.name, PurePosixPath(uri).stem
        title = f"# {experiment}: {table.replace('_', ' ')}"
        about = "[Experiments](../../experiments.md) says how this was made and what it means."
        markdown = f"{title}\n\n{about}\n\n{markdown}"
        page.meta["hide"] = ["toc"]  # room for wide tables
    return markdown


def _results():
    return sorted(path for path in _RESULTS.rglob("*") if path.suffix in (".md", ".png"))
