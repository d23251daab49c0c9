"""What a system is to the training loop, the sampler and the evaluation.

A system trains in stages that know nothing of one another. A stage minimises one or more
objectives, each a loss and the parameters that minimise it. A diffusion model has one objective; an
adversarial pair has two.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

Params = Any
BatchStats = Any
Statistics = Any
Scalar = jax.Array | float

# (parameters of the model, keys `[B]`) -> images `[B, H, W, C]`.
Draw = Callable[[Params, jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """What a loss sees of one step.

    Attributes:
        images: float32 `[b, H, W, C]` in unit range (see `core.codec`), this device's part of the
            batch.
        keys: `[b]` keys, one an image. Each is a function of the seed, the step and the image's
            place in the whole batch. A loss draws all its randomness from them, so that a run does
            not depend on the number of devices.
        statistics: the training set's, from `System.compute_statistics`, with the codec's.
    """

    images: jax.Array
    keys: jax.Array
    statistics: Statistics


# (parameters by objective, batch-norm averages, batch) -> loss, (metrics, new batch-norm
# averages). Losses are called inside `jax.pmap` over the axis `core.devices.BATCH_AXIS`.
Loss = Callable[
    [Mapping[str, Params], Params, Batch], tuple[Scalar, tuple[Mapping[str, Scalar], Params]]
]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a reverse process is run.

    Attributes:
        sampler: a key of `samplers.SAMPLERS`; "posterior" for WaveDiff's chain.
        num_steps: N, of every reverse process of the system.
        spacing: of the time grid, see `OUProcess.times`; empty for the sampler's own.
    """

    sampler: str
    num_steps: int
    spacing: str

    @classmethod
    def of(cls, config: ConfigDict) -> "Sampling":
        """The settings of a whole config."""
        settings = config.sampling
        return cls(settings.sampler, settings.num_steps, settings.spacing)


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss and the parameters that minimise it.

    Attributes:
        loss: differentiated with respect to the parameters of this objective alone.
        optimizer: its section of the config.
        every: the parameters are updated every `every` steps.
        ema: whether to keep an exponential moving average of the parameters. Sampling uses it.
    """

    loss: Loss
    optimizer: ConfigDict
    every: int = 1
    ema: bool = True


@dataclasses.dataclass(frozen=True)
class LazyRegularizer:
    """A penalty that is added to an objective at some steps only (Karras et al. 2020, lazy
    regularization, https://arxiv.org/abs/1912.04958).

    Attributes:
        objective: the name of the objective, which is updated at all those steps.
        loss: the penalty.
        every: it is added every `every` steps.
    """

    objective: str
    loss: Loss
    every: int


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a system that is trained by itself.

    Attributes:
        section: the name of its section of the config.
        settings: that section, with `num_steps`, `batch_size`, `accumulate` and `ema_decay`.
        init: key -> (parameters by objective, batch-norm averages).
        objectives: by name, in the order in which they are updated.
        export: (EMA of the parameters by objective, EMA of the batch-norm averages) -> this stage's
            entries in the parameters of the model.
        generated_and_target: (this stage's entries and `statistics`, keys `[B]`, images
            `[B, H, W, C]` in unit range) -> (what the stage generates, what it should generate),
            both `[B, h, w, C]` in unit range.
        is_paired: whether the i-th generated picture should be the i-th target. If not, the two
            sets should only look alike.
        regularizers: by name; no objective has the same name.
        is_initialised: whether its training starts from a trained model. The averages of the
            parameters then do not forget their start faster while they are young.
        group_size: images that follow each other in a batch and that a loss judges together. It
            divides what a device gets of a micro-batch, so that no group lies on two devices.
    """

    section: str
    settings: ConfigDict
    init: Callable[[jax.Array], tuple[dict[str, Params], BatchStats]]
    objectives: dict[str, Objective]
    export: Callable[[dict[str, Params], BatchStats], dict[str, Params]]
    generated_and_target: Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    is_paired: bool
    regularizers: dict[str, LazyRegularizer] = dataclasses.field(default_factory=dict)
    is_initialised: bool = False
    group_size: int = 1


@dataclasses.dataclass(frozen=True)
class NetworkCall:
    """Work done to sample one image: a network called `count` times on the same shapes.

    Attributes:
        network: its name in tables.
        count: calls an image.
        apply: the call.
        arguments: abstract arguments of `apply` (`jax.ShapeDtypeStruct`), for a batch of one.
    """

    network: str
    count: int
    apply: Callable[..., jax.Array]
    arguments: tuple[Any, ...]


class System(Protocol):
    """A generative model of images `[H, W, C]`, built from a validated config. It holds no arrays.

    A class implements it, and registers with `systems.register`.
    """

    def __init__(self, config: ConfigDict, dtype: str):
        """
        Args:
            config: validated.
            dtype: in which the networks compute.
        """
        ...

    @property
    def stages(self) -> dict[str, Stage]:
        """By name, in the order of training."""
        ...

    @property
    def reconstruct(self) -> Callable[[Params, jax.Array, jax.Array], jax.Array] | None:
        """(parameters of the model, keys `[B]`, images `[B, H, W, C]` in unit range) -> the images
        rebuilt from their true coarsest band. None for a system of one stage."""
        ...

    def compute_statistics(self, batches: Iterable[jax.Array | np.ndarray]) -> Statistics:
        """The statistics that normalise what the networks see; they become part of the model.

        Args:
            batches: float32 `[B, H, W, C]` in unit range, of the training set.

        Returns:
            float32 arrays by name.
        """
        ...

    def make_draw(self, sampling: Sampling) -> Draw:
        """Makes a pure function (parameters of the model, keys `[B]`) -> `[B, H, W, C]`, in about
        unit range. Each image is a function of its own key.

        Raises:
            ValueError: an unknown sampler or spacing, or fewer steps than one.
            UserError: a system that is sampled in one way alone, and not in this one.
        """
        ...

    def network_calls(self, sampling: Sampling) -> list[NetworkCall]:
        """The work behind one image."""
        ...
