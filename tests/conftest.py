import os
import tempfile

import pytest

# Compiling takes most of the time of the tests: the less is optimised, the sooner they are done.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_multi_thread_eigen=false"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = QUICK_COMPILATION
# And what one process has compiled, another need not. The first of a session makes the folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="wmgm_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# JAX reads the environment when it is imported.
from tests.commands import ROOT, Command, run_here  # noqa: E402

__all__ = ["ROOT", "TINY"]

TINY = "--config=tests/tiny.py"


@pytest.fixture
def start():
    """Starts `python -m wmgm_jax.main`, or another module, with flags, in a process of its own.

    Whatever still runs is killed at the end.
    """
    commands = []

    def start(*flags, module="wmgm_jax.main"):
        commands.append(Command(module, list(map(str, flags))))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()
        command.communicate()


@pytest.fixture
def run(start):
    """Runs a command to its end; returns (exit code, output, log).

    Within the process of the tests, but for flags that count once in a process: JAX wants to know
    the number of devices before anything else, and absl defines --help once.
    """

    def run(*flags, module="wmgm_jax.main"):
        flags = list(map(str, flags))
        if not any(flag.startswith(("--cpu_devices", "--help")) for flag in flags):
            return run_here(module, flags)
        command = start(*flags, module=module)
        output, log = command.communicate(timeout=600)
        return command.returncode, output, log

    return run
