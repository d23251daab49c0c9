"""The configs of several systems on the same images."""

import runpy
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from wmgm_jax.config.defaults import sibling
from wmgm_jax.config.registry import settings_of


def config_beside(path: str, system: str) -> ConfigDict | None:
    """The config of another system that stands beside a config file.

    Args:
        path: the file of a config, with the argument of its `get_config` after a colon, if any.
        system: the name of the other system.

    Returns:
        The config of the file NAME_SYSTEM.py or SYSTEM_NAME.py in the same folder; None where there
        is none.
    """
    file, _, argument = path.partition(":")
    folder, name = Path(file).parent, Path(file).stem
    for beside in (folder / f"{name}_{system}.py", folder / f"{system}_{name}.py"):
        if beside.is_file():
            return runpy.run_path(str(beside))["get_config"](*([argument] if argument else []))
    return None


def config_of_system(config: ConfigDict, system: str, path: str | None) -> ConfigDict:
    """The config of a system on the images of a config: that of the file beside it, or else its
    sibling, whose networks have the paper's sizes.

    Args:
        config: the config.
        system: the name of a system; for that of `config`, the result is a copy of it.
        path: the file of `config`, see `config_beside`; None where it has none.
    """
    if system == config.system:
        return config.copy_and_resolve_references()
    return (path and config_beside(path, system)) or sibling(config, system)


def apply_overrides(config: ConfigDict, overrides: Mapping[str, object]) -> None:
    """Changes a config by settings that were given for the config of another system.

    Settings of `score` hold for all score networks of the system. Settings of sections that the
    system does not have are left out.

    Args:
        config: changed in place.
        overrides: settings by key.
    """
    score_sections = settings_of(config.system).score_sections
    for key, value in overrides.items():
        section, *setting = key.split(".")
        for name in score_sections if section == "score" else (section,):
            if name in config:
                config.update_from_flattened_dict({".".join([name, *setting]): value})
