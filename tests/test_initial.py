"""Runs that start from a trained model (`--init_from`)."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest
from conftest import TINY
from test_main import fails
from test_resume import assert_same_bits, final_state

from tests.tiny import get_config
from wmgm_jax import runs, systems
from wmgm_jax.config import registry
from wmgm_jax.core.errors import Preempted, UserError
from wmgm_jax.runs import model_file
from wmgm_jax.runs.checkpoints import Checkpoints
from wmgm_jax.training import loop, parallel
from wmgm_jax.training.state import checkpoint_trees, first_state, trained_stage

STEP = 7


def perturbed(tree, seed):
    """Numbers near those of a tree, all of them others."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: (x + 0.01 * (1 + random.random(np.shape(x)))).astype(np.float32), tree
    )


def save_trained(config, workdir, step=STEP):
    """Saves a checkpoint of every stage, with numbers of its own in every part; takes no step.

    Returns:
        The states, by stage.
    """
    run, states = runs.open_run(config, workdir), {}
    for name, stage in run.system.stages.items():
        state = first_state(run, name, stage)
        states[name] = state = dataclasses.replace(
            state,
            step=np.int32(step),
            params=perturbed(state.params, 1),
            batch_stats=perturbed(state.batch_stats, 2),
            ema=perturbed(state.ema, 3),
        )
        checkpoints = Checkpoints(workdir / "checkpoints" / name)
        checkpoints.save(step, *checkpoint_trees(parallel.replicate(state)))
        checkpoints.close()
    return states


def pack(workdir, folder):
    """Writes the model of a run as a model file; returns its folder."""
    config = runs.read_config(workdir)
    model_file.write(folder, config, runs.stage_models(workdir, systems.build(config).stages))
    return folder


def first_states(config, workdir, init_from=None):
    """The first state of every stage."""
    run = runs.open_run(config, workdir, None if init_from is None else str(init_from))
    return {name: first_state(run, name, stage) for name, stage in run.system.stages.items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of a WMGM that stands at step STEP."""
    folder = tmp_path_factory.mktemp("source")
    save_trained(get_config(), folder)
    return folder


@pytest.fixture(scope="module")
def packed(source, tmp_path_factory):
    """The same model as a model file, which has neither optimizers nor a discriminator."""
    return pack(source, tmp_path_factory.mktemp("packed"))


@pytest.mark.parametrize("name", registry.names())
def test_what_a_run_takes_from_another_and_what_is_new(name, tmp_path):
    """Every stage of every system, on images of another size."""
    before = save_trained(get_config(name), tmp_path / "source")
    pack(tmp_path / "source", tmp_path / "packed")
    config = get_config(name)
    config.data.image_size = (32, 32)
    new = first_states(config, tmp_path / "new")
    from_run = first_states(config, tmp_path / "run", tmp_path / "source")
    from_file = first_states(config, tmp_path / "file", tmp_path / "packed")
    assert list(from_run) == list(before)
    for stage, state in from_run.items():
        old = before[stage]
        assert_same_bits(
            (state.params, state.batch_stats, state.ema), (old.params, old.batch_stats, old.ema)
        )
        # Without parameters, the averages take their place; what has no average is new.
        averages, batch_stats = old.ema
        assert_same_bits(from_file[stage].params, new[stage].params | averages)
        assert_same_bits(from_file[stage].batch_stats, batch_stats)
        assert_same_bits(from_file[stage].ema, old.ema)
        for each in (state, from_file[stage]):
            for part in ("step", "key_data", "opt_state", "statistics"):
                assert_same_bits(getattr(each, part), getattr(new[stage], part))


def test_a_model_file_may_have_a_discriminator(source, tmp_path):
    """It is taken like other parameters, has no average, and must fit."""
    config = get_config()
    system = systems.build(config)
    _, trained = trained_stage(source / "checkpoints" / "msal", system.stages["msal"])
    stages = runs.stage_models(source, system.stages)
    step, model = stages["msal"]
    params = {**model["params"], "discriminator": trained.params["discriminator"]}
    stages["msal"] = (step, {**model, "params": params})
    model_file.write(tmp_path / "packed", config, stages)
    state = first_states(config, tmp_path / "run", tmp_path / "packed")["msal"]
    assert_same_bits(state.params, params)
    assert set(state.ema[0]) == {"generator"}
    config.msal.relativistic.discriminator.channels = 8
    with pytest.raises(UserError, match=r"discriminator\.channels is 4 there, and 8 here"):
        runs.open_run(config, tmp_path / "other", str(tmp_path / "packed"))
    # It samples like a model without one.
    assert set(runs.load(tmp_path / "packed").params) == set(runs.load(source).params)


def test_what_a_run_started_from_is_recorded_and_logged(source, tmp_path, caplog):
    caplog.set_level(logging.INFO, "wmgm_jax")
    first_states(get_config(), tmp_path, source)
    record = json.loads((tmp_path / "init_from.json").read_text())
    assert record == {"init_from": str(source), "step": {"score": STEP, "msal": STEP}}
    assert f"score: starting from {source}, step {STEP}" in caplog.text
    runs.read_config(tmp_path)
    assert (
        runs.open_run(get_config(), tmp_path).initial
        == runs.open_run(get_config(), tmp_path, str(source)).initial
    )


def test_averages_keep_their_start(source, tmp_path):
    """Of random parameters a young average would take nine tenths of the first step."""
    config = get_config()
    config.stages, config.score.num_steps = "score", 1
    run = runs.open_run(config, tmp_path, str(source))
    before = first_state(run, "score", run.system.stages["score"])
    loop.train(run)
    (_, model, training) = final_state(tmp_path, ["score"])["score"]
    decay = config.score.ema_decay
    expected = jax.tree.map(
        lambda mean, new: mean + (1 - decay) * (new - mean),
        before.ema[0],
        {"score": training["params"]["score"]},
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7),
        model["params"],
        expected,
    )


def stop_at(monkeypatch, call):
    monkeypatch.setattr(loop.Preemption, "requested", lambda self, now: now == call)


def test_a_run_that_is_stopped_ends_where_one_that_is_not_stopped_ends(
    source, tmp_path, monkeypatch, caplog
):
    """Stopped before its first checkpoint, in the first stage, and between the stages."""
    caplog.set_level(logging.INFO, "wmgm_jax")

    def go_on(name, init_from=source):
        loop.train(runs.open_run(get_config(), tmp_path / name, init_from and str(init_from)))

    go_on("whole")
    with monkeypatch.context() as context:
        context.setattr(loop.Reporter, "add", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            go_on("stopped")
    assert not list((tmp_path / "stopped").glob("checkpoints/*/*"))
    for call in (2, 12):
        with monkeypatch.context() as context, pytest.raises(Preempted):
            stop_at(context, call)
            go_on("stopped")
    assert "score: continuing from step 2" in caplog.text
    assert "do not start from" in caplog.text
    # The record stands for a flag that was left out.
    go_on("stopped", None)
    assert_same_bits(final_state(tmp_path / "stopped"), final_state(tmp_path / "whole"))


def test_a_source_that_has_changed_is_refused(tmp_path):
    """The second stage would start from another model than the first did."""
    save_trained(get_config(), tmp_path / "source")
    config = get_config()
    config.stages = "score"
    loop.train(runs.open_run(config, tmp_path / "run", str(tmp_path / "source")))
    save_trained(get_config(), tmp_path / "source", STEP + 1)
    with pytest.raises(UserError, match="has changed: stage msal is at step 8, and this run"):
        runs.open_run(get_config(), tmp_path / "run")


def test_a_run_with_a_checkpoint_goes_on(source, packed, tmp_path, caplog):
    caplog.set_level(logging.INFO, "wmgm_jax")
    save_trained(get_config(), tmp_path)
    run = runs.open_run(get_config(), tmp_path, str(source))
    assert run.initial is None
    assert f"--init_from is ignored: {tmp_path} has started from random parameters" in caplog.text
    assert not (tmp_path / "init_from.json").exists()


def test_a_stage_that_the_model_lacks_is_new(source, tmp_path, caplog):
    caplog.set_level(logging.INFO, "wmgm_jax")
    config = get_config()
    config.stages = "score"
    only_score = tmp_path / "only_score"
    run = runs.open_run(config, only_score)
    checkpoints = Checkpoints(only_score / "checkpoints" / "score")
    state = first_state(run, "score", run.system.stages["score"])
    checkpoints.save(STEP, *checkpoint_trees(parallel.replicate(state)))
    checkpoints.close()
    states = first_states(get_config(), tmp_path / "run", only_score)
    assert f"msal: {only_score} has no such stage: random parameters" in caplog.text
    new = first_states(get_config(), tmp_path / "new")
    assert_same_bits(states["msal"], new["msal"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score.network.channels": 16}, "config.score.network.channels is 8 there, and 16 here"),
        ({"score.network.num_heads": 1}, "config.score.network.num_heads is 2 there, and 1 here"),
        ({"score.prediction": "noise"}, "config.score.prediction is 'velocity' there"),
        ({"msal.learning": "standard"}, "config.msal.learning is 'adversarial' there"),
        ({"msal.shared": False}, "config.msal.shared is True there, and False here"),
        ({"data.channels": 1}, "config.data.channels is 3 there, and 1 here"),
        ({"wavelet.levels": 3}, "config.wavelet.levels is 2 there, and 3 here"),
        (
            {"msal.relativistic.discriminator.channels": 8},
            "config.msal.relativistic.discriminator.channels is 4 there",
        ),
    ],
)
def test_other_networks_are_refused(changes, message, source, tmp_path):
    config = get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError) as error:
        runs.open_run(config, tmp_path / "run", str(source))
    assert "has other networks: " + message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_training_may_be_another(source, packed, tmp_path):
    config = get_config()
    config.update_from_flattened_dict(
        {
            "score.batch_size": 4,
            "score.optimizer.learning_rate": 0.5,
            "score.network.dropout": 0.3,
            "msal.relativistic.energy_weight": 2.0,
            "msal.relativistic.penalty_every": 3,
            "msal.paper.discriminator.channels": 5,
            "data.augment": "flip",
            "process.schedule": "cosine",
        }
    )
    assert runs.open_run(config, tmp_path / "one", str(source)).initial.step["msal"] == STEP
    # A model file has no discriminator, which is then free.
    config.msal.relativistic.discriminator.channels = 8
    assert runs.open_run(config, tmp_path / "two", str(packed)).initial.step["msal"] == STEP


def test_mistakes_get_one_line(source, run, tmp_path):
    workdir = tmp_path / "run"
    flags = (TINY, f"--workdir={workdir}")
    fails(run(*flags, "--init_from=pretrained:nothing"), "no pretrained model 'nothing'", "exist: ")
    fails(run(*flags, f"--init_from={tmp_path}"), "--init_from", "no trained model")
    fails(run(f"{TINY}:sgm", flags[1], f"--init_from={source}"), "system is 'wmgm' there")
    fails(run(f"{TINY}:wavediff", flags[1], f"--init_from={source}"), "no checkpoint of wavediff")
    fails(run(*flags, "--mode=evaluate", f"--init_from={source}"), "--init_from", "--mode=train")
    runs.open_run(get_config(), tmp_path / "empty")
    fails(run(*flags, f"--init_from={tmp_path / 'empty'}"), "no checkpoint of score or msal")
    assert not workdir.exists()


def test_two_devices_start_from_it_as_one_does(source, run, tmp_path):
    flags = (TINY, f"--init_from={source}", "--config.stages=score", "--config.score.num_steps=3")
    finals = []
    for devices in ((), ("--cpu_devices=2",)):
        workdir = tmp_path / f"devices_{len(devices)}"
        code, _, log = run(*flags, *devices, f"--workdir={workdir}")
        assert code == 0, log
        assert f"starting from {source}" in log
        finals.append(final_state(workdir, ["score"])["score"])
    (_, model, training), (_, other_model, other_training) = finals
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5),
        (model, training["params"]),
        (other_model, other_training["params"]),
    )
