"""An experiment on the configs of `tests/tiny.py`, which train in seconds, and with fewer rows:

python -m tests.tiny_experiment choices|table1|table2|figure4|wavediff [flags]
"""

import importlib
import sys
from types import MappingProxyType

from tests import tiny
from wmgm_jax import cli
from wmgm_jax.config import registry


def system_config(config, system, choice=MappingProxyType({})):
    small = tiny.get_config(system)
    small.update_from_flattened_dict(choice)
    small.seed = config.seed
    for section in registry.settings_of(system).sections():
        small[section].num_steps = 2
    small.sampling.num_steps = 2
    if system == "wavediff":
        small.wavediff.denoising_steps = 2
    return small


if __name__ == "__main__":
    name = sys.argv.pop(1)
    module = importlib.import_module(f"experiments.{name}")
    if name == "choices":
        module.CHOICES = {stage: [rows[0], rows[-1]] for stage, rows in module.CHOICES.items()}
    else:
        if name == "table2":
            module.ROWS = {name: module.ROWS[name] for name in ("MS-OL", "SS-SL")}
        module.comparison.system_config = system_config
        # Counting takes as long as training, and has tests of its own.
        module.comparison.flops_of = lambda settings, stage, active: 1e12
    cli.run(module.main)
