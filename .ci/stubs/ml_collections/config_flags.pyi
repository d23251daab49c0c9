from typing import Any

from absl import flags

from .config_dict import ConfigDict

def DEFINE_config_file(
    name: str,
    default: str | None = None,
    help_string: str = ...,
    *,
    lock_config: bool = True,
) -> flags.FlagHolder[ConfigDict]: ...
def get_config_filename(config_flag: flags.FlagHolder[Any] | flags.Flag) -> str: ...
def get_override_values(config_flag: flags.FlagHolder[Any] | flags.Flag) -> dict[str, Any]: ...
