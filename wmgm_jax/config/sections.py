"""Sections of a config that several systems have, and the checks of them."""

from typing import Any

from ml_collections import ConfigDict

from wmgm_jax.core.errors import UserError


def optimizer(learning_rate: float, weight_decay: float, **other: Any) -> dict[str, Any]:
    """An optimizer; `other` settings replace the defaults."""
    return {
        "learning_rate": learning_rate,
        "warmup_steps": 0,
        "decay": "constant",  # after the warm-up: "constant", "cosine" to 0
        "weight_decay": weight_decay,  # AdamW; 0 is Adam
        "clip_norm": 0.0,  # of the whole gradient; 0 for no clipping
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
    } | other


def score(multipliers: tuple[int, ...], attention_levels: tuple[int, ...]) -> dict[str, Any]:
    """A score network and its training."""
    return {
        "num_steps": 50_000,
        "batch_size": 64,  # over all devices
        "accumulate": 1,  # micro-batches a step
        "ema_decay": 0.9999,
        "prediction": "noise",  # "noise", "velocity"
        "optimizer": optimizer(1e-4, weight_decay=0.0),
        "network": {
            "channels": 128,
            "multipliers": multipliers,
            "num_blocks": 3,
            "attention_levels": attention_levels,  # 0 is the finest
            "num_heads": 4,
            "dropout": 0.0,
        },
    }


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
