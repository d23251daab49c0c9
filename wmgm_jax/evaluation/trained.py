"""The evaluation of a trained model: draw, rebuild, compare, report."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from wmgm_jax import data, runs, sampling, systems
from wmgm_jax.core import files
from wmgm_jax.core.pictures import image_grid, write_png
from wmgm_jax.evaluation.reconstruction import rebuild, reconstruction_measures
from wmgm_jax.evaluation.report.write import Subject, write_evaluation
from wmgm_jax.evaluation.sets import ImageSets, Measures
from wmgm_jax.runs.metrics_file import read_metrics

# At most so many reference images are rebuilt.
_REBUILT = 1024


def evaluate_model(
    model: runs.Model,
    workdir: Path,
    train: data.Source,
    reference: data.Source,
    *,
    folder: Path | None = None,
    facts: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Draws `evaluation.num_images` images and writes the grid, the measures and the report.

    Args:
        model: its config says how to sample and evaluate.
        workdir: the folder of its run.
        train: the images it was trained on.
        reference: the images to compare with.
        folder: where the files go; None for the folder of the run.
        facts: further entries of `evaluation.json`.
    """
    folder, settings = folder or workdir, model.config.evaluation
    generated = _draw_to_disk(model, folder / "samples" / "evaluated.npy", settings.num_images)
    shown = model.codec.to_visible(data.spread(generated, settings.grid_images))
    write_png(folder / "samples" / "grid.png", image_grid(shown))
    subject = Subject(
        title=workdir.resolve().name,
        sets=ImageSets(generated, reference, train),
        levels=model.config.wavelet.levels,
        facts={
            "system": model.config.system,
            "step": model.step,
            "sampling": model.config.sampling.to_dict(),
            **facts,
        },
        measures=_rebuild_and_measure(model, reference),
        records=read_metrics(workdir / "metrics.jsonl"),
        augment=model.config.data.augment,
    )
    write_evaluation(subject, folder, settings, model.config.data.cache_dir)


def _draw_to_disk(model: runs.Model, path: Path, num: int) -> data.Source:
    """Draws any number of images into an `.npy` file, which is then mapped into memory."""
    shape = (num, *model.config.data.image_size, model.config.data.channels)
    with files.atomic_writer(path) as file:
        header = {"descr": model.codec.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for images in sampling.draw_raw(model, num, seed=0):
            file.write(images.tobytes())
    return data.from_array(np.load(path, mmap_mode="r", allow_pickle=False), model.codec)


def _rebuild_and_measure(model: runs.Model, reference: data.Source) -> Measures:
    """PSNR and SSIM of rebuilt reference images; nothing for a system that cannot rebuild."""
    system = systems.build(model.config)
    if system.reconstruct is None:
        return {}
    images = data.spread(reference, min(_REBUILT, model.config.evaluation.num_images))
    rebuilt = rebuild(
        system.reconstruct,
        model.params,
        images,
        model.codec,
        jax.random.key(model.config.seed),
        model.config.sampling.batch_size,
    )
    return reconstruction_measures(rebuilt, images, model.codec)
