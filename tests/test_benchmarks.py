"""The benchmarks run from their command to their tables, at the smallest size there is."""

import csv
import importlib.util
import os
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, TINY
from PIL import Image

import benchmarks.systems
from benchmarks import profile, timing
from configs import celebahq_wsgm, colon_ihc, colon_ihc_sgm, wavediff_colon_ihc
from tests.tiny import get_config
from wmgm_jax import systems
from wmgm_jax.config import sibling
from wmgm_jax.config.compatibility import different
from wmgm_jax.evaluation.report.tables import aligned
from wmgm_jax.runs.untrained import parameters

SMALL = (
    TINY,
    "--config.score.network.channels=8",
    "--config.score.network.num_blocks=1",
    "--config.score.network.multipliers=(1,)",
    "--config.score.network.attention_levels=()",
    "--config.wavelet.levels=1",
    "--config.msal.generator.depth=1",
    "--config.msal.paper.discriminator.num_blocks=1",
    "--config.msal.loss=paper",
    "--config.msal.paper.discriminator_every=4",
    "--repeats=1",
)


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_contenders_take_turns_and_the_first_round_does_not_count():
    calls = []

    def slow_at_first():
        calls.append("slow at first")
        time.sleep(0.2 if len(calls) == 1 else 0.0)

    def slow():
        calls.append("slow")
        time.sleep(0.01)

    seconds = timing.paired_medians({"slow at first": slow_at_first, "slow": slow}, repeats=3)
    assert calls == ["slow at first", "slow"] * 4
    assert seconds["slow at first"] < 0.01 <= seconds["slow"]


def test_of_a_turn_the_last_call_counts():
    calls = []

    def slow_every_other_time():
        calls.append(len(calls))
        time.sleep(0.2 if len(calls) % 2 else 0.0)

    seconds = timing.paired_medians({"contender": slow_every_other_time}, repeats=2, calls=2)
    assert len(calls) == 6
    assert seconds["contender"] < 0.1


def test_a_table_for_the_terminal():
    rows = [{"name": "a", "value": 0.25}, {"name": "bcdef", "value": 12}]
    assert aligned(rows).splitlines() == ["name   value", "a       0.25", "bcdef     12"]


def test_untrained_parameters_are_those_of_the_stage():
    for stage in systems.build(get_config()).stages.values():
        found, expected = parameters(stage), jax.eval_shape(stage.init, jax.random.key(0))
        assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, expected)
        assert all(np.all(x != 0) for x in jax.tree.leaves(found))


def test_haar(run, tmp_path):
    code, output, log = run(
        "haar", "--shape=2,16,16,1", "--repeats=2", f"--out={tmp_path}", module="benchmarks"
    )
    assert code == 0, log
    assert "matrix product (GFLOP/s)" in output.splitlines()[0]
    rows = read(tmp_path / "haar.csv")
    names = [row["transform"] for row in rows]
    assert names == ["wmgm_jax", "jaxwt", "jaxwt, channels first", "PyWavelets", "x + 1"]
    assert all(name in output for name in names)
    assert float(rows[0]["ms / ms of wmgm_jax"]) == float(rows[-1]["ms / floor"]) == 1
    # Two passes over the memory, of 2 KB, in the milliseconds.
    gigabytes = [float(row["ms"]) * float(row["GB/s"]) for row in rows]
    np.testing.assert_allclose(gigabytes, 1e3 * 2 * 2 * 16 * 16 * 4 / 1e9, rtol=1e-3)


def test_systems_training_and_scaling(run, tmp_path):
    code, output, log = run(
        "systems",
        "training",
        "scaling",
        "profile",
        *SMALL,
        "--systems=wsgm",
        "--batches=1",
        "--sides=16",
        "--scales=1",
        f"--out={tmp_path}",
        "--cpu_devices=2",
        module="benchmarks",
    )
    assert code == 0, log
    tables = {name: read(tmp_path / f"{name}.csv") for name in ("systems", "training", "scaling")}
    for row in (row for rows in tables.values() for row in rows):
        assert 0 < float(row["share of peak"]) < 1.5
        for key in ("s", "GFLOP an image", "planned memory (GB)"):
            assert float(row[key]) > 0
        assert float(row["images/s"]) == pytest.approx(int(row["images"]) / float(row["s"]))

    wmgm, *_, wsgm = tables["systems"]
    assert (wmgm["system"], wmgm["sampler"], wmgm["steps"]) == ("WMGM", "euler_maruyama", "16")
    assert (wsgm["system"], float(wmgm["s / first"])) == ("WSGM", 1)
    assert float(wsgm["GFLOP an image"]) > float(wmgm["GFLOP an image"])

    steps = {row["step"]: row for row in tables["training"]}
    both, one, mean = (
        steps[f"msal{kind}"]
        for kind in (": generator and discriminator", ": generator", ", mean of 4 steps")
    )
    assert "score" in steps
    for key in ("s", "GFLOP an image"):
        expected = (float(both[key]) + 3 * float(one[key])) / 4
        assert float(mean[key]) == pytest.approx(expected)

    assert [row["value"] for row in tables["scaling"]] == ["1", "16", "1", "1", "2"]
    assert [row["devices"] for row in tables["scaling"]] == ["1", "1", "1", "1", "2"]
    assert min(Image.open(tmp_path / "scaling.png").size) > 100
    assert "scaling" in output

    shares = {(row["network"], row["work"]): row["share"] for row in read(tmp_path / "profile.csv")}
    assert {network for network, _ in shares} == {"score network", "generator", "elsewhere"}
    assert ("score network", "other convolutions") in shares
    assert sum(map(float, shares.values())) == pytest.approx(1)


@pytest.mark.parametrize(
    ("origin", "kind"),
    [
        ("UNet/ResidualBlock_3/Conv_0/dot_general", "products of Winograd's algorithm"),
        (
            "UNet/Conv_1/while/body/closed_call/vmap()/dot_general",
            "products of Winograd's algorithm",
        ),
        ("UNet/ResidualBlock_3/Conv_0/while/body/closed_call/vmap()/sub", "its transforms"),
        ("UNet/ResidualBlock_3/Conv_2/conv_general_dilated", "other convolutions"),
        ("UNet/SelfAttention_0/Dense_0/dot_general", "projections of attention"),
        ("UNet/SelfAttention_0/vmap()/reduce_max", "attention itself"),
        ("UNet/SelfAttention_0/GroupNorm_0/reduce_sum", "normalisation"),
        ("UNet/ResidualBlock_3/jit(silu)/mul", "activations, sums, copies"),
    ],
)
def test_what_an_instruction_does(origin, kind):
    assert profile.kind(f"jit(sample_fn)/while/body/closed_call/{origin}") == (
        "score network",
        kind,
    )
    other = origin.replace("UNet", "AttentionUNet")
    assert profile.kind(f"jit(sample_fn)/{other}") == ("generator", kind)


@pytest.mark.parametrize(
    ("path", "system", "expected"),
    [
        ("configs/colon_ihc.py", "sgm", colon_ihc_sgm.get_config),
        ("configs/colon_ihc.py", "wavediff", wavediff_colon_ihc.get_config),
        ("configs/celebahq.py:30k", "wsgm", lambda: celebahq_wsgm.get_config("30k")),
        ("mine.py", "sgm", lambda: sibling(colon_ihc.get_config(), "sgm")),
        (None, "sgm", lambda: sibling(colon_ihc.get_config(), "sgm")),
    ],
)
def test_another_system_is_of_the_file_beside(path, system, expected, monkeypatch):
    monkeypatch.chdir(ROOT)
    expected = expected()
    given = {"seed": 5, "score.ema_decay": 0.5, "msal.num_steps": 3}
    other = benchmarks.systems.other_config(colon_ihc.get_config(), system, path, given)
    expected.seed = 5
    for section in {"score", "details"} & set(expected):
        expected[section].ema_decay = 0.5
    assert different(other, expected) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["heat"], "'heat': all arguments are flags or haar, systems, training"),
        (["haar", "--shape=2,16"], "--shape is B,H,W,C"),
        (["haar", "--levels=20"], "--levels=20 does not divide .*: H and W .* by 1048576"),
        (["scaling", "--batches=1,x"], "--batches is a list of whole numbers"),
        (["scaling", "--devices=64"], "--devices=64: there are 1;"),
        (["systems", "--config=tests/tiny.py:sgm"], "--config must be of WMGM"),
        (["pytorch"], "PyTorch: pip install torch|--improved_diffusion is missing"),
    ],
)
def test_mistakes_get_one_line(flags, message, run):
    code, _, log = run(*flags, module="benchmarks")
    assert code == 2, log
    assert re.search(message, log)
    assert "Traceback" not in log


CHECKOUTS = [os.environ.get(name, "") for name in ("WMGM_CHECKOUT", "IMPROVED_DIFFUSION_CHECKOUT")]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
@pytest.mark.skipif(
    not all(map(os.path.isdir, CHECKOUTS)),
    reason="needs WMGM_CHECKOUT and IMPROVED_DIFFUSION_CHECKOUT, folders of the authors' code",
)
def test_the_authors_networks_compute_what_ours_do(run, tmp_path):
    wmgm, improved_diffusion = CHECKOUTS
    code, _, log = run(
        "pytorch",
        TINY,
        f"--wmgm={wmgm}",
        f"--improved_diffusion={improved_diffusion}",
        "--config.data.image_size=(64,64)",
        "--config.msal.generator.depth=5",
        "--config.msal.paper.discriminator_every=2",
        # 32 groups of 4 channels, as there.
        "--config.score.network.channels=128",
        "--config.score.network.dropout=0.0",
        "--batch_size=2",
        "--repeats=1",
        f"--out={tmp_path}",
        module="benchmarks",
    )
    assert code == 0, log
    rows = {row["work"]: row for row in read(tmp_path / "pytorch.csv")}
    for work in ("score, 2 of 16x16", "generator, 2 of 32x32", "drawing 2, 16 steps"):
        assert 0 < float(rows[work]["difference"]) < 1e-4
    assert all(float(row["theirs / ours"]) > 0 for row in rows.values())
