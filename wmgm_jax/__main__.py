"""The command `wmgm_jax`, which is also `python -m wmgm_jax`: both run `wmgm_jax.main`."""

import os
import runpy
import sys


def main() -> None:
    """Does what `python -m wmgm_jax.main` does with the same arguments."""
    # As with `python -m`, a config file can import what lies in the current folder.
    sys.path.insert(0, os.getcwd())
    # absl finds the flags and the text of --help in the module that is called __main__.
    runpy.run_module("wmgm_jax.main", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
