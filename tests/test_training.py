"""The calls of the training loop, on a stage of two numbers that compiles at once."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from wmgm_jax import data
from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.runs.metrics_file import read_metrics
from wmgm_jax.systems.interface import Objective, Stage
from wmgm_jax.training import loop as training
from wmgm_jax.training import parallel
from wmgm_jax.training import reporter as metrics
from wmgm_jax.training import step as train_step
from wmgm_jax.training.state import init_state

COUNT = 8


def stage_of_two():
    """p learns the images' mean, q at every fourth step p."""
    optimizer = tiny.get_config().score.optimizer

    def p_loss(params, batch_stats, batch):
        draws = jax.vmap(jax.random.normal)(batch.keys)
        loss = jnp.mean((params["p"] - jnp.mean(batch.images) - 0.1 * draws) ** 2)
        return loss, ({"p_loss": loss}, batch_stats)

    def q_loss(params, batch_stats, batch):
        loss = (params["q"] - params["p"]) ** 2
        return loss, ({"q_loss": loss}, batch_stats)

    return Stage(
        section="score",
        settings=tiny.get_config().score,
        init=lambda key: ({"p": jnp.zeros(()), "q": jnp.ones(())}, {}),
        objectives={"p": Objective(p_loss, optimizer), "q": Objective(q_loss, optimizer, every=4)},
        export=lambda params, batch_stats: params,
        generated_and_target=None,
        is_paired=False,
    )


def trained(stage, images, per_call):
    """The state after a step an image batch `[COUNT, b, H, W, C]`, and the metrics of each step."""
    schedule = [train_step.active_terms(stage, step) for step in range(COUNT)]
    state, everything = first_state(stage), []
    for first in range(0, COUNT, per_call):
        call = slice(first, first + per_call)
        program = jax.pmap(train_step.make_train_steps(stage, schedule[call]), BATCH_AXIS)
        state, values = program(state, images[call][None])
        everything += values
    return state, everything


def first_state(stage):
    init = jax.jit(functools.partial(init_state, stage, {}))
    return parallel.replicate(init(jax.random.key(0)))


def test_several_steps_a_call_are_those_steps(monkeypatch):
    """q is updated at the first step of a call, at none, or at two. Loops run, or are unrolled."""
    stage = stage_of_two()
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 2, 2, 1), np.uint8)
    expected = trained(stage, images, 1)
    assert len({float(values["p_loss"][0]) for values in expected[1]}) == COUNT
    for per_call, unroll in [(2, 0), (8, 1)]:
        monkeypatch.setattr(train_step, "_unroll", lambda length, unroll=unroll: unroll)
        actual = trained(stage, images, per_call)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), actual, expected)


@pytest.mark.parametrize("schedule", [[("p", "q")], [("p", "q"), ("p",), ("p",)]])
def test_no_loop_runs_around_gradients_on_a_cpu(schedule, monkeypatch):
    """Not even of one turn: those of convolutions would be slow in it."""
    step = lambda state, images: (state + jnp.sum(images), {})  # noqa: E731
    monkeypatch.setattr(train_step, "make_train_step", lambda stage, active: step)
    program = jax.jit(train_step.make_train_steps(None, schedule))
    assert "while" not in program.lower(0.0, jnp.zeros((len(schedule), 1))).as_text()


def test_a_call_writes_the_state_where_it_was():
    """Twice the memory otherwise, and a copy of the state at every call."""
    config = tiny.get_config()
    config.train.steps_per_call = 4
    source = data.open_source(source="embedded", split="train", image_size=(8, 8), channels=3)
    run, stage = types.SimpleNamespace(config=config, train=source), stage_of_two()
    state = first_state(stage)
    (program,) = training.compile_calls(run, "two", stage, 0, state).values()
    memory = program.memory_analysis()
    assert memory.alias_size_in_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def test_the_share_of_time_that_waits_for_images(tmp_path, monkeypatch):
    now = [0.0]
    clock = types.SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(metrics, "time", clock)
    reporter = metrics.Reporter(tmp_path, "two", stage_of_two(), first_step=0)
    with reporter.waiting():
        now[0] += 2
    reporter.untimed(lambda seconds: now.__setitem__(0, now[0] + seconds))(100)
    now[0] += 6
    reporter.add(0, [{"p_loss": jnp.zeros(1)}, {"p_loss": jnp.ones(1)}])
    reporter.report()
    now[0] += 1
    reporter.add(2, [{"p_loss": jnp.zeros(1)}] * 2)
    reporter.report()
    reporter.close()
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert first | {"step": 2, "p_loss": 0.5, "steps_per_second": 0.25, "data_wait": 0.25} == first
    assert second | {"step": 4, "steps_per_second": 2, "data_wait": 0} == second
