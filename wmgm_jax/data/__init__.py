"""Sources of images, addressed at random, and the order in which training sees the images."""

from wmgm_jax.data.batches import batch_at, batches, check_batch
from wmgm_jax.data.open import open_source
from wmgm_jax.data.source import Source, from_array, spread, subset

__all__ = [
    "Source",
    "batch_at",
    "batches",
    "check_batch",
    "from_array",
    "open_source",
    "spread",
    "subset",
]
