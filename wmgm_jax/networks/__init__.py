"""The Flax modules: images in, images or numbers out."""

from wmgm_jax.networks.attention_unet import AttentionUNet
from wmgm_jax.networks.denoising_generator import DenoisingGenerator
from wmgm_jax.networks.discriminator import Discriminator
from wmgm_jax.networks.fno import FNO
from wmgm_jax.networks.patch_discriminator import PatchDiscriminator
from wmgm_jax.networks.plain_unet import PlainUNet
from wmgm_jax.networks.time_discriminator import TimeDiscriminator
from wmgm_jax.networks.unet import UNet

__all__ = [
    "FNO",
    "AttentionUNet",
    "DenoisingGenerator",
    "Discriminator",
    "PatchDiscriminator",
    "PlainUNet",
    "TimeDiscriminator",
    "UNet",
]
