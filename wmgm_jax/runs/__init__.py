"""The folder of a run: its config, its checkpoints, its metrics, and the model read from it."""

from wmgm_jax.runs.config_file import read_config
from wmgm_jax.runs.model import Model, load, pretrained, stage_models
from wmgm_jax.runs.run import (
    Run,
    check_same_model,
    check_same_units,
    open_run,
    open_sources,
    selected_stages,
)

__all__ = [
    "Model",
    "Run",
    "check_same_model",
    "check_same_units",
    "load",
    "open_run",
    "open_sources",
    "pretrained",
    "read_config",
    "selected_stages",
    "stage_models",
]
