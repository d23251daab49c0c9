"""The sections of `report.html`, each a heading and its HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wmgm_jax import data
from wmgm_jax.core.pictures import enlarge, image_grid
from wmgm_jax.evaluation.neighbours import Neighbours
from wmgm_jax.evaluation.report import page
from wmgm_jax.evaluation.report.headlines import HEADLINES
from wmgm_jax.evaluation.sets import ImageSets

# The curves use at most so many images of each set.
_PLOTTED = 512

Section = tuple[str, str]


def measures_section(tree: Mapping[str, Any]) -> Section:
    """The table of measures.

    Args:
        tree: of `evaluation.json`.
    """
    measures = tree["measures"]
    rest = {
        name: name.replace("/", ", ").replace("_", " ")
        for name in measures
        if name not in HEADLINES
    }
    note = page.paragraph(
        "Less is better, except for precision, recall, PSNR and SSIM. The column of training "
        "images gives the same measure with training images in place of generated ones: a good "
        "model comes near it. The sliced Wasserstein distance compares patches drawn at random, so "
        "it is not 0 even for two equal sets; the more images, the smaller it gets. Intervals, "
        f"where there are enough images: {tree['method']['intervals']}."
    )
    headlines, detail = (page.measures_table(measures, labels) for labels in (HEADLINES, rest))
    folded = f"<details><summary>By level, scale and band</summary>{detail}</details>"
    return "Measures", f"{headlines}{note}{folded}"


def picture_sections(sets: ImageSets, count: int) -> list[Section]:
    """Some of the generated and of the reference images."""
    legend = page.paragraph(sets.codec.legend) if sets.codec.legend else ""
    return [
        ("Generated images", legend + _grid(sets.generated, count)),
        ("Reference images", _grid(sets.reference, count)),
    ]


def neighbours_section(copies: Neighbours) -> Section:
    """The training images nearest to samples."""
    text = (
        "On the left a sample, on its right the training images nearest to it in "
        f"{copies.space}. Median distance to the nearest training image: samples "
        f"{copies.nearest_distance:.4g}, reference images "
        f"{copies.nearest_distance_of_reference:.4g}. Samples that are much nearer than reference "
        "images are copies."
    )
    html = page.paragraph(text) + page.picture(copies.picture, "samples and neighbours")
    return "Nearest training images", html


def training_sections(records: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The curves of each stage.

    Args:
        records: of `metrics.jsonl`.
    """
    from wmgm_jax.evaluation.report import plots  # Imports matplotlib, which is slow.

    return [
        (f"Training of stage {stage}", page.plot(plots.training_curves(records, stage)))
        for stage in dict.fromkeys(record["stage"] for record in records)
    ]


def curve_sections(sets: ImageSets, tree: Mapping[str, Any], levels: int) -> list[Section]:
    """Power spectra, and the distributions and the sparsity of the Haar bands.

    Args:
        sets: what is compared.
        tree: of `evaluation.json`.
        levels: the number of scales S.
    """
    from wmgm_jax.evaluation.report import plots  # Imports matplotlib, which is slow.

    images = {name: data.spread(source, _PLOTTED) for name, source in sets.named.items()}
    marginals = plots.band_marginals(images["generated"], images["reference"], sets.codec, levels)
    return [
        (
            "Power spectra",
            page.paragraph(
                "Mean power by spatial frequency, low frequencies on the left. Too little power on "
                "the right is missing detail, too much is noise."
            )
            + page.plot(plots.spectra(images, sets.codec)),
        ),
        (
            "Marginals of the Haar bands",
            page.paragraph(
                "The distribution of the coefficients of each band, in standard deviations of the "
                "reference. Scale 1 is the finest."
            )
            + page.plot(marginals),
        ),
        (
            "Sparsity of the detail bands",
            page.paragraph(
                "The share of detail coefficients that are at most a threshold. The unit of the "
                "threshold is the range from black to white for images, and four standard "
                "deviations for fields."
            )
            + page.plot(plots.sparsities(tree["bands"])),
        ),
    ]


def _grid(source: data.Source, count: int) -> str:
    images = data.spread(source, count)
    # Shuffled, because neighbours in a source may look alike.
    images = np.random.default_rng(0).permutation(images)
    pictures = source.codec.to_visible(enlarge(images))
    return page.picture(image_grid(pictures), f"{len(images)} images")
