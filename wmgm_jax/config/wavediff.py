"""The settings of WaveDiff."""

from typing import Any

from ml_collections import ConfigDict

from wmgm_jax.config.checks import check_levels, expect
from wmgm_jax.config.registry import SystemSettings, register_settings
from wmgm_jax.config.sections import optimizer


def _sections() -> dict[str, Any]:
    """The settings that WaveDiff was published with for CelebA-HQ at 256x256, with one level less,
    so that the coarsest map is 8x8 as there, and the four steps of its smaller images. Its cosine
    ends at a rate of 1e-5; ours ends at 0."""
    adam = {"weight_decay": 0.0, "decay": "cosine", "b1": 0.5, "b2": 0.9}
    return {
        "wavediff": {
            "num_steps": 500 * 4750 // 32,  # 500 epochs of CelebA-HQ (5K)
            "batch_size": 32,
            "accumulate": 1,
            "ema_decay": 0.9999,
            "levels": 1,  # Haar levels of what is diffused: 0 (the pixels), 1 or 2
            "normalisation": "range",  # of the coefficients, to [-1, 1]; or "unit", to unit scale
            "denoising_steps": 4,  # T; `sampling.num_steps` is the same
            "reconstruction_weight": 1.0,  # lambda; of DDGAN 0
            "r1_weight": 2.0,  # gamma
            "r1_every": 10,
            "latent_size": 100,  # of z
            "generator_optimizer": optimizer(2e-4, **adam),
            "discriminator_optimizer": optimizer(1e-4, **adam),
            "generator": {
                "channels": 64,
                "multipliers": (1, 2, 2, 4),
                "num_blocks": 2,
                "attention_levels": (2,),  # 0 is the finest: at 16x16 of images of 128x128
                "style_size": 256,
                "mapping_layers": 3,
                "wavelet_residual": True,
                "frequency_resampling": True,
                "frequency_bottleneck": True,
            },
            "discriminator": {
                "channels": 128,  # twice the release's base
                "num_blocks": 4,
                "first_stride": 2,  # 2 for large images: the first block halves them, too; or 1
                "embedding_size": 256,
            },
        }
    }


def _check(config: ConfigDict) -> None:
    settings = config.wavediff
    generator, discriminator = settings.generator, settings.discriminator
    check_levels("wavediff.generator", generator)
    # Both embed the time in pairs of a sine and a cosine, of two frequencies at least.
    for key, count in (
        ("generator.channels", generator.channels),
        ("discriminator.embedding_size", discriminator.embedding_size),
    ):
        expect(count % 2 == 0 and count >= 4, f"wavediff.{key}", "even, and at least 4", count)
    steps = settings.denoising_steps
    expect(
        config.sampling.num_steps == steps,
        "sampling.num_steps",
        f"{steps}, the chain's (wavediff.denoising_steps)",
        config.sampling.num_steps,
    )
    halvings = {
        "generator": len(generator.multipliers) - 1 + generator.frequency_bottleneck,
        "discriminator": discriminator.num_blocks - (discriminator.first_stride == 1),
    }
    size = tuple(config.data.image_size)
    for name, count in halvings.items():
        divisor = 2 ** (settings.levels + count)
        expect(
            all(side % divisor == 0 for side in size),
            "data.image_size",
            f"(H, W), each divisible by {divisor}: {settings.levels} Haar levels, and {count} more "
            f"halvings in the {name} of config.wavediff",
            size,
        )


register_settings(
    "wavediff",
    SystemSettings(
        label="WaveDiff",
        sections=_sections,
        own_defaults={
            "process.schedule": "linear",
            "process.T": None,
            "sampling.sampler": "posterior",
            "sampling.num_steps": 4,
            "sampling.spacing": "uniform",
        },
        paper_sampling=lambda config: {
            "sampler": "posterior",
            "num_steps": config.wavediff.denoising_steps,
            "spacing": "uniform",
        },
        choices={
            # A chain has one way back.
            "sampling.sampler": ("posterior",),
            "sampling.spacing": ("uniform",),
            "wavediff.levels": (0, 1, 2),
            "wavediff.normalisation": ("range", "unit"),
            "wavediff.discriminator.first_stride": (1, 2),
        },
        at_least_one=(
            "denoising_steps",
            "mapping_layers",
            "latent_size",
            "style_size",
            "embedding_size",
            "num_blocks",
            "r1_every",
        ),
        not_negative=("reconstruction_weight", "r1_weight"),
        check=_check,
        oldest_version=2,
    ),
)
