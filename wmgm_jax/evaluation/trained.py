"""The evaluation of a trained model: draw, rebuild, compare, report."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np
from tqdm import tqdm

from wmgm_jax import data, runs, sampling, systems
from wmgm_jax.core import files
from wmgm_jax.core.pictures import image_grid, write_png
from wmgm_jax.evaluation import ImageSets, Measures, reconstructed
from wmgm_jax.evaluation.reconstruction import rebuild
from wmgm_jax.evaluation.report.write import Subject, write
from wmgm_jax.runs.metrics_file import read_metrics

# Images are rebuilt for at most so many of the reference.
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
    """Draws `evaluation.num_images` images and writes the grid, the values and the report.

    Args:
        model: with what its config says of sampling and evaluation.
        workdir: the folder of its run.
        train: the images it was trained on.
        reference: the images to compare with.
        folder: what gets the files; None for the run's own folder.
        facts: what `evaluation.json` should say besides.
    """
    folder, settings = folder or workdir, model.config.evaluation
    generated = _draw_to_disk(model, folder / "samples" / "evaluated.npy", settings.num_images)
    grid = image_grid(model.codec.to_visible(data.spread(generated, settings.grid_images)))
    write_png(folder / "samples" / "grid.png", grid)
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
        measures=_rebuilt(model, reference),
        records=read_metrics(workdir / "metrics.jsonl"),
    )
    write(subject, folder, settings, model.config.data.cache_dir)


def draw(model: runs.Model, num: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of `[b, H, W, C]`, `num` images in all, with a progress bar: uint8, or float32 in the
    units of the data where these are fields."""
    with tqdm(total=num, desc="sampling", unit="image", disable=not sys.stderr.isatty()) as bar:
        for images in sampling.sample_batches(model, jax.random.key(seed), num):
            yield model.codec.sample_file(images)
            bar.update(len(images))


def _draw_to_disk(model: runs.Model, path: Path, num: int) -> data.Source:
    """Images that are mapped into memory, however many they are."""
    shape = (num, *model.config.data.image_size, model.config.data.channels)
    with files.atomic_writer(path) as file:
        header = {"descr": model.codec.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for images in draw(model, num, seed=0):
            file.write(images.tobytes())
    return data.from_array(np.load(path, mmap_mode="r", allow_pickle=False), model.codec)


def _rebuilt(model: runs.Model, reference: data.Source) -> Measures:
    """PSNR and SSIM of reference images rebuilt from their coarsest band, where there is one."""
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
    return reconstructed(rebuilt, images, model.codec)
