"""How good a trained model is: one file a measure, one report."""

import jax
import numpy as np

from wmgm_jax import data, sampling, systems
from wmgm_jax.evaluation.reconstruction import reconstruction
from wmgm_jax.evaluation.sliced_wasserstein import sliced_wasserstein


def evaluate(
    model: sampling.Model, samples: np.ndarray, train: data.Source, valid: data.Source
) -> dict:
    """All measures of a model.

    Args:
        model: a trained model.
        samples: uint8 `[N, H, W, C]` drawn from it.
        train, valid: the images to compare with; as many of each as there are samples, or all.

    Returns:
        A tree for `evaluation.json`: values, numbers of images, and what was done to get them.
    """
    count = min(len(samples), len(valid), len(train))
    valid_images, train_images = (_spread(source, count) for source in (valid, train))
    key = jax.random.key(model.config.seed)
    report = {
        "step": model.step,
        "num_images": count,
        "sampling": model.config.sampling.to_dict(),
        "sliced_wasserstein": {
            "samples_to_validation": sliced_wasserstein(samples[:count], valid_images),
            "training_to_validation": sliced_wasserstein(train_images, valid_images),
        },
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
    }
    system = systems.build(model.config)
    if system.reconstruct is not None:
        report["reconstruction_from_coarsest_band"] = reconstruction(
            lambda keys, images: system.reconstruct(model.params, keys, images),
            valid_images,
            key,
            model.config.sampling.batch_size,
        )
    return report


def _spread(source: data.Source, count: int) -> np.ndarray:
    """`count` images, evenly spread over a source."""
    return source.take(np.linspace(0, len(source) - 1, count).astype(int))


def summary(report: dict) -> list[str]:
    """The values of a report, a line each."""
    distances = report["sliced_wasserstein"]
    lines = [
        f"sliced Wasserstein distance to {report['num_images']} validation images: "
        f"samples {distances['samples_to_validation']['mean']:.4f}, "
        f"training images {distances['training_to_validation']['mean']:.4f}"
    ]
    rebuilt = report.get("reconstruction_from_coarsest_band")
    if rebuilt:
        lines.append(
            "validation images rebuilt from their coarsest band: "
            f"PSNR {rebuilt['psnr']:.2f} dB, SSIM {rebuilt['ssim']:.4f}"
        )
    return lines
