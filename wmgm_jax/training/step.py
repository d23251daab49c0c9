"""One step of training, as a pure function.

Not every objective is updated at every step, and not every regularizer is added. Those that are, at
one step, are its *active terms*.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from wmgm_jax.core.codec import codec_of
from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.core.random import fold_in_each
from wmgm_jax.systems.interface import Batch, Objective, Stage
from wmgm_jax.training.optimizer import make_optimizers
from wmgm_jax.training.state import TrainState


def active_terms(stage: Stage, step: int) -> tuple[str, ...]:
    """The objectives that are updated at a step, and the regularizers that are added."""
    terms = {**stage.objectives, **stage.regularizers}
    return tuple(name for name, term in terms.items() if step % term.every == 0)


def period(stage: Stage) -> int:
    """After so many steps the same terms are active again."""
    return math.lcm(*(term.every for term in {**stage.objectives, **stage.regularizers}.values()))


def make_train_step(
    stage: Stage, active: tuple[str, ...]
) -> Callable[[TrainState, jax.Array], tuple[TrainState, dict]]:
    """One step of a stage on one device of the axis `BATCH_AXIS`.

    Args:
        stage: the stage.
        active: from `active_terms`.

    Returns:
        (state, images `[b, H, W, C]` as a source gives them) -> (state, metrics by name). Both
        come out equal on all devices.
    """
    settings, update = stage.settings, _make_update(stage, active)

    def train_step(state, images):
        place = jax.lax.axis_index(BATCH_AXIS) * len(images) + jnp.arange(len(images))
        step_key = jax.random.fold_in(jax.random.wrap_key_data(state.key_data), state.step)
        keys = fold_in_each(step_key, place)
        images = codec_of(state.statistics).to_unit_range(images)
        batch = Batch(images, keys, state.statistics)

        metrics = {}
        for name, objective in stage.objectives.items():
            if name in active:
                state, new_metrics = update(name, objective, state, batch)
                metrics |= new_metrics

        decay = settings.ema_decay
        if not stage.is_initialised:
            # A young average forgets its random start faster.
            decay = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
        averaged = ({name: state.params[name] for name in state.ema[0]}, state.batch_stats)
        ema = jax.tree.map(lambda mean, new: mean + (1 - decay) * (new - mean), state.ema, averaged)
        return dataclasses.replace(state, step=state.step + 1, ema=ema), metrics

    return train_step


def _make_update(stage: Stage, active: tuple[str, ...]) -> Callable:
    """The update of the parameters of one objective, by its gradient and its optimizer."""
    optimizers = make_optimizers(stage)

    def update(name: str, objective: Objective, state: TrainState, batch: Batch):
        regularizers = [
            regularizer
            for other, regularizer in stage.regularizers.items()
            if other in active and regularizer.objective == name
        ]

        def loss(params, batch_stats, batch):
            total, metrics = 0.0, {}
            for term in (objective, *regularizers):
                all_params = {**state.params, name: params}
                value, (more, batch_stats) = term.loss(all_params, batch_stats, batch)
                total, metrics = total + value, {**metrics, **more}
            return total, (metrics, batch_stats)

        gradient_and_metrics = _accumulated_gradient(loss, stage.settings.accumulate)
        gradient, metrics, batch_stats = gradient_and_metrics(
            state.params[name], state.batch_stats, batch
        )
        gradient, metrics = jax.lax.pmean((gradient, metrics), BATCH_AXIS)
        updates, opt_state = optimizers[name].update(
            gradient, state.opt_state[name], state.params[name]
        )
        params = optax.apply_updates(state.params[name], updates)
        state = dataclasses.replace(
            state,
            params={**state.params, name: params},
            batch_stats=batch_stats,
            opt_state={**state.opt_state, name: opt_state},
        )
        return state, {**metrics, f"{name}_gradient_norm": optax.tree.norm(gradient)}

    return update


def make_train_steps(
    stage: Stage, schedule: Sequence[tuple[str, ...]]
) -> Callable[[TrainState, jax.Array], tuple[TrainState, list[dict]]]:
    """K consecutive steps of a stage, as one program.

    Args:
        stage: the stage.
        schedule: K of `active_terms`, one a step.

    Returns:
        (state, images `[K, b, H, W, C]`) -> (state, metrics by name of each step); see
        `make_train_step`.
    """
    groups = [(active, len(list(group))) for active, group in itertools.groupby(schedule)]

    def train_steps(state, images):
        metrics, first = [], 0
        for active, count in groups:
            state, values = jax.lax.scan(
                make_train_step(stage, active),
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
