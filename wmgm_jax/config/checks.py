"""Checks of single settings and of sections, with the words of their error messages."""

from typing import Any

from ml_collections import ConfigDict

from wmgm_jax.core.errors import UserError


def expect(holds: bool, key: str, expected: str, value: Any) -> None:
    """Checks one setting.

    Raises:
        UserError: it does not hold.
    """
    if not holds:
        raise UserError(f"--config.{key} must be {expected}, not {value!r}")


def check_score(config: ConfigDict, section: str) -> None:
    """Checks the network of a section made by `score`."""
    key, network = f"{section}.network", config[section].network
    check_levels(key, network)
    for multiplier in network.multipliers:
        expect(
            multiplier * network.channels % network.num_heads == 0,
            f"{key}.num_heads",
            f"a divisor of the {multiplier * network.channels} channels of a level",
            network.num_heads,
        )


def check_levels(key: str, network: ConfigDict) -> None:
    """Checks the levels of a U-Net with `multipliers` and `attention_levels`."""
    expect(
        len(network.multipliers) > 0 and all(m >= 1 for m in network.multipliers),
        f"{key}.multipliers",
        "one number of at least 1 a level",
        tuple(network.multipliers),
    )
    expect(
        all(level in range(len(network.multipliers)) for level in network.attention_levels),
        f"{key}.attention_levels",
        f"some of the levels 0 to {len(network.multipliers) - 1}",
        tuple(network.attention_levels),
    )
