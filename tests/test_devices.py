"""A run does not depend on how its batch is spread over devices and hosts, but for rounding."""

import ast
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, TINY
from test_resume import final_state

from wmgm_jax.runs.metrics_file import read_metrics

FLAGS = (
    TINY,
    "--config.score.num_steps=20",
    "--config.msal.num_steps=20",
    "--config.msal.paper.discriminator_every=2",
    "--config.train.checkpoint_every=20",
    "--config.train.preview_every=1000",
    "--config.evaluation.every=20",
    "--config.evaluation.num_images=1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("one_device")


@pytest.fixture
def one_device(folder, run):
    if not (folder / "evaluation.json").exists():
        code, _, log = run(*FLAGS, f"--workdir={folder}")
        assert code == 0, log
    return final_state(folder)


def assert_equal_to_rounding(states, others):
    """Parameters, averages and batch statistics; twenty steps at a rate of 1e-4 reach 2e-3."""

    def compare(path, x, y):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        scale = max(1.0, np.abs(x).max(initial=0))
        assert np.abs(x - y).max(initial=0) <= 2e-6 * scale, jax.tree_util.keystr(path)

    for name, (step, model, training) in states.items():
        other_step, other_model, other_training = others[name]
        assert step == other_step == 20
        jax.tree_util.tree_map_with_path(compare, model, other_model)
        for part in ("params", "batch_stats"):
            jax.tree_util.tree_map_with_path(compare, training[part], other_training[part])


def test_four_devices_train_what_one_trains(one_device, folder, run, tmp_path):
    """Two steps a call, besides. And they measure it alike."""
    flags = (*FLAGS, f"--workdir={tmp_path}", "--config.train.steps_per_call=2")
    code, _, log = run(*flags, "--cpu_devices=4")
    assert code == 0, log
    assert_equal_to_rounding(final_state(tmp_path), one_device)
    ours, theirs = (read_metrics(path / "metrics.jsonl")[-1] for path in (tmp_path, folder))
    for name in ("psnr", "sliced_wasserstein"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3)


def test_accumulation_trains_what_the_whole_batch_trains(one_device, run, tmp_path):
    """For the score net: batch norm sees micro-batches, and differs."""
    code, _, log = run(
        *FLAGS, f"--workdir={tmp_path}", "--config.stages=score", "--config.score.accumulate=4"
    )
    assert code == 0, log
    score = {"score": final_state(tmp_path, ["score"])["score"]}
    assert_equal_to_rounding(score, one_device)


@pytest.mark.campaign
def test_two_hosts_train_what_one_trains(one_device, start, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hosts = [
        start(
            *FLAGS,
            f"--workdir={tmp_path}",
            f"--coordinator=127.0.0.1:{port}",
            "--num_hosts=2",
            f"--host_index={index}",
            "--cpu_devices=2",
        )
        for index in range(2)
    ]
    logs = [process.communicate(timeout=600)[1] for process in hosts]
    assert [process.returncode for process in hosts] == [0, 0], "\n".join(logs)
    assert_equal_to_rounding(final_state(tmp_path), one_device)
    assert (tmp_path / "evaluation.json").exists()


def test_a_device_draws_its_share_and_knows_of_no_other():
    """Images that are taken a few at a time are not gathered first."""
    code = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp
from wmgm_jax.core.devices import dividing, over_devices
one_by_one = lambda shift, x: jax.lax.map(lambda row: row + shift, x, batch_size=1)
x, devices = jnp.arange(12.0).reshape(6, 2), dividing(6)
programs = [
    jax.jit(one_by_one, in_shardings=program.input_shardings[0]).lower(1.0, x).compile()
    if gathers else program
    for program in [over_devices(one_by_one, devices).lower(1.0, x).compile()]
    for gathers in (False, True)
]
print([len(devices), len(dividing(3)), programs[0](jnp.float32(1), x).tolist()])
for program in programs:
    print(program.as_text().replace(chr(10), " "))
"""
    output = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    facts, ours, gathering = output.splitlines()
    x = np.arange(12.0).reshape(6, 2)
    assert ast.literal_eval(facts) == [2, 1, (x + 1).tolist()]
    collective = r"all-gather|all-to-all|all-reduce|collective-permute"
    assert not re.search(collective, ours)
    assert re.search(collective, gathering), "this test cannot fail"
