"""One step of training, as a pure function: every player of a stage that is due moves once."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.core.units import to_unit_range
from wmgm_jax.systems.interface import Batch, Player, Stage, Statistics
from wmgm_jax.training.optimizer import make_optimizers


@flax.struct.dataclass
class TrainState:
    """Everything that a step reads and writes, and a checkpoint holds.

    Attributes:
        step: steps taken, int32; also the position in the data.
        key_data: the raw key from which each step's keys are folded, uint32.
        params: by player.
        batch_stats: of the stage's networks.
        average: exponential moving averages of (the averaged players' params, batch_stats).
        opt_state: by player.
        statistics: of the training set.
    """

    step: jax.Array
    key_data: jax.Array
    params: dict[str, Any]
    batch_stats: Any
    average: tuple[dict[str, Any], Any]
    opt_state: dict[str, Any]
    statistics: Any


def init_state(stage: Stage, statistics: Statistics, key: jax.Array) -> TrainState:
    """The state before the first step."""
    init_key, run_key = jax.random.split(key)
    params, batch_stats = stage.init(init_key)
    optimizers = make_optimizers(stage)
    averaged = {name: params[name] for name, player in stage.players.items() if player.average}
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        key_data=jax.random.key_data(run_key),
        params=params,
        batch_stats=batch_stats,
        average=(averaged, batch_stats),
        opt_state={name: optimizers[name].init(params[name]) for name in params},
        statistics=statistics,
    )
    # No two leaves may share a buffer that a step is going to donate.
    return jax.tree.map(jnp.array, state)


def due_players(stage: Stage, step: int) -> tuple[str, ...]:
    """The players that move at a step, and the penalties that count at it."""
    parts = {**stage.players, **stage.penalties}
    return tuple(name for name, part in parts.items() if step % part.every == 0)


def period(stage: Stage) -> int:
    """After so many steps the same players and penalties are due again."""
    return math.lcm(*(part.every for part in {**stage.players, **stage.penalties}.values()))


def make_train_step(
    stage: Stage, due: tuple[str, ...]
) -> Callable[[TrainState, jax.Array], tuple[TrainState, dict]]:
    """One step of a stage on one device of the axis `BATCH_AXIS`.

    Args:
        stage: the stage.
        due: the players that move and the penalties that count, from `due_players`.

    Returns:
        (state, images `[b, H, W, C]` as a source gives them) -> (state, metrics by name). Both
        come out equal on all devices.
    """
    optimizers = make_optimizers(stage)
    settings = stage.settings

    def move(name: str, player: Player, state: TrainState, batch: Batch):
        penalties = [
            penalty
            for other, penalty in stage.penalties.items()
            if other in due and penalty.player == name
        ]

        def loss(params, batch_stats, batch):
            total, metrics = 0.0, {}
            for part in (player, *penalties):
                everyone = {**state.params, name: params}
                value, (more, batch_stats) = part.loss(everyone, batch_stats, batch)
                total, metrics = total + value, metrics | more
            return total, (metrics, batch_stats)

        gradient_and_metrics = _accumulated_gradient(loss, settings.accumulate)
        gradient, metrics, batch_stats = gradient_and_metrics(
            state.params[name], state.batch_stats, batch
        )
        gradient, metrics = jax.lax.pmean((gradient, metrics), BATCH_AXIS)
        updates, opt_state = optimizers[name].update(
            gradient, state.opt_state[name], state.params[name]
        )
        params = optax.apply_updates(state.params[name], updates)
        state = state.replace(
            params={**state.params, name: params},
            batch_stats=batch_stats,
            opt_state={**state.opt_state, name: opt_state},
        )
        return state, {**metrics, f"{name}_gradient_norm": optax.tree.norm(gradient)}

    def train_step(state, images):
        place = jax.lax.axis_index(BATCH_AXIS) * len(images) + jnp.arange(len(images))
        step_key = jax.random.fold_in(jax.random.wrap_key_data(state.key_data), state.step)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, place)
        batch = Batch(to_unit_range(images), keys, state.statistics)

        metrics = {}
        for name, player in stage.players.items():
            if name in due:
                state, moved = move(name, player, state, batch)
                metrics |= moved

        # A young average forgets its start faster.
        decay = jnp.minimum(settings.ema_decay, (1 + state.step) / (10 + state.step))
        averaged = ({name: state.params[name] for name in state.average[0]}, state.batch_stats)
        average = jax.tree.map(
            lambda mean, new: mean + (1 - decay) * (new - mean), state.average, averaged
        )
        return state.replace(step=state.step + 1, average=average), metrics

    return train_step


def make_train_steps(
    stage: Stage, dues: Sequence[tuple[str, ...]]
) -> Callable[[TrainState, jax.Array], tuple[TrainState, list[dict]]]:
    """K consecutive steps of a stage, as one program.

    Args:
        stage: the stage.
        dues: K of `due_players`, one a step.

    Returns:
        (state, images `[K, b, H, W, C]`) -> (state, metrics by name of each step); see
        `make_train_step`.
    """
    runs = [(due, len(list(run))) for due, run in itertools.groupby(dues)]

    def train_steps(state, images):
        metrics, first = [], 0
        for due, count in runs:
            state, values = jax.lax.scan(
                make_train_step(stage, due),
                state,
                images[first : first + count],
                unroll=_unroll(count),
            )
            metrics += [jax.tree.map(lambda x, i=i: x[i], values) for i in range(count)]
            first += count
        return state, metrics

    return train_steps


def _unroll(length: int) -> int:
    """`unroll` of a scan around gradients: 0, all of it written out, or 1, a loop.

    On a CPU the gradients of convolutions take some 20 times as long in a loop, be it of one turn.
    Written out, micro-batches save no memory there.
    """
    return 0 if length == 1 or jax.default_backend() == "cpu" else 1


def _accumulated_gradient(loss: Callable, accumulate: int) -> Callable:
    """`jax.grad` of a loss averaged over `accumulate` micro-batches, one after the other.

    Returns:
        (params, batch_stats, batch) -> (gradient, metrics, batch_stats).
    """
    gradient_fn = jax.grad(loss, has_aux=True)

    def accumulated(params, batch_stats, batch):
        def micro_step(batch_stats, micro):
            images, keys = micro
            gradient, (metrics, batch_stats) = gradient_fn(
                params, batch_stats, Batch(images, keys, batch.statistics)
            )
            return batch_stats, (gradient, metrics)

        if accumulate == 1:
            batch_stats, means = micro_step(batch_stats, (batch.images, batch.keys))
            return *means, batch_stats

        micros = jax.tree.map(
            lambda x: x.reshape(accumulate, -1, *x.shape[1:]), (batch.images, batch.keys)
        )
        shapes = jax.eval_shape(micro_step, batch_stats, jax.tree.map(lambda x: x[0], micros))[1]

        def add(carry, micro):
            batch_stats, sums = carry
            batch_stats, new = micro_step(batch_stats, micro)
            return (batch_stats, jax.tree.map(jnp.add, sums, new)), None

        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (batch_stats, sums), _ = jax.lax.scan(
            add, (batch_stats, zeros), micros, unroll=_unroll(accumulate)
        )
        return *jax.tree.map(lambda x: x / accumulate, sums), batch_stats

    return accumulated
