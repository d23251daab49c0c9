"""Defaults of the sections of a config that several systems have."""

from typing import Any


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
        "accumulate": 1,  # micro-batches per step
        "ema_decay": 0.9999,
        "prediction": "velocity",  # "noise", "velocity"
        "loss": "edm",  # "paper", "edm": at which noise levels it is trained
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


def evaluation() -> dict[str, Any]:
    """What is measured, of how many images, and when."""
    return {
        "num_images": 1024,  # to draw
        "reference_images": 50_000,  # at most this many validation images
        "training_images": 10_000,  # at most this many, as a floor and to find copies
        "inception_weights": "",  # a file; empty to download; "none" for no FID and its kin
        # A file of learned features; empty to train them on the training images, "none" for none.
        "feature_network": "",
        "feature_steps": 600,  # of their training
        "grid_images": 64,
        "every": 5_000,  # steps from one measurement in training to the next
        "every_images": 256,
        "best_measure": "sliced_wasserstein",  # or "spectrum_error": which to keep in best/
    }
