"""The images that come with the package: crops of a micrograph that scikit-image ships."""

import numpy as np
from PIL import Image

from wmgm_jax.core.errors import UserError
from wmgm_jax.data.source import FunctionSource, Source


def open_embedded(split: str, shape: tuple[int, int, int]) -> Source:
    """All crops of one split: the upper three quarters of the micrograph, or the rest.

    Args:
        split: "train" or "valid".
        shape: (H, W, C), C 1 or 3.

    Raises:
        UserError: that part of the micrograph is smaller than (H, W).
    """
    from skimage.data import immunohistochemistry  # Slow to import, and needed only here.

    image = immunohistochemistry()
    # Split by rows, because the bottom strip has all types of tissue (glands, their lumen and
    # stroma), and the columns on the right are mostly stroma.
    boundary = image.shape[0] * 3 // 4
    region = image[:boundary] if split == "train" else image[boundary:]
    (height, width, channels), (rows, columns, _) = shape, region.shape
    if height > rows or width > columns:
        raise UserError(
            f"--config.data.image_size is {height}x{width} but the {split} part of the embedded "
            f"image is {rows}x{columns}: use a smaller size or another --config.data.source"
        )
    if channels == 1:
        region = np.asarray(Image.fromarray(region).convert("L"))[..., None]
    crops = np.lib.stride_tricks.sliding_window_view(region, (height, width), axis=(0, 1))
    crops = np.moveaxis(crops, 2, -1)  # [rows, columns, H, W, C], a view of the image.
    positions = crops.shape[:2]
    count = positions[0] * positions[1]
    return FunctionSource(shape, count, lambda indices: crops[np.unravel_index(indices, positions)])
