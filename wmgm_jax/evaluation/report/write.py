"""What an evaluation leaves: `evaluation.json` for programs, `report.html` for eyes."""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from wmgm_jax import data
from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError
from wmgm_jax.core.pictures import enlarge, image_grid
from wmgm_jax.evaluation import HEADLINES, ImageSets, Measures, evaluate, summary
from wmgm_jax.evaluation.inception import weights
from wmgm_jax.evaluation.inception.features import KEPT, Inception
from wmgm_jax.evaluation.neighbours import Neighbours, neighbours
from wmgm_jax.evaluation.report import page

_log = logging.getLogger(__name__)

_PLOTTED = 512
_FEW = 50
# Precision and recall look at the third neighbour of an image.
_FEWEST = 4


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        title: of the report.
        sets: the images.
        levels: the scales of the measures of Haar bands.
        facts: what `evaluation.json` should say besides, such as steps and sampler.
        measures: taken already, of the model rather than of its images.
        records: of `metrics.jsonl`.
    """

    title: str
    sets: ImageSets
    levels: int
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measures: Measures = dataclasses.field(default_factory=dict)
    records: Sequence[Mapping[str, Any]] = ()


def write(subject: Subject, folder: Path, settings: ConfigDict, cache_dir: str) -> None:
    """Evaluates, and writes `evaluation.json` and `report.html`.

    Args:
        subject: what is evaluated.
        folder: where the files go.
        settings: the `evaluation` section of a config.
        cache_dir: of decoded images and features; "" for the user's cache directory.
    """
    start = time.monotonic()
    sets = subject.sets
    sets = ImageSets(
        sets.generated,
        data.subset(sets.reference, settings.reference_images),
        None
        if sets.training is None
        else data.subset(sets.training, min(settings.training_images, KEPT)),
    )
    for name, source in (("generated", sets.generated), ("reference", sets.reference)):
        if len(source) < _FEW:
            _log.warning("only %d %s images: the measures say little", len(source), name)
    cache = files.cache_folder(cache_dir)
    inception = None
    if sets.codec.is_image:
        inception = load_inception(settings.inception_weights, cache_dir)
    else:
        _log.info("FID, KID, precision and recall are of pictures: left out for fields")
    if inception is not None and sets.fewest < _FEWEST:
        _log.warning("fewer than %d images of a kind: FID and its kin are left out", _FEWEST)
        inception = None
    tree = evaluate(sets, subject.levels, inception, cache)
    tree["measures"] |= subject.measures
    tree = {**subject.facts, **tree, "seconds": round(time.monotonic() - start, 1)}
    copies = None
    if sets.training is not None:
        copies = neighbours(sets.generated, sets.reference, sets.training, inception, cache)
        tree["nearest_training_image"] = {
            "space": copies.space,
            "median_distance": copies.nearest_distance,
            "median_distance_of_reference": copies.nearest_distance_of_reference,
        }
    files.write_json(folder / "evaluation.json", tree)
    sections = _sections(subject, sets, tree, copies, settings.grid_images)
    files.write_text(
        folder / "report.html", page.page(subject.title, _facts_line(sets, tree), sections)
    )
    for line in summary(tree["measures"]):
        _log.info("%s", line)
    _log.info("report in %s, values in %s", folder / "report.html", folder / "evaluation.json")


def load_inception(path: str, cache_dir: str, batch_size: int = 32) -> Inception | None:
    """The network of FID, or None (and a log line that says why) where its weights cannot be had.

    Args:
        path: the `inception_weights` of a config.
        cache_dir: where downloaded weights are kept.
        batch_size: images at a time, on every device.

    Raises:
        UserError: a file that the user named cannot be used.
    """
    if path == "none":
        return None
    try:
        params, digest = weights.load(path, cache_dir)
    except UserError as error:
        if path:
            raise
        _log.warning("FID, KID, precision and recall are left out: %s", error)
        return None
    return Inception(params, digest, batch_size * jax.local_device_count())


def _facts_line(sets: ImageSets, tree: Mapping[str, Any]) -> str:
    height, width, channels = sets.generated.image_shape
    weights = tree["method"]["weights_sha256"]
    return (
        f"{len(sets.generated):,} generated images against {len(sets.reference):,} reference "
        f"images, {height}x{width}x{channels}; "
        + (f"Inception weights {weights[:12]}" if weights else "no Inception weights")
        + f"; jax {tree['versions']['jax']}"
    )


def _sections(
    subject: Subject,
    sets: ImageSets,
    tree: Mapping[str, Any],
    copies: Neighbours | None,
    grid_images: int,
) -> list[tuple[str, str]]:
    # Draws with matplotlib, whose import would keep every command waiting.
    from wmgm_jax.evaluation.report import plots

    named = {"reference": sets.reference, "generated": sets.generated}
    if sets.training is not None:
        named["training"] = sets.training
    images = {name: data.spread(source, _PLOTTED) for name, source in named.items()}
    sections = [
        ("Measures", _measures(tree)),
        ("Generated images", _legend(sets) + _grid(sets.generated, grid_images)),
        ("Reference images", _grid(sets.reference, grid_images)),
    ]
    if copies is not None:
        sections.append(("Nearest training images", _neighbours(copies)))
    for stage in dict.fromkeys(record["stage"] for record in subject.records):
        figure = plots.training_curves(subject.records, stage)
        sections.append((f"Training of stage {stage}", page.plot(figure)))
    return [
        *sections,
        (
            "Power spectra",
            page.paragraph(
                "Mean power of the frequencies at every distance from zero: too little on the "
                "right is missing detail, too much is noise."
            )
            + page.plot(plots.spectra(images, sets.codec)),
        ),
        (
            "Marginals of the Haar bands",
            page.paragraph(
                "How the coefficients of every band are distributed, in units of the reference's "
                "standard deviation; scale 1 is the finest."
            )
            + page.plot(
                plots.band_marginals(
                    images["generated"], images["reference"], sets.codec, subject.levels
                )
            ),
        ),
        (
            "Sparsity of the detail bands",
            page.paragraph(
                "The share of detail coefficients no larger than a threshold, of images in [0, 1] "
                "or of fields in units of four standard deviations."
            )
            + page.plot(plots.sparsities(tree["bands"])),
        ),
        ("Everything", page.folded("evaluation.json", tree)),
    ]


def _measures(tree: Mapping[str, Any]) -> str:
    measures = tree["measures"]
    rest = {
        name: name.replace("/", ", ").replace("_", " ")
        for name in measures
        if name not in HEADLINES
    }
    rows = page.measures_table(measures, HEADLINES)
    detail = page.measures_table(measures, rest)
    note = page.paragraph(
        "Less is better, but for precision, recall, PSNR and SSIM. Of the same images on both "
        "sides the sliced Wasserstein distance is not 0, for it compares patches drawn at random, "
        "and the less so the fewer they are. Training images have been "
        "measured in the place of generated ones: what a model is up against. "
        f"Intervals, where there are images enough: {tree['method']['intervals']}."
    )
    return f"{rows}{note}<details><summary>By level, scale and band</summary>{detail}</details>"


def _legend(sets: ImageSets) -> str:
    """What the colours of fields mean."""
    return page.paragraph(sets.codec.legend) if sets.codec.legend else ""


def _grid(source: data.Source, count: int) -> str:
    images = data.spread(source, count)
    # Mixed, for neighbours in a source may be alike.
    images = np.random.default_rng(0).permutation(images)
    pictures = source.codec.to_visible(enlarge(images))
    return page.picture(image_grid(pictures), f"{len(images)} images")


def _neighbours(copies: Neighbours) -> str:
    text = (
        "Left, a sample; right of it, the training images nearest to it in "
        f"{copies.space}. Median distance to the nearest training image: samples "
        f"{copies.nearest_distance:.4g}, reference images "
        f"{copies.nearest_distance_of_reference:.4g}; samples that are much nearer are copies."
    )
    return page.paragraph(text) + page.picture(copies.picture, "samples and neighbours")
