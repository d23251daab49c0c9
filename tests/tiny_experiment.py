"""The comparisons of systems on those of `tests/tiny.py`, which train in seconds:

python -m tests.tiny_comparison table1|figure4 [flags]
"""

import importlib
import sys

from experiments import comparison
from tests import tiny
from wmgm_jax import cli


def system_config(config, system):
    small = tiny.get_config(system)
    small.seed = config.seed
    for section in ("score", "details", "msal"):
        if section in small:
            small[section].num_steps = 2
    small.sampling.num_steps = 2
    return small


if __name__ == "__main__":
    comparison.system_config = system_config
    module = importlib.import_module(f"experiments.{sys.argv.pop(1)}")
    cli.run(module.main)
