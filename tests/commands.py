"""Runs the project's commands in processes of their own, or within the process of the tests.

A command within the process takes less time: it reuses what earlier commands imported and compiled.
"""

import atexit
import contextlib
import gc
import importlib
import io
import logging
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from absl import flags
from absl import logging as absl_logging

ROOT = Path(__file__).resolve().parent.parent

# Tracing makes many objects and little rubbish: looking for it takes a tenth of the time.
gc.set_threshold(50_000, 20, 100)

# Importing takes five seconds. Processes begin as copies of one that has imported all but the
# modules that define the commands' flags.
_copies = multiprocessing.get_context("forkserver")
SHARED_MODULES = (
    "wmgm_jax.cli",
    "wmgm_jax.training",
    "wmgm_jax.evaluation.trained",
    "wmgm_jax.evaluation.report.figures",
)
_copies.set_forkserver_preload(["tests.commands", *SHARED_MODULES])


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
        atexit._run_exitfuncs()  # noqa: SLF001 - A copy's own end leaves them out.


def run_here(module, flags):
    """`python -m module flags` within this process; returns (exit code, output, log)."""
    for name in SHARED_MODULES:
        importlib.import_module(name)  # The flags of these modules stay.
    output, log = io.StringIO(), io.StringIO()
    with (
        warnings.catch_warnings(action="ignore", category=DeprecationWarning),  # as in a process
        _as_before(),
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(log),
    ):
        sys.argv = [module, *flags]
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except Exception:
            traceback.print_exc()
            code = 1
    return code, output.getvalue(), log.getvalue()


@contextlib.contextmanager
def _as_before():
    """Shows a command the modules and flags of a new process, and undoes what it changes: modules,
    flags, `sys.argv`, import paths and loggers."""
    argv, path, finders = sys.argv, list(sys.path), list(sys.meta_path)
    # These modules define flags, and a flag may be defined only once.
    modules = {name: module for name, module in sys.modules.items() if _is_of_a_command(name)}
    loggers = [logging.getLogger(name) for name in (None, "absl", "wmgm_jax")]
    logs = [(log, list(log.handlers), log.level, log.propagate) for log in loggers]
    verbosity = absl_logging.get_verbosity()
    known = vars(flags.FLAGS)
    structure = {name: _copy(value) for name, value in known.items()}
    values = {flag: vars(flag).copy() for flag in known["__flags"].values()}
    for name in modules:
        del sys.modules[name]
    for name in list(flags.FLAGS):
        if _is_of_a_command(flags.FLAGS.find_module_defining_flag(name, "")):
            delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    try:
        yield
    finally:
        sys.argv, sys.path[:], sys.meta_path[:] = argv, path, finders
        for name in filter(_is_of_a_command, list(sys.modules)):
            del sys.modules[name]
        sys.modules.update(modules)
        known.clear()
        known.update(structure)
        for flag, state in values.items():
            vars(flag).update(state)
        absl_logging.set_verbosity(verbosity)
        for log, handlers, level, propagates in logs:
            log.handlers[:], log.propagate = handlers, propagates
            log.setLevel(level)


def _is_of_a_command(module_name):
    # ml_collections loads every config file into this one module, and leaves the old names in it.
    others = ("wmgm_jax.main", "tests.tiny_experiment", "config_config")
    return module_name.split(".")[0] in ("experiments", "benchmarks") or module_name in others


def _copy(value):
    if isinstance(value, dict):
        lists = {key: list(entry) for key, entry in value.items() if isinstance(entry, list)}
        return value | lists
    return value.copy() if isinstance(value, set) else value
