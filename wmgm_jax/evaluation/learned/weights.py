"""The file of the learned network: one `.npz` that others can use.

It holds the parameters, kernels in float16, the standard deviation of each feature over the
training images, and the settings of the training.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError, one_line
from wmgm_jax.evaluation.learned.network import Backbone

_PREFIX = "params/"


def save(path: Path, params: Any, deviation: np.ndarray, settings: dict[str, Any]) -> None:
    """Writes the file, whole or not at all.

    Args:
        path: of the file.
        params: of `Backbone`.
        deviation: `[D]`, the standard deviation of each feature over the training images.
        settings: of the training; `image_shape` is (H, W, C).

    Raises:
        UserError: the file cannot be written.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    arrays = {_PREFIX + name: np.asarray(x) for name, x in flat.items()}
    files.write_npz(path, settings=np.array(json.dumps(settings)), deviation=deviation, **arrays)


def read(path: Path, shape: tuple[int, int, int]) -> tuple[dict[str, Any], str]:
    """Reads the file.

    Args:
        path: of the file.
        shape: (H, W, C) of the images that the network is to see.

    Returns:
        `params` and `deviation`, and the SHA-256 of the file in hexadecimal digits.

    Raises:
        UserError: there is no such file, it is damaged or of another kind, or its network was
            trained on images of another shape.
    """
    if not path.is_file():
        raise UserError(f"the feature network {str(path)!r} is not an existing file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        settings = json.loads(arrays.pop("settings").item())
        trained_on = tuple(settings["image_shape"])
        deviation = arrays.pop("deviation")
        params = {name.removeprefix(_PREFIX): x for name, x in arrays.items()}
        _check(params, deviation, trained_on)
        params = {name: x.astype(np.float32) for name, x in params.items()}
    except Exception as error:  # Damaged files make NumPy raise almost anything.
        raise UserError(
            f"{str(path)!r} has no feature network ({one_line(error)}): name the "
            "feature_network.npz of a run"
        ) from error
    if trained_on != shape:
        raise UserError(
            f"the feature network {str(path)!r} is for images {list(trained_on)}, and these are "
            f"{list(shape)}: name another, or none to train one"
        )
    tree = {"params": traverse_util.unflatten_dict(params, sep="/"), "deviation": deviation}
    return tree, hashlib.sha256(path.read_bytes()).hexdigest()


def _check(params: dict[str, np.ndarray], deviation: np.ndarray, shape: tuple[int, ...]) -> None:
    """A ValueError for arrays that are not those of the network."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    expected = jax.eval_shape(Backbone().init, jax.random.key(0), image)["params"]
    flat = cast(dict[str, jax.ShapeDtypeStruct], traverse_util.flatten_dict(expected, sep="/"))
    shapes = {name: x.shape for name, x in flat.items()}
    if odd := sorted(shapes.keys() ^ params.keys()):
        raise ValueError(f"it has {'no' if odd[0] in shapes else 'an unknown'} {odd[0]!r}")
    for name, x in params.items():
        if x.shape != shapes[name] or x.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name!r} is {x.dtype} {x.shape} rather than a float {shapes[name]}")
    if deviation.ndim != 1 or not np.all(deviation > 0):
        raise ValueError("the standard deviations are not positive numbers")
