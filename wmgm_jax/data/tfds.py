"""Data sets of TensorFlow Datasets, read at random as `array_record` files."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np

from wmgm_jax.core.errors import UserError, one_line
from wmgm_jax.data.folder import WORKERS, decode_image
from wmgm_jax.data.source import FunctionSource, Source


def open_tfds(
    source: str,
    split: str,
    shape: tuple[int, int, int],
    directory: str,
    validation_fraction: float,
) -> Source:
    """Opens the images of one split of a TFDS data set; arguments as for `open_source`.

    Raises:
        UserError: the data set is unknown, cannot be prepared, or has no images.
    """
    key = f"--config.data.source {source!r}"
    splits = _prepare_tfds(source, directory, key)
    held_out = next((n for n in ("validation", "test") if n in splits), None)
    name = held_out if held_out and split == "valid" else "train"
    if name not in splits:
        raise UserError(f"{key} has no split {name!r}, only {sorted(splits)}: choose another")
    records = splits[name]
    positions = np.arange(len(records))
    if not held_out:
        boundary = len(records) - max(round(len(records) * validation_fraction), 1)
        positions = np.split(positions, [max(boundary, 1)])[split == "valid"]
    if not len(positions):
        raise UserError(f"{key} has no image for the {split} split: choose another")

    def decode(record: dict[str, Any]) -> np.ndarray:
        try:
            return decode_image(BytesIO(record["image"]), shape)
        except ValueError as error:
            raise UserError(f"{key} has an unreadable image ({error}): prepare it again") from error

    def take(indices: np.ndarray) -> np.ndarray:
        encoded = records.__getitems__(positions[indices].tolist())
        with ThreadPoolExecutor(WORKERS) as pool:
            return np.stack(list(pool.map(decode, encoded)))

    return FunctionSource(shape, len(positions), take)


def _prepare_tfds(source: str, directory: str, key: str) -> dict[str, Any]:
    """The records of each split, which can be read at random; images are still encoded."""
    try:
        # Of an extra.
        import tensorflow_datasets as tfds  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"{key} needs TFDS: pip install tensorflow-datasets") from error
    try:
        splits = tfds.data_source(
            source.removeprefix("tfds:"),
            data_dir=directory or None,
            decoders={"image": tfds.decode.SkipDecoding()},
            builder_kwargs={"file_format": "array_record"},  # Can be read at random.
        )
    except tfds.core.DatasetNotFoundError as error:
        catalog = "https://www.tensorflow.org/datasets/catalog/overview"
        raise UserError(f"{key} is unknown to TFDS: choose a name from {catalog}") from error
    except Exception as error:  # Builders download and convert data in their own ways.
        raise UserError(
            f"{key} cannot be prepared ({one_line(error)}): prepare it as "
            "array_record, for which TFDS may need tensorflow, and set --config.data.dir"
        ) from error
    for records in splits.values():
        feature = dict(records.dataset_info.features).get("image")
        # TFDS stores a float image as the bytes of a four-channel one.
        is_image = isinstance(feature, tfds.features.Image)
        if feature is None or not is_image or feature.np_dtype == np.float32:
            raise UserError(f"{key} has no 'image' feature of integers: choose another")
    return splits
