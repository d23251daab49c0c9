"""How the API pages read this project's docstrings."""

import re

from griffe import Extension, Function, Module

_RETURNS = re.compile(r"((?:Returns|Yields):\n\s+)(?=\S)")


class Docstrings(Extension):
    """Descriptions of results are plain sentences; a re-exported name is described once."""

    def on_function(self, *, func: Function, **_) -> None:
        """Marks the description of a result: it holds no type, whatever colons it has."""
        if func.docstring is not None:
            func.docstring.value = _RETURNS.sub(r"\1: ", func.docstring.value)

    def on_module(self, *, mod: Module, **_) -> None:
        """Leaves out of a folder's `__init__` the names that its own files define."""
        if mod.is_init_module and mod.parent is not None:
            for name, member in list(mod.members.items()):
                if member.is_alias and member.target_path.startswith(mod.path + "."):
                    del mod.members[name]
