"""Arrays as tensors of theirs, in both layouts that PyTorch knows."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import torch

LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def difference(ours: jax.Array, theirs: Mapping[str, Callable[[], torch.Tensor]]) -> float:
    """The largest over the largest of ours, `[B, H, W, C]`, in the worse layout."""
    ours = np.asarray(ours)
    results = (np.moveaxis(call().cpu().numpy(), 1, -1) for call in theirs.values())
    return float(max(np.abs(x - ours).max() for x in results) / np.abs(ours).max())


def device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def tensor(x: np.ndarray, layout: str) -> torch.Tensor:
    """`[B, H, W, C]` as `[B, C, H, W]` in a layout of memory; `[B]` as it is."""
    x = np.array(x)
    if x.ndim == 1:
        return torch.from_numpy(x).to(device())
    return torch.from_numpy(np.moveaxis(x, -1, 1)).to(device(), memory_format=LAYOUTS[layout])


def per_channel(x: np.ndarray) -> torch.Tensor:
    """`[..., C]` as `[..., C, 1, 1]`."""
    return torch.from_numpy(np.array(x))[..., None, None].to(device())


def inference(call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    return finished(torch.inference_mode()(call))


def finished(call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The call, which returns when its work is done."""

    def finished():
        result = call()
        if result.is_cuda:
            torch.cuda.synchronize()
        return result

    return finished
