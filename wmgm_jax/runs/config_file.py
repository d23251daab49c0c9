"""`config.json`: the settings of a run."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from wmgm_jax.config import compatibility
from wmgm_jax.config.validation import validate
from wmgm_jax.core.errors import UserError


def read_config(workdir: Path) -> ConfigDict:
    """The config of a run or of a pretrained model, as `config.json` in its folder holds it.

    Raises:
        UserError: the file is missing or damaged, or holds settings that do not exist.
    """
    path = workdir / "config.json"
    try:
        settings = json.loads(path.read_text())
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {workdir} is not the folder of a run") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    try:
        config = compatibility.from_json(settings)
        validate(config)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    return config
