"""What a system is to the training loop, the sampler and the evaluation.

A system is trained in stages that know nothing of one another; a stage is a game of one or more
players, each a set of parameters that minimises a loss of its own. A diffusion model is a game of
one player; an adversarial pair is a game of two.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

Params = Any
Statistics = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """What a loss sees of one step.

    Attributes:
        images: float32 `[b, H, W, C]` in [-1, 1], or fields in unit range (see `units`), this
            device's part of the batch.
        keys: `[b]` keys, one an image, functions of the seed, the step and the image's place in
            the whole batch; a loss draws all its randomness from them, so that a run does not
            depend on the number of devices.
        statistics: the training set's, as `System.measure` returned them.
    """

    images: jax.Array
    keys: jax.Array
    statistics: Statistics


# (parameters of all players, batch statistics, batch) -> loss, (metrics, new batch statistics);
# called inside `jax.pmap` over the axis `layers.BATCH_AXIS`.
Loss = Callable[
    [Mapping[str, Params], Params, Batch], tuple[jax.Array, tuple[dict[str, jax.Array], Params]]
]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a reverse process is run.

    Attributes:
        sampler: a key of `samplers.SAMPLERS`; of WaveDiff, whose chain has one way back,
            "posterior".
        num_steps: N, of every reverse process of the system.
        spacing: of the time grid, see `OUProcess.times`; empty for the sampler's own.
    """

    sampler: str
    num_steps: int
    spacing: str

    @classmethod
    def of(cls, config: ConfigDict) -> "Sampling":
        """What a whole config says."""
        settings = config.sampling
        return cls(settings.sampler, settings.num_steps, settings.spacing)


@dataclasses.dataclass(frozen=True)
class Player:
    """One set of parameters and the loss that it, and it alone, minimises.

    Attributes:
        loss: differentiated with respect to this player's parameters.
        optimizer: its section of the config.
        every: the player moves on every so many-th step.
        average: whether sampling uses this player, so that a moving average of it is kept.
    """

    loss: Loss
    optimizer: ConfigDict
    every: int = 1
    average: bool = True


@dataclasses.dataclass(frozen=True)
class Penalty:
    """A term that joins the loss of a player at some steps only (lazy regularisation).

    Attributes:
        player: whose loss it joins; that player moves at all those steps.
        loss: the term.
        every: it counts at every so many-th step.
    """

    player: str
    loss: Loss
    every: int


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a system that is trained by itself.

    Attributes:
        settings: its section of the config, with `num_steps`, `batch_size`, `accumulate` and
            `ema_decay`.
        init: key -> (parameters by player, batch statistics).
        players: by name, in the order in which they move.
        export: (averaged parameters by player, averaged batch statistics) -> this stage's entries
            in the parameters of the model.
        compare: (this stage's entries and `statistics`, keys `[B]`, images `[B, H, W, C]` in
            [-1, 1]) -> (what has been learnt so far, what there is to learn), pictures of the same
            shape `[B, h, w, C]` in [-1, 1].
        is_paired: whether the i-th picture learnt should be the i-th one there is to learn, and
            not only one of their kind.
        penalties: by name, none of which is a player's.
    """

    settings: ConfigDict
    init: Callable[[jax.Array], tuple[dict[str, Params], Params]]
    players: dict[str, Player]
    export: Callable[[dict[str, Params], Params], dict[str, Params]]
    compare: Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    is_paired: bool
    penalties: dict[str, Penalty] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Work done to sample one image: a network called `count` times on the same shapes.

    Attributes:
        network: what the tables call it.
        count: calls an image.
        apply: the call.
        arguments: abstract arguments of `apply` (`jax.ShapeDtypeStruct`), for a batch of one.
    """

    network: str
    count: int
    apply: Callable[..., jax.Array]
    arguments: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class System:
    """A generative model of images `[H, W, C]`.

    Attributes:
        stages: by name, in the order of training.
        measure: batches `[B, H, W, C]` of the training set, as a source gives them -> statistics,
            float32 arrays that become the model's `statistics`.
        make_draw: how -> a pure function (parameters of the model, keys `[B]`) -> `[B, H, W, C]`
            in about [-1, 1], each image a function of its own key.
        reconstruct: (parameters of the model, keys `[B]`, images `[B, H, W, C]` in [-1, 1]) ->
            the images rebuilt from what the first stage would have generated; None where one
            stage is all there is.
        evaluations: how -> the work behind one image.
    """

    stages: dict[str, Stage]
    measure: Callable[[Iterable[np.ndarray]], Statistics]
    make_draw: Callable[[Sampling], Callable[[Params, jax.Array], jax.Array]]
    reconstruct: Callable[[Params, jax.Array, jax.Array], jax.Array] | None
    evaluations: Callable[[Sampling], list[Evaluation]]
