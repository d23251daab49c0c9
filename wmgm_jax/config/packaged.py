"""The config files that come with the package: where they are, and how they are found.

They are the folder `configs/` of a checkout, which an installed package holds as
`wmgm_jax/_configs/`.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED, _CHECKOUT = _PACKAGE / "_configs", _PACKAGE.parent / "configs"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def names() -> list[str]:
    """The configs that come with the package, by name: "afhq_cat", ..."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def resolve(config: str) -> str:
    """Where the file is that `--config` names.

    Args:
        config: a path, or the name of a config that comes with the package: "configs/colon_ihc.py",
            "colon_ihc.py" or "colon_ihc". What follows a colon is for the file's `get_config`.

    Returns:
        `config` where there is such a file, else with the path of the package's own file. Where
        there is neither, `config` as it is.
    """
    file, colon, argument = config.partition(":")
    path = Path(file)
    ours = path.parent in (Path(), Path("configs")) and path.suffix in ("", ".py")
    if path.is_file() or not ours or path.stem not in names():
        return config
    return f"{FOLDER / path.stem}.py{colon}{argument}"


def make_importable() -> None:
    """Makes `from configs import colon_ihc` work in config files, whatever the current folder is.

    A package `configs` of the user's own, and the modules in it, come first.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


class _Finder:
    """Finds `configs` and its modules where Python has found none."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "configs":
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(FOLDER)]
            return spec
        if name.startswith("configs."):
            return PathFinder.find_spec(name, [str(FOLDER)])
        return None
