"""The measures that one looks at first."""

from collections.abc import Mapping
from typing import Any

HEADLINES = {
    "fid": "FID",
    "learned/frechet": "Fréchet distance, learned features",
    "learned/precision": "precision, learned features",
    "learned/recall": "recall, learned features",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "sliced_wasserstein/mean": "sliced Wasserstein distance",
    "spectrum_error": "power spectrum error (dB)",
    "reconstruction/psnr": "PSNR of rebuilt images (dB)",
    "reconstruction/ssim": "SSIM of rebuilt images",
}


def summary(measures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The headlines that were measured, one line each."""
    return [
        f"{label}: {_text(measures[name])}" for name, label in HEADLINES.items() if name in measures
    ]


def _text(measure: Mapping[str, Any]) -> str:
    """A value, its interval, and the value of training images."""
    text = f"{measure['value']:.4g}"
    if measure["interval"] is not None:
        text += " [{:.4g}, {:.4g}]".format(*measure["interval"])
    if measure["training"] is not None:
        text += f"; training images {measure['training']:.4g}"
    return text
