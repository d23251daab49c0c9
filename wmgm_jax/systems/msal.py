"""MSAL: multi-scale adversarial learning of the details, one network for all scales.

`msal.loss` chooses the losses: the paper's own (Eq. 21-22), or those that this package trains with
by default.
"""

from collections.abc import Callable
from typing import Protocol

import jax
from ml_collections import ConfigDict

from wmgm_jax.systems.detail_generator import DetailGenerator
from wmgm_jax.systems.interface import LazyRegularizer, Objective, Params, Stage
from wmgm_jax.systems.paper_losses import PaperLosses
from wmgm_jax.systems.relativistic_losses import RelativisticLosses


class DetailLosses(Protocol):
    """The losses of the generator and of its discriminator, with their parameters by the names
    `generator` and `discriminator`."""

    def __init__(self, settings: ConfigDict, generator: DetailGenerator, dtype: str): ...

    def objectives(self) -> dict[str, Objective]:
        """See `Stage`; without a discriminator, that of the generator alone."""
        ...

    def regularizers(self) -> dict[str, LazyRegularizer]:
        """See `Stage`."""
        ...

    def init_discriminator(self, key: jax.Array) -> Params:
        """The first parameters of the discriminator, of one scale where scales do not share."""
        ...


LOSSES: dict[str, type[DetailLosses]] = {
    "paper": PaperLosses,
    "relativistic": RelativisticLosses,
}


class MSAL:
    """The stage `msal`. It holds no arrays.

    Attributes:
        generator: G.
        losses: of G and D.
    """

    def __init__(self, config: ConfigDict, dtype: str):
        """
        Args:
            config: validated, with a section `msal`.
            dtype: in which the networks compute.
        """
        self.settings = config.msal
        self.generator = DetailGenerator(config, dtype)
        loss = self.settings.loss
        self.losses = LOSSES[loss](self.settings[loss], self.generator, dtype)

    def stage(self, reconstruct: Callable[[Params, jax.Array, jax.Array], jax.Array]) -> Stage:
        """The training of the details.

        Args:
            reconstruct: see `System`; previews show its images beside the true ones.
        """
        return Stage(
            section="msal",
            settings=self.settings,
            init=self.init,
            objectives=self.losses.objectives(),
            regularizers=self.losses.regularizers(),
            export=lambda params, batch_stats: {
                "generator": params["generator"],
                "batch_stats": batch_stats,
            },
            generated_and_target=lambda params, keys, images: (
                reconstruct(params, keys, images),
                images,
            ),
            is_paired=True,
        )

    def init(self, key: jax.Array) -> tuple[dict[str, Params], Params]:
        """The first parameters by network, and the batch-norm averages by scale."""
        generator_key, discriminator_key = jax.random.split(key)
        generator, batch_stats = self.generator.init(generator_key)
        params = {"generator": generator}
        if self.generator.is_adversarial:
            params["discriminator"] = self.generator.shared_or_by_scale(
                self.losses.init_discriminator, discriminator_key
            )
        return params, batch_stats
