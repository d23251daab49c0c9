"""What an evaluation writes: `evaluation.json` for programs, `report.html` for people."""

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from wmgm_jax import data
from wmgm_jax.core import files
from wmgm_jax.evaluation.comparison import evaluate
from wmgm_jax.evaluation.features import KEPT, FeatureNetwork
from wmgm_jax.evaluation.inception.load import load_inception
from wmgm_jax.evaluation.learned.load import load
from wmgm_jax.evaluation.neighbours import Neighbours, neighbours
from wmgm_jax.evaluation.report import page, sections
from wmgm_jax.evaluation.report.headlines import summary
from wmgm_jax.evaluation.sets import ImageSets, Measures

_log = logging.getLogger(__name__)

_FEW = 50
# Precision and recall use the third neighbour of an image.
_FEWEST = 4


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        title: of the report.
        sets: the images.
        levels: the number of scales S of the measures of Haar bands.
        facts: further entries of `evaluation.json`, such as steps and sampler.
        measures: those computed already, because they need the model itself.
        records: of `metrics.jsonl`.
        augment: how the training images were augmented, see `data.batch_at`.
    """

    title: str
    sets: ImageSets
    levels: int
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measures: Measures = dataclasses.field(default_factory=dict)
    records: Sequence[Mapping[str, Any]] = ()
    augment: str = "none"


def write_evaluation(subject: Subject, folder: Path, settings: ConfigDict, cache_dir: str) -> None:
    """Computes all measures, and writes `evaluation.json` and `report.html`.

    Args:
        subject: what is evaluated.
        folder: where the files go.
        settings: the `evaluation` section of a config.
        cache_dir: of decoded images and features; "" for the user's cache directory.
    """
    start, cache = time.monotonic(), files.cache_folder(cache_dir)
    sets = _limited(subject.sets, settings)
    inception = _inception(sets, settings, cache_dir)
    learned = _learned(subject, settings, cache_dir)
    if learned is not None and learned.path is not None:
        content = learned.path.read_bytes()
        with files.atomic_writer(folder / "feature_network.npz") as file:
            file.write(content)
    tree = evaluate(sets, subject.levels, inception, cache, learned)
    tree["measures"] |= subject.measures
    tree = {**subject.facts, **tree, "seconds": round(time.monotonic() - start, 1)}
    copies = None
    if sets.training is not None:
        copies = neighbours(
            sets.generated, sets.reference, sets.training, inception or learned, cache
        )
        tree["nearest_training_image"] = {
            "space": copies.space,
            "median_distance": copies.nearest_distance,
            "median_distance_of_reference": copies.nearest_distance_of_reference,
        }
    files.write_json(folder / "evaluation.json", tree)
    body = _sections(subject, sets, tree, copies, settings.grid_images)
    html = page.page(subject.title, _facts_line(sets, tree), body)
    files.write_text(folder / "report.html", html)
    for line in summary(tree["measures"]):
        _log.info("%s", line)
    _log.info("report in %s, values in %s", folder / "report.html", folder / "evaluation.json")


def _limited(sets: ImageSets, settings: ConfigDict) -> ImageSets:
    """The sets with as many reference and training images as the settings allow."""
    reference, training = data.subset(sets.reference, settings.reference_images), sets.training
    if training is not None:
        training = data.subset(training, min(settings.training_images, KEPT))
    for name, source in (("generated", sets.generated), ("reference", reference)):
        if len(source) < _FEW:
            _log.warning("only %d %s images: the measures are unreliable", len(source), name)
    return ImageSets(sets.generated, reference, training)


def _inception(sets: ImageSets, settings: ConfigDict, cache_dir: str) -> FeatureNetwork | None:
    """The network of FID, or None where it does not apply; the log then says why."""
    if not sets.codec.is_image:
        _log.info("FID, KID, precision and recall are for photographs: not computed for fields")
        return None
    inception = load_inception(settings.inception_weights, cache_dir)
    if inception is not None and sets.fewest < _FEWEST:
        _log.warning(
            "a set has fewer than %d images: FID, KID, precision and recall are not computed",
            _FEWEST,
        )
        return None
    return inception


def _learned(subject: Subject, settings: ConfigDict, cache_dir: str) -> FeatureNetwork | None:
    """The network of the learned features, or None where they do not apply.

    It is trained on the training images, never on generated ones. Where no training images are
    known, it is trained on the reference images.
    """
    sets = subject.sets
    if not sets.codec.is_image or sets.fewest < _FEWEST:
        return None
    return load(
        sets.reference if sets.training is None else sets.training,
        settings.feature_network,
        cache_dir,
        num_steps=settings.feature_steps,
        augment=subject.augment,
    )


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
) -> list[sections.Section]:
    return [
        sections.measures_section(tree),
        *sections.picture_sections(sets, grid_images),
        *([] if copies is None else [sections.neighbours_section(copies)]),
        *sections.training_sections(subject.records),
        *sections.curve_sections(sets, tree, subject.levels),
        ("Everything", page.folded("evaluation.json", tree)),
    ]
