import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# Compiling takes most of the time of the tests: the less is optimised, the sooner they are done.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = QUICK_COMPILATION
# And what one process has compiled, another need not. The first of a session makes the folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="wmgm_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

ROOT = Path(__file__).resolve().parent.parent
TINY = "--config=tests/tiny.py"


@pytest.fixture
def start():
    """Starts `python -m wmgm_jax.main`, or another module, with flags.

    Whatever still runs is killed at the end.
    """
    processes = []

    def start(*flags, devices=1, module="wmgm_jax.main", **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, flags)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "XLA_FLAGS": f"{QUICK_COMPILATION} "
                f"--xla_force_host_platform_device_count={devices}",
                **environment,
            },
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start):
    """Runs what `start` starts to its end; returns (exit code, output, log)."""

    def run(*flags, **kwargs):
        process = start(*flags, **kwargs)
        output, log = process.communicate(timeout=600)
        return process.returncode, output, log

    return run
