import atexit
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

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
# Tracing makes many objects and little rubbish: looking for it takes a tenth of the time.
gc.set_threshold(50_000, 20, 100)

# Importing takes five seconds. Commands begin as copies of a process that has imported all but the
# modules that define their flags.
_copies = multiprocessing.get_context("forkserver")
_copies.set_forkserver_preload(
    [
        "wmgm_jax.cli",
        "wmgm_jax.training",
        "wmgm_jax.evaluation.trained",
        "wmgm_jax.evaluation.report.figures",
    ]
)

ROOT = Path(__file__).resolve().parent.parent
TINY = "--config=tests/tiny.py"


class Command:
    """`python -m module flags` in a process of its own, as far as `subprocess.Popen` goes."""

    def __init__(self, module, flags):
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name, name) for name in ("output", "log")]
        self._process = _copies.Process(target=_execute, args=(module, flags, self._streams))
        self._process.start()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def kill(self):
        self._process.kill()

    def communicate(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return tuple(path.read_text() if path.exists() else "" for path in self._streams)


def _execute(module, flags, streams):
    for path, descriptor in zip(streams, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = [module, *flags]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:
        # Before the exit functions, as Python does: one of several hosts may not survive them.
        traceback.print_exc()
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()  # A copy's own end leaves them out.


@pytest.fixture
def start():
    """Starts `python -m wmgm_jax.main`, or another module, with flags.

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
    """Runs what `start` starts to its end; returns (exit code, output, log)."""

    def run(*flags, **kwargs):
        command = start(*flags, **kwargs)
        output, log = command.communicate(timeout=600)
        return command.returncode, output, log

    return run
