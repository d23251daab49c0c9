"""The settings of WMGM."""

from typing import Any

from ml_collections import ConfigDict

from wmgm_jax.config.checks import check_score, expect
from wmgm_jax.config.registry import SystemSettings, register_settings
from wmgm_jax.config.sections import optimizer, score


def _sections() -> dict[str, Any]:
    return {"score": score((1, 2, 2, 2), attention_levels=(1, 2)), "msal": _msal()}


def _msal() -> dict[str, Any]:
    """The networks of the details, and their training (Eq. 21-22)."""
    return {
        "num_steps": 6_000,
        "batch_size": 128,
        "accumulate": 1,
        # Longer averages blur: the adversaries do not settle.
        "ema_decay": 0.99,
        "loss": "relativistic",  # "relativistic", "paper": which of the two sections below
        "relativistic": {
            "energy_weight": 2.0,  # lambda
            "patch": 4,  # side of the energy score's patches
            "spread_weight": 2.0,  # mu
            "penalty_weight": 5.0,  # gamma
            "penalty_every": 4,
            "generator_optimizer": optimizer(2e-4, weight_decay=0.0, b1=0.0, b2=0.99),
            "discriminator_optimizer": optimizer(2e-4, weight_decay=0.0, b1=0.0, b2=0.99),
            "discriminator": {"channels": 64, "num_levels": 3, "num_blocks": 1},
        },
        "paper": {
            "loss_domain": "image",  # "image", "wavelet"
            "mse_weight": 20.0,  # lambda
            "ssim_weight": 0.5,  # nu
            "adversarial_weight": 0.1,  # alpha
            "lipschitz": "sigmoid",  # "sigmoid", "gradient_penalty"
            "penalty_weight": 10.0,  # of the gradient penalty
            "discriminator_every": 4,  # generator steps per discriminator step
            "generator_optimizer": optimizer(1e-4, weight_decay=0.01),
            "discriminator_optimizer": optimizer(1e-5, weight_decay=0.01),
            "discriminator": {"channels": 64, "num_blocks": 5, "dropout": 0.5},
        },
        "learning": "adversarial",  # "adversarial", "standard", "operator" (Appendix H.2)
        "shared": True,  # one generator for all scales, or one per scale
        "noise_per_channel": 1,  # channels of z for each of an image
        # The generator of the details, by adversarial, standard and operator learning.
        "generator": {"channels": 64, "depth": 5, "norm": "renorm"},  # "group", "batch"
        "unet": {"channels": 64, "depth": 5},
        "fno": {"modes": (16, 16), "channels": 256, "depth": 4},
    }


def _check(config: ConfigDict) -> None:
    check_score(config, "score")
    for network in ("generator", "unet"):
        depth = config.msal[network].depth
        expect(depth <= 10, f"msal.{network}.depth", "at most 10", depth)
    learning = config.msal.learning
    expect(
        learning == "adversarial" or config.msal.loss == "paper",
        "msal.learning",
        "'adversarial' unless msal.loss is 'paper'",
        learning,
    )
    if learning == "operator":
        _check_fno(config)


def _check_fno(config: ConfigDict) -> None:
    """What the Fourier neural operator can do with the bands of the details."""
    size, levels = tuple(config.data.image_size), config.wavelet.levels
    expect(
        all(side % 2 ** (levels + 1) == 0 for side in size),
        "data.image_size",
        f"divisible by 2^(levels + 1) = {2 ** (levels + 1)} for msal.learning = 'operator', which "
        "takes bands of even sides",
        size,
    )
    modes, finest = tuple(config.msal.fno.modes), tuple(side // 2 for side in size)
    expect(
        len(modes) == 2
        and all(
            isinstance(m, int) and 1 <= m < side for m, side in zip(modes, finest, strict=True)
        ),
        "msal.fno.modes",
        f"two numbers of at least 1, below the sides {finest} of the finest low band",
        modes,
    )


register_settings(
    "wmgm",
    SystemSettings(
        label="WMGM",
        sections=_sections,
        score_sections=("score",),
        choices={
            "msal.learning": ("adversarial", "standard", "operator"),
            "msal.loss": ("relativistic", "paper"),
            "msal.paper.loss_domain": ("image", "wavelet"),
            "msal.paper.lipschitz": ("sigmoid", "gradient_penalty"),
            "msal.generator.norm": ("batch", "renorm", "group"),
        },
        at_least_one=(
            "discriminator_every",
            "penalty_every",
            "noise_per_channel",
            "patch",
            "depth",
            "num_blocks",
            "num_levels",
        ),
        not_negative=(
            "mse_weight",
            "ssim_weight",
            "adversarial_weight",
            "energy_weight",
            "spread_weight",
            "penalty_weight",
        ),
        check=_check,
    ),
)
