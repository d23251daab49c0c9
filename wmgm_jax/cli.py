"""What every command line of the project shares: a config flag, log lines, and one line for
whatever the user got wrong."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags
from tqdm.contrib.logging import logging_redirect_tqdm

from wmgm_jax.config import packaged
from wmgm_jax.config.validation import validate
from wmgm_jax.core.errors import Preempted, UserError
from wmgm_jax.core.files import cache_folder

_EXIT_USER_ERROR = 2
_EXIT_PREEMPTED = 143  # as a process that SIGTERM has ended
_EXIT_INTERRUPTED = 130  # as a process that Ctrl-C has ended

_CPU_DEVICES = flags.DEFINE_integer(
    "cpu_devices",
    None,
    "Where there is no accelerator, take the processor for so many devices with a core each, among "
    "which a batch is divided; by default it is one device. The faster way for small networks.",
    lower_bound=1,
)

_log = logging.getLogger("wmgm_jax")


def define_config(default: str | None = None) -> None:
    """Defines `--config`, a file with `get_config()`, and a flag for each of its settings.

    Args:
        default: a file or a name, as `--config` takes it.
    """
    text = (
        "The config file, or the name of one that comes with the package, such as colon_ihc. "
        "Every setting of wmgm_jax/config/ is a flag, --config.SECTION.NAME."
    )
    packaged.make_importable()
    try:
        config_flags.DEFINE_config_file(
            "config", packaged.resolve(default) if default else None, text, lock_config=True
        )
    except (AttributeError, KeyError) as error:
        # A default is loaded, and given the settings of the command line, when it is defined.
        _fail(f"--config={default} has no such setting: {_one_line(error)}")
    flags.FLAGS["config"].parser = _ConfigParser(flags.FLAGS["config"].parser)
    # Where --help looks for what is worth telling.
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["config"])


def given_config() -> ConfigDict:
    """The config of the command line, validated.

    Raises:
        UserError: there is none, or it is not valid.
    """
    config = flags.FLAGS.config
    if config is None:
        raise UserError(
            "--config is missing: name a file or one of the configs that come with the package, "
            "for example --config=colon_ihc"
        )
    validate(config)
    return config


def config_path() -> str | None:
    """The config file that the command line names, and what `:` passes to it."""
    if flags.FLAGS.config is None:
        return None
    return packaged.resolve(_named_config())


def config_overrides() -> dict[str, object]:
    """The settings that the command line gives, by key, without those of the config file."""
    return config_flags.get_override_values(flags.FLAGS["config"])


def run(command: Callable[..., None], words: Sequence[str] = ()) -> None:
    """Parses the flags and runs a command.

    A mistake of the user ends it with one line and exit code 2. SIGTERM or Ctrl-C during training
    ends it with exit code 143.

    Args:
        command: is called with the arguments that are not flags.
        words: what those may be.
    """

    def main(argv: Sequence[str]) -> None:
        for argument in argv[1:]:
            if argument not in words:
                expected = f"flags or {', '.join(words)}" if words else "flags"
                _fail(f"unexpected argument {argument!r}: all arguments are {expected}; see --help")
        _log_to_stderr()
        _keep_compiled_programs()
        if _CPU_DEVICES.value is not None:
            _divide_cpu(_CPU_DEVICES.value)
        try:
            with logging_redirect_tqdm([_log]):
                command(*argv[1:])
        except UserError as error:
            _fail(str(error))
        except Preempted as preempted:
            _log.warning("%s", preempted)
            sys.exit(_EXIT_PREEMPTED)
        except KeyboardInterrupt:
            _log.warning("stopped at once; training goes on from its last checkpoint")
            sys.exit(_EXIT_INTERRUPTED)

    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["cpu_devices"])
    app.run(main, flags_parser=_parse_flags)


class _ConfigParser(flags.ArgumentParser):
    """Reads the config that `--config` names by a path, or by its name in the package."""

    def __init__(self, of_paths: flags.ArgumentParser[ConfigDict]) -> None:
        self._of_paths = of_paths

    def parse(self, argument: str) -> ConfigDict | None:
        return self._of_paths.parse(packaged.resolve(argument))

    def flag_type(self) -> str:
        return self._of_paths.flag_type()


def _named_config() -> str:
    return config_flags.get_config_filename(flags.FLAGS["config"])


def _parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        remaining = flags.FLAGS(list(argv))
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            flags.FLAGS.config.items()  # A file that failed to load says so when it is first used.
        return remaining
    except SystemExit:
        sys.exit(0)  # Help was asked for, which absl takes for an error.
    except BrokenPipeError:
        # Help was asked for by `| head`, and Python writes what is left when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except flags.UnrecognizedFlagError as error:
        if error.flagname.startswith("config."):
            _fail(
                f"--{error.flagname} changes a setting of a --config, which is missing: name one, "
                "such as --config=configs/colon_ihc.py"
            )
        _fail(f"{_one_line(error)}; see --help")
    except flags.Error as error:
        _fail(f"{_one_line(error)}; see --help")
    except OSError:
        _fail(
            f"--config: there is no file {_named_config()!r}; give the path of one, or a config of "
            f"those that come with the package: {', '.join(packaged.names())}"
        )
    except AttributeError as error:
        if "get_config" in str(error):
            _fail("--config: the file has no get_config()")
        _fail(f"{_one_line(error)} is not a setting; see wmgm_jax/config/ for those that are")
    except UserError as error:
        _fail(str(error))
    except Exception as error:  # A config file is code, which may raise anything.
        _fail(f"--config cannot be loaded: {type(error).__name__}: {_one_line(error)}")


def _keep_compiled_programs() -> None:
    """Compiled programs are kept in the user's cache folder, or where JAX's own setting says, so
    that a command that starts again - after pre-emption, or to sample - does not compile again."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder("") / "compiled"))


def _divide_cpu(devices: int) -> None:
    jax.config.update("jax_num_cpu_devices", devices)
    # XLA reads it when the first array is made. Convolutions that take all cores hinder each other.
    before = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{before} --xla_cpu_multi_thread_eigen=false"


def _log_to_stderr() -> None:
    # JAX and Orbax tell every step of theirs at the level of information.
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False


def _fail(message: str) -> NoReturn:
    print(f"wmgm_jax: {message}", file=sys.stderr)
    sys.exit(_EXIT_USER_ERROR)


def _one_line(error: Exception) -> str:
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    # Of a KeyError the text is the key's representation.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(text).strip().splitlines() or [type(error).__name__]
    # Some errors carry the traceback of another, whose last line is what it is about.
    return " ".join(lines[-1:] if "Traceback" in str(text) else lines).strip()
