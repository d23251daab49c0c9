"""The authors' code, imported from checkouts of their repositories."""

import dataclasses
import importlib
import sys
from pathlib import Path
from types import ModuleType

from wmgm_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Code:
    """The modules `improved_diffusion.unet`, `Attention_GAN` and `pytorch_ssim`."""

    unet: ModuleType
    gan: ModuleType
    ssim: ModuleType


def imported(wmgm: str | None, improved_diffusion: str | None) -> Code:
    """The authors' code.

    Args:
        wmgm: a checkout of WMGM's authors' repository.
        improved_diffusion: a checkout of improved diffusion's.

    Raises:
        UserError: there is no such checkout, or it cannot be imported.
    """
    return Code(
        unet=_imported(improved_diffusion, "improved_diffusion", "improved_diffusion.unet"),
        gan=_imported(wmgm, "wmgm", "Attention_GAN"),
        ssim=_imported(wmgm, "wmgm", "pytorch_ssim"),
    )


def _imported(directory: str | None, flag: str, module: str) -> ModuleType:
    if directory is None:
        raise UserError(f"--{flag} is missing: name a checkout of the code to compare with")
    path = Path(directory, *module.split("."))
    if not path.is_dir() and not path.with_suffix(".py").exists():
        raise UserError(f"--{flag}={directory} holds no {module}: name a checkout of the code")
    sys.path.insert(0, directory)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"--{flag}={directory}: {module} cannot be imported: {error}") from error
    finally:
        sys.path.remove(directory)
