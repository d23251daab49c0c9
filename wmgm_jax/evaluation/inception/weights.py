"""Weights of the Inception network of the Fréchet inception distance.

  python -m wmgm_jax.evaluation.inception.weights SOURCE.pth TARGET.npz

converts a state dictionary of pytorch-fid to the arrays of this project's network. Only the
conversion needs PyTorch. Then use the .npz with

  --config=FILE --config.evaluation.inception_weights=TARGET.npz

Without that flag, the public weights are downloaded and converted into the user's cache.
"""

import argparse
import contextlib
import functools
import hashlib
import http.client
import logging
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError, one_line
from wmgm_jax.core.files import cache_folder
from wmgm_jax.evaluation.inception.network import InceptionV3

URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
# The release states only the first eight digits, in the file's name. The others are those that
# torch-fidelity publishes for its copy of the file:
# https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

_TIMEOUT = 60  # seconds without an answer
_EPSILON = 1e-3  # of the batch norms
_CACHE_ADVICE = "free some space, or set --config.data.cache_dir to another folder"
_FLAG = "--config.evaluation.inception_weights"
_COMMAND = "python -m wmgm_jax.evaluation.inception.weights"

_log = logging.getLogger("wmgm_jax")


def load(path: str, cache_dir: str = "") -> tuple[Any, str]:
    """The parameters of `InceptionV3`.

    Args:
        path: a `.npz` that the command of this module wrote, a `.pth` as pytorch-fid distributes
            it, or "" for the public weights, which are downloaded when they are first needed.
        cache_dir: where the public weights are kept; "" for the user's cache directory.

    Returns:
        The tree of float32 parameters, and the SHA-256 of the weights in hexadecimal digits. It is
        that of the `.pth`, also for an `.npz` that was converted from one; an `.npz` that does not
        record it has its own.

    Raises:
        UserError: the file is missing, damaged or of another kind; or PyTorch or a network
            connection is needed and missing.
    """
    return _load_file(path) if path else _load_public(cache_dir)


def convert(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Converts the state dictionary of pytorch-fid's network to parameters of `InceptionV3`.

    Each batch norm is folded into the convolution before it, in float64: with s = weight /
    sqrt(running_var + 1e-3), the kernel is multiplied by s and the bias is bias - s running_mean.

    Args:
        state: arrays by name, such as `Mixed_5b.branch1x1.conv.weight` `[out, in, H, W]`. Entries
            that the features do not need, such as the head, are ignored.

    Returns:
        The tree of float32 parameters; kernels are `[H, W, in, out]`.

    Raises:
        ValueError: an entry is missing or has another shape.
    """
    arrays = {}
    for layer in sorted({name.rpartition("/")[0] for name in parameter_shapes()}):
        prefix = layer.replace("/", ".")
        names = ["conv.weight", *(f"bn.{n}" for n in ("weight", "bias", "running_mean"))]
        names = [f"{prefix}.{name}" for name in (*names, "bn.running_var")]
        if missing := [name for name in names if name not in state]:
            raise ValueError(f"it has no {missing[0]!r}")
        kernel, scale, bias, mean, variance = (np.asarray(state[n], np.float64) for n in names)
        scale = scale / np.sqrt(variance + _EPSILON)
        kernel = np.moveaxis(kernel, (2, 3, 1, 0), (0, 1, 2, 3)) * scale
        arrays[f"{layer}/kernel"] = kernel.astype(np.float32)
        arrays[f"{layer}/bias"] = (bias - mean * scale).astype(np.float32)
    return _tree(arrays)


def save(path: Path, params: Any, digest: str) -> None:
    """Writes parameters and the SHA-256 of the file they come from, as an `.npz` for `load`.

    Raises:
        UserError: the file cannot be written.
    """
    arrays = {
        name: np.asarray(x) for name, x in traverse_util.flatten_dict(params, sep="/").items()
    }
    files.write_npz(path, sha256=np.array(digest), **arrays)


@functools.cache
def parameter_shapes() -> dict[str, tuple[int, ...]]:
    """The shapes of the network's parameters, by names such as `Mixed_5b/branch1x1/kernel`."""
    image = jax.ShapeDtypeStruct((1, 1, 1, 3), jnp.float32)
    params = jax.eval_shape(InceptionV3().init, jax.random.key(0), image)["params"]
    flat = cast(dict[str, jax.ShapeDtypeStruct], traverse_util.flatten_dict(params, sep="/"))
    return {name: x.shape for name, x in flat.items()}


def _tree(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The tree of parameters, of the right names and shapes, or a ValueError."""
    shapes = parameter_shapes()
    if odd := sorted(arrays.keys() ^ shapes.keys()):
        raise ValueError(f"it has {'no' if odd[0] in shapes else 'an unknown'} {odd[0]!r}")
    for name, array in arrays.items():
        if array.dtype != np.float32 or array.shape != shapes[name]:
            found, expected = f"{array.dtype} {array.shape}", f"float32 {shapes[name]}"
            raise ValueError(f"{name!r} is {found} rather than {expected}")
    return traverse_util.unflatten_dict(jax.device_put(dict(arrays)), sep="/")


def _load_file(path: str) -> tuple[Any, str]:
    file = Path(path).expanduser()
    readers = {".npz": _read_npz, ".pth": _read_pth}
    if file.suffix not in readers or not file.is_file():
        raise UserError(
            f"weights of the Inception network: {path!r} is not an existing .npz or .pth file; "
            f"download {URL} and name that"
        )
    return readers[file.suffix](file)


def _read_npz(path: Path) -> tuple[Any, str]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        stored = arrays.pop("sha256", None)
        digest = _digest(path) if stored is None else str(stored.item())
        params = _tree(arrays)
    except Exception as error:  # Damaged files make NumPy raise almost anything.
        raise UserError(
            f"{str(path)!r} has no weights of the Inception network ({one_line(error)}): make it "
            f"again with {_COMMAND} SOURCE.pth TARGET.npz"
        ) from error
    return params, digest


def _read_pth(path: Path) -> tuple[Any, str]:
    torch = _import_torch(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        params = convert({name: value.detach().numpy() for name, value in state.items()})
    except Exception as error:  # Damaged files make PyTorch raise almost anything.
        raise UserError(
            f"{str(path)!r} has no weights of pytorch-fid's Inception network "
            f"({one_line(error)}): download {URL}"
        ) from error
    return params, _digest(path)


def _import_torch(path: Path) -> ModuleType:
    try:
        # Large, and needed only here. Of an extra.
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"to convert the Inception weights ({path.name}) once, PyTorch is needed: pip install "
            f"torch, or convert {URL} on another machine with {_COMMAND} SOURCE.pth TARGET.npz and "
            f"set {_FLAG}=TARGET.npz"
        ) from error
    return torch


def _load_public(cache_dir: str) -> tuple[Any, str]:
    source = cache_folder(cache_dir) / URL.rpartition("/")[2]
    converted = source.with_suffix(".npz")
    if converted.is_file():
        try:
            params, digest = _read_npz(converted)
            if digest == SHA256:
                return params, digest
        except UserError as error:
            _log.warning("converting the weights again: %s", error)
    _import_torch(source)  # Before the download, which would be useless without it.
    if not source.is_file() or _digest(source) != SHA256:
        content = _download(source)
        with _writing(source, _CACHE_ADVICE), files.atomic_writer(source) as file:
            file.write(content)
    params, digest = _read_pth(source)
    with _writing(converted, _CACHE_ADVICE):
        save(converted, params, digest)
    return params, digest


def _download(target: Path) -> bytes:
    """Downloads the public weights and checks their digest."""
    _log.info("downloading %s to %s", URL, target)
    instead = f"download {URL} yourself to {target}, or to any PATH and set {_FLAG}=PATH"
    try:
        with urllib.request.urlopen(URL, timeout=_TIMEOUT) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"the weights of the Inception network cannot be downloaded ({one_line(error)}): "
            f"{instead}"
        ) from error
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256:
        raise UserError(
            f"the download of the Inception weights is wrong: it has {len(content)} bytes and the "
            f"SHA-256 {digest} rather than {SHA256}: {instead}"
        )
    return content


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _writing(path: Path, advice: str) -> Iterator[None]:
    """Replaces the advice in the error for a file that cannot be written."""
    try:
        yield
    except UserError as error:
        raise UserError(
            f"cannot write {path} ({one_line(error.__cause__ or error)}): {advice}"
        ) from error


def main() -> None:
    """Converts one file. The user's mistakes give one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog=_COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SOURCE.pth", help=f"the weights, for example from {URL}")
    parser.add_argument("target", metavar="TARGET.npz", type=Path, help="the file to write")
    arguments = parser.parse_args()
    if arguments.target.suffix != ".npz":
        parser.error(f"the target {str(arguments.target)!r} must end in .npz")
    try:
        params, digest = _load_file(arguments.source)
        with _writing(arguments.target, "choose another target"):
            save(arguments.target, params, digest)
    except UserError as error:
        parser.exit(2, f"wmgm_jax: {error}\n")


if __name__ == "__main__":
    main()
