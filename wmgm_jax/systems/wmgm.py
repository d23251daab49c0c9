"""WMGM: diffusion on the coarsest Haar band, one adversarial pass per scale for the details.

    x_L^S  <- reverse diffusion (Eq. 20)
    for k = S..1:   x_H^k = G(x_L^k, z^k);   x_L^(k-1) = A^T (x_L^k, x_H^k)      (Algorithm 2)
    image = x_L^0

It trains two stages independently: `score`, the network of the coarsest band, and `msal`, the
generator and the discriminator of the details.
"""

from ml_collections import ConfigDict

from wmgm_jax.systems.cascade import Cascade, GenerateDetails
from wmgm_jax.systems.interface import NetworkCall, Sampling, Stage
from wmgm_jax.systems.msal import MSAL
from wmgm_jax.systems.registry import register


@register("wmgm")
class WMGM(Cascade):
    """See `System`.

    Attributes:
        msal: the networks of the details and their training.
    """

    def __init__(self, config: ConfigDict, dtype: str):
        super().__init__(config, dtype)
        self.msal = MSAL(config, dtype)

    def detail_stages(self) -> dict[str, Stage]:
        """One stage for all scales."""
        return {"msal": self.msal.stage(self.reconstruct)}

    def make_generate_details(self, sampling: Sampling) -> GenerateDetails:
        """One pass of the generator, however the coarsest band is sampled."""
        return self.msal.generator.generate_details

    def detail_calls(self, sampling: Sampling) -> list[NetworkCall]:
        """One call of the generator per scale."""
        return [self.msal.generator.network_call(k) for k in reversed(self.scales)]
