import os

import pytest

from tests.commands import ROOT, Command, run_here

# Compiling takes most of the time of the tests, and less time without optimisation.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_multi_thread_eigen=false"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = QUICK_COMPILATION
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

__all__ = ["ROOT", "TINY"]

TINY = "--config=tests/tiny.py"

# The files that take more than 25 s of CPU time. The longest come first, so that two workers end at
# about the same time.
LONGEST = (
    "test_experiments",
    "test_main",
    "test_devices",
    "test_wmgm",
    "test_resume",
    "test_initial",
    "test_benchmarks",
    "test_phi4",
    "test_networks",
    "test_convolution",
    "test_samplers",
    "test_wavediff",
    "test_fields",
)
COMPILED_BYTES = 1_000_000_000


def pytest_configure(config):
    """Keeps compiled programs between processes and sessions.

    JAX finds a program by its text, the flags and the version. It does not use an entry that a
    killed process has left half-written. Workers get the folder from the process that starts them.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ and config.pluginmanager.hasplugin("cacheprovider"):
        folder = config.cache.mkdir("compiled")
        files = [path for path in folder.iterdir() if path.is_file()]
        if sum(path.stat().st_size for path in files) > COMPILED_BYTES:
            for path in files:
                path.unlink()
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)


def pytest_collection_modifyitems(items):
    order = {f"{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


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

    It runs within the process of the tests, except with flags that work once in a process: JAX
    takes the number of devices before anything else, and absl defines --help once.
    """

    def run(*flags, module="wmgm_jax.main"):
        flags = list(map(str, flags))
        if not any(flag.startswith(("--cpu_devices", "--help")) for flag in flags):
            return run_here(module, flags)
        command = start(*flags, module=module)
        output, log = command.communicate(timeout=600)
        return command.returncode, output, log

    return run
