"""A run that is killed and started again ends where a run that was never killed ends."""

import json
import os
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import TINY

from tests import tiny
from wmgm_jax import runs, systems
from wmgm_jax.core.errors import Preempted
from wmgm_jax.runs.checkpoints import Checkpoints
from wmgm_jax.training import loop
from wmgm_jax.training.state import init_state, training_tree

STAGES = ("score", "msal")
# Two steps a call, of which the discriminator takes one.
FLAGS = (
    TINY,
    "--config.train.steps_per_call=2",
    "--config.train.checkpoint_every=4",
    "--config.msal.paper.discriminator_every=2",
)


def final_state(workdir: Path, names=STAGES) -> dict:
    """(step, model, training) of the last checkpoint of each stage."""
    states = {}
    stages = systems.build(tiny.get_config()).stages
    for name in names:
        stage = stages[name]
        like = jax.eval_shape(partial(init_state, stage, None), jax.random.key(0))
        checkpoints = Checkpoints(workdir / "checkpoints" / name)
        states[name] = checkpoints.restore(training_tree(like))
        checkpoints.close()
    return states


def assert_same_bits(a, b):
    differing = []
    jax.tree_util.tree_map_with_path(
        lambda path, x, y: None if np.array_equal(x, y) else differing.append((path, x, y)), a, b
    )
    assert not differing, f"{len(differing)} arrays differ, the first at {differing[0][0]}"


def steps_logged(workdir: Path) -> list[tuple[str, int]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [(record["stage"], record["step"]) for record in map(json.loads, lines)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return tmp_path_factory.mktemp("uninterrupted")


@pytest.fixture
def reference(uninterrupted, run):
    """A run that was never killed."""
    if not (uninterrupted / "evaluation.json").exists():
        code, _, log = run(*FLAGS, f"--workdir={uninterrupted}")
        assert code == 0, log
    return uninterrupted


def test_a_run_leaves_what_the_readme_says(reference):
    assert {path.name for path in reference.iterdir()} >= {
        "config.json", "checkpoints", "best", "metrics.jsonl", "samples", "evaluation.json",
        "report.html",
    }  # fmt: skip
    names = {path.name for path in (reference / "samples").iterdir()}
    assert names == {
        "grid.png",
        "evaluated.npy",
        *(f"{stage}_{step:07d}.png" for stage in STAGES for step in (6, 12)),
    }  # fmt: skip
    assert sorted(os.listdir(reference / "checkpoints" / "score")) == ["12", "4", "8"]
    report = json.loads((reference / "evaluation.json").read_text())
    assert report["step"] == {"score": 12, "msal": 12}
    values = {name: measure["value"] for name, measure in report["measures"].items()}
    assert values["reconstruction/psnr"] > 10
    assert 0 < values["reconstruction/ssim"] < 1
    assert values["sliced_wasserstein/mean"] > 0
    assert steps_logged(reference)[-1] == ("msal", 12)


@pytest.mark.campaign
def test_killed_at_random_instants(reference, start, run, tmp_path):
    """SIGKILL six times, each after a random number of files more has been written."""
    workdir = tmp_path / "killed"
    instants = random.Random(0)
    kills = 0
    for _ in range(6):
        process = start(*FLAGS, f"--workdir={workdir}")
        before, more = _files(workdir), instants.randint(1, 60)
        while process.poll() is None and len(_files(workdir) - before) < more:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 4
    code, _, log = run(*FLAGS, f"--workdir={workdir}")
    assert code == 0, log
    assert_same_bits(final_state(workdir), final_state(reference))
    assert steps_logged(workdir) == steps_logged(reference)


def _files(workdir: Path) -> set[str]:
    # Not Path.rglob, which fails where a folder is renamed under it.
    return {os.path.join(folder, name) for folder, _, names in os.walk(workdir) for name in names}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_a_checkpoint_first(number, reference, start, run, tmp_path):
    workdir = tmp_path / "preempted"
    # No checkpoint of its own is due before the last step.
    flags = (*FLAGS, f"--workdir={workdir}", "--config.train.checkpoint_every=1000")
    process = start(*flags)
    metrics = workdir / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(number)
    _, log = process.communicate()
    assert process.returncode == 143, log
    saved = [int(path.name) for path in (workdir / "checkpoints" / "score").iterdir()]
    assert len(saved) == 1
    assert saved[0] in range(2, 12, 2)
    assert f"score: saved step {saved[0]}" in log
    if number == signal.SIGINT:
        return  # It goes on as after SIGTERM.

    code, _, log = run(*flags)
    assert code == 0
    assert f"continuing from step {saved[0]}" in log
    assert_same_bits(
        {name: state[1:] for name, state in final_state(workdir).items()},
        {name: state[1:] for name, state in final_state(reference).items()},
    )


def test_a_signal_while_the_last_step_is_measured(tmp_path, monkeypatch):
    """It is not forgotten: the next stage, or the evaluation, is left to the next call."""
    config = tiny.get_config()
    config.score.num_steps = 1
    run = runs.open_run(config, tmp_path)

    def measure(self, model):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    monkeypatch.setattr(loop.Previews, "measure", measure)
    with pytest.raises(Preempted, match="score: saved step 1"):
        loop.train(run)
    assert (tmp_path / "checkpoints" / "score" / "1").is_dir()


def test_a_damaged_checkpoint_is_passed_over(reference, run, tmp_path):
    """The last checkpoint is damaged, so that step 8 is the newest whole one."""
    workdir = tmp_path / "damaged"
    shutil.copytree(reference, workdir)
    arrays = [p for p in (workdir / "checkpoints/score/12/training").rglob("*") if p.is_file()]
    largest = max(arrays, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)
    code, _, log = run(*FLAGS, f"--workdir={workdir}")
    assert code == 0
    assert "checkpoints/score/12 is damaged" in log
    assert "score: continuing from step 8" in log
    assert_same_bits(final_state(workdir), final_state(reference))
