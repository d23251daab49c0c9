"""Pictures: uint8, false colours, grids, and PNG files."""

from pathlib import Path

import numpy as np
from PIL import Image

from wmgm_jax.core.files import atomic_writer


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8, clipped and rounded to the nearest."""
    return np.clip(np.round(np.asarray(images) * 255.0), 0, 255).astype(np.uint8)


def false_colours(fields: np.ndarray, limit: float) -> np.ndarray:
    """The first three channels of fields in false colours, side by side.

    Args:
        fields: floating-point `[B, H, W, C]`, of any C.
        limit: the value of the brightest yellow; dark blue is -limit.

    Returns:
        uint8 `[B, H, w, 3]`, a black line between the channels: w = W, 2 W + 1 or 3 W + 2. Values
        beyond the limits get their colours; NaN is black.
    """
    import matplotlib  # Slow to import, and needed only here.

    viridis = matplotlib.colormaps["viridis"]
    channels = np.moveaxis(fields[..., :3], -1, 0)
    coloured = [viridis((x + limit) / (2 * limit), bytes=True)[..., :3] for x in channels]
    line = np.zeros_like(coloured[0][:, :, :1])
    return np.concatenate([part for x in coloured for part in (line, x)][1:], axis=2)


def enlarge(images: np.ndarray, side: int = 128) -> np.ndarray:
    """Images `[B, H, W, C]` magnified by the largest whole factor that fits into `side` pixels."""
    factor = max(1, side // max(images.shape[1:3]))
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def image_grid(images: np.ndarray, columns: int | None = None, margin: int = 2) -> np.ndarray:
    """Arranges images `[B, H, W, C]` in rows on white.

    Args:
        images: uint8.
        columns: images in a row; None makes the picture about as wide as high.
        margin: pixels between neighbours and around all.

    Returns:
        uint8 `[rows * (H + margin) + margin, columns * (W + margin) + margin, C]`.
    """
    count, height, width, channels = images.shape
    if columns is None:
        columns = max(1, round((count * height / width) ** 0.5))
    rows = -(-count // columns)
    cell_height, cell_width = height + margin, width + margin
    canvas = np.full(
        (rows * cell_height + margin, columns * cell_width + margin, channels), 255, np.uint8
    )
    for i, image in enumerate(images):
        top, left = margin + i // columns * cell_height, margin + i % columns * cell_width
        canvas[top : top + height, left : left + width] = image
    return canvas


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 image `[H, W, C]`, C 1 or 3, whole or not at all."""
    with atomic_writer(path) as file:
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "PNG")
