"""Every experiment runs from its command to its table, at the smallest size there is."""

import csv
import re
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import TINY
from PIL import Image

import wmgm_jax
from configs import colon_ihc, faces128, wavediff_faces128
from experiments import comparison
from tests.tiny import get_config
from wmgm_jax import systems
from wmgm_jax.config.compatibility import different
from wmgm_jax.config.validation import validate
from wmgm_jax.core.errors import UserError
from wmgm_jax.core.pictures import enlarge, image_grid
from wmgm_jax.evaluation.report.figures import rows_of_images, write_figure
from wmgm_jax.evaluation.report.tables import markdown, write_table
from wmgm_jax.systems import cost


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_table_for_programs_and_one_for_eyes(tmp_path):
    rows = [{"name": "a, b", "value": 1 / 3}, {"name": "c", "value": 12}]
    write_table(tmp_path / "table", rows)
    assert [row["name"] for row in read(tmp_path / "table.csv")] == ["a, b", "c"]
    assert float(read(tmp_path / "table.csv")[0]["value"]) == 1 / 3
    assert markdown(rows).splitlines() == [
        "| name | value |",
        "| --- | --- |",
        "| a, b | 0.3333 |",
        "| c | 12 |",
    ]
    # What a row lacks stays blank, where the others have it.
    assert markdown([{"a": 1, "c": 3}, {"a": 1, "b": 2, "c": 3}]).splitlines() == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| 1 |  | 3 |",
        "| 1 | 2 | 3 |",
    ]


def test_rows_of_images_are_shown_pixel_by_pixel(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
    rows = {"one": images[:3], "A NAME OF WMGM": images[3:]}
    write_figure(tmp_path / "rows.png", rows_of_images(rows))
    shown = np.asarray(Image.open(tmp_path / "rows.png"))
    expected = image_grid(enlarge(images), columns=3)
    np.testing.assert_array_equal(shown[:, -expected.shape[1] :, :1], expected)
    margin = shown[:, : -expected.shape[1], 0]
    assert all(np.min(half) < 128 for half in np.split(margin, 2))
    assert np.min(margin[:, :5]) == 255  # no name is cut off


def test_few_steps(run, tmp_path):
    flags = ("--search=False", "--num_images=100", TINY, f"--out={tmp_path}")
    code, _, log = run(*flags, module="experiments.few_steps")
    assert code == 0, log
    spectra = np.load(tmp_path / "spectra.npz", allow_pickle=False)
    assert {name: len(values) for name, values in spectra.items()} == {
        "tiny, scale 2": 48,
        "tiny, scale 3": 12,
    }
    assert all(np.mean(values) == pytest.approx(1) for values in spectra.values())
    rows = {int(row["calls"]): row for row in read(tmp_path / "errors.csv")}
    for name in ("Euler-Maruyama, uniform", "DDIM, quadratic", "DPM-Solver++(2M), optimal"):
        assert float(rows[8][name]) < float(rows[4][name]) / 2
    assert rows[4]["Heun, quadratic"] == "", "of an odd number of calls only"
    assert (tmp_path / "errors.png").exists()


def test_choices(run, tmp_path):
    flags = (
        "choices",
        TINY,
        "--config.data.image_size=(32,32)",
        "--config.score.num_steps=2",
        "--config.stages=score",
        f"--workdir={tmp_path / 'runs'}",
        f"--out={tmp_path}",
        "--seeds=0",
        "--seeds=1",
    )
    code, _, log = run(*flags, module="tests.tiny_experiment")
    assert code == 0, log
    rows = read(tmp_path / "score.csv")
    assert [row["score.prediction"] for row in rows] == ["velocity", "noise"]
    assert all(float(row["sliced_wasserstein ±"]) > 0 for row in rows)
    # Nothing is trained twice.
    code, _, log = run(*flags, module="tests.tiny_experiment")
    assert code == 0, log
    assert "compiled" not in log
    assert read(tmp_path / "score.csv") == rows


def test_choices_shows_rebuilt_images(run, tmp_path):
    flags = (
        "choices",
        TINY,
        "--config.data.image_size=(32,32)",
        "--config.msal.num_steps=1",
        "--config.stages=msal",
        f"--workdir={tmp_path / 'runs'}",
        f"--out={tmp_path}",
        "--seeds=0",
    )
    code, _, log = run(*flags, module="tests.tiny_experiment")
    assert code == 0, log
    rows = read(tmp_path / "msal.csv")
    picture = np.asarray(Image.open(tmp_path / "msal.png"))
    assert picture.shape == ((1 + len(rows)) * 130 + 2, 10 * 130 + 2, 3)
    assert all(float(row["psnr"]) > 10 for row in rows)


@pytest.mark.parametrize(
    ("name", "table", "figure"),
    [
        ("figure1", "crossing_times.csv", "trajectories.png"),
        ("figure5", "divergence.csv", "divergence.png"),
        ("figure6", "sparsity.csv", "sparsity.png"),
    ],
)
def test_figures_without_training(name, table, figure, run, tmp_path):
    flags = (TINY, f"--out={tmp_path}", "--num_images=32")
    code, _, log = run(*flags, module=f"experiments.{name}")
    assert code == 0, log
    assert len(read(tmp_path / table)) >= 2
    assert np.asarray(Image.open(tmp_path / figure)).std() > 0
    if name == "figure1":
        times = {(row["scale"], row["band"]): float(row["t"]) for row in read(tmp_path / table)}
        for (scale, band), time in times.items():
            assert band == "LL" or time < times[scale, "LL"]


def test_measures_notice_blur(run, tmp_path):
    small = "--config.data.image_size=(8,8)"
    flags = (TINY, small, f"--out={tmp_path}", "--num_images=80")
    code, _, log = run(*flags, module="experiments.measures")
    assert code == 0, log
    rows = read(tmp_path / "measures.csv")
    blur = [float(row["spectrum_error"]) for row in rows if row["distortion"].startswith("blur")]
    assert float(rows[0]["spectrum_error"]) < blur[0]
    assert blur == sorted(blur)
    assert (tmp_path / "measures.png").exists()


def check_that_the_score_was_trained_once(workdir, log):
    """The two WMGMs have one score network, and generators of their own."""
    assert len(re.findall(r"score: compiled", log)) == 1
    assert f"stage score is that of {workdir / 'wmgm'}" in log
    stages = [wmgm_jax.load(workdir / name).params for name in ("wmgm", "wmgm_paper")]
    jax.tree.map(np.testing.assert_array_equal, *(params["score"] for params in stages))
    kernels = [jax.tree.leaves(params["generator"])[0] for params in stages]
    assert np.abs(kernels[0] - kernels[1]).max() > 0


def test_systems_beside_each_other(run, tmp_path):
    flags = (TINY, f"--workdir={tmp_path / 'runs'}", f"--out={tmp_path}", "--scale=tiny")
    both = ("--systems=wavediff", "--systems=wmgm")
    three = (*both, "--systems=wmgm_paper")
    table = ("table1", *flags, "--images=4", "--trials=1")
    code, _, log = run(*table, *three, module="tests.tiny_experiment")
    assert code == 0, log
    rows = read(tmp_path / "tiny.csv")
    assert [row["system"] for row in rows] == ["WaveDiff", "WMGM (paper)", "WMGM"]
    assert [row["network calls"] for row in rows] == ["2", "4", "4"]
    assert [row["paper: parameters"] for row in rows] == ["", "89M", ""]
    assert [row["training TFLOP"] for row in rows] == ["2.0", "4.0", "4.0"]  # one a step
    check_that_the_score_was_trained_once(tmp_path / "runs", log)
    # Of eight samples four make a square of 2x2, the first of them in its upper left corner.
    sheet = np.asarray(Image.open(tmp_path / "tiny_wmgm.png"))
    assert sheet.shape == (32, 32, 3)
    samples = np.load(tmp_path / "runs" / "wmgm" / "samples" / "evaluated.npy")
    np.testing.assert_array_equal(sheet[16:, :16], samples[2])
    for row in rows:
        assert float(row["s for 4 images"]) * 25 == pytest.approx(
            float(row["s for 100 images, extrapolated"])
        )
        assert float(row["sliced Wasserstein distance"]) > 0
    assert [row["PSNR of rebuilt images (dB)"] == "" for row in rows] == [True, False, False]
    # The picture has the tiles of the sheets, row by row.
    picture = np.asarray(Image.open(tmp_path / "tiny.png"))[..., :3]
    assert picture.shape[0] == 3 * 130 + 2
    tile = picture[2 * 130 + 2 :, -(2 * 130) :][:128, :128]  # the third image of the last system
    np.testing.assert_array_equal(tile, samples[2].repeat(8, axis=0).repeat(8, axis=1))
    # Nothing is measured or timed again, and the row of a system that is not named stays.
    code, _, log = run(*table, *both, module="tests.tiny_experiment")
    assert code == 0, log
    assert "report in" not in log
    assert read(tmp_path / "tiny.csv") == rows

    # Nothing is trained again, and a point that is known is not measured again.
    figure = ("figure4", *flags, "--num_images=4", "--sampler=ddim")
    (tmp_path / "tiny.csv").unlink()
    code, _, log = run(*figure, *both, "--steps=1", module="tests.tiny_experiment")
    assert code == 0, log
    assert "compiled" not in log
    first = read(tmp_path / "tiny.csv")
    assert [row["system"] for row in first] == ["training images", "WaveDiff", "WMGM"]
    assert [row["steps"] for row in first] == ["", "2", "1"]
    assert [row["sampler"] for row in first] == ["", "posterior", "ddim"]
    assert [row["trained"] for row in first] == ["", "2", "2+2"]
    code, _, log = run(*figure, "--steps=1,2", "--systems=wmgm", module="tests.tiny_experiment")
    assert code == 0, log
    assert read(tmp_path / "tiny.csv")[:3] == first
    assert [row["steps"] for row in read(tmp_path / "tiny.csv")[3:]] == ["2"]

    # A row of WaveDiff's own table is what was trained and timed for Table 1.
    own = ("wavediff", *flags[1:], "--methods=wavediff", "--images=4", "--trials=1")
    code, _, log = run(*own, f"{TINY}:wavediff", module="tests.tiny_experiment")
    assert code == 0, log
    assert "compiled" not in log
    (row,) = read(tmp_path / "tiny.csv")
    assert (row["method"], row["network calls"]) == ("WaveDiff", "2")
    assert row["slides: recall"] == "0.37"
    assert row["s for 4 images"] == rows[0]["s for 4 images"]


def test_ways_to_learn_the_details(run, tmp_path):
    flags = (TINY, f"--workdir={tmp_path / 'runs'}", f"--out={tmp_path}", "--scale=tiny")
    code, _, log = run("table2", *flags, module="tests.tiny_experiment")
    assert code == 0, log
    rows = read(tmp_path / "tiny.csv")
    assert [row["method"] for row in rows] == ["MS-OL", "SS-SL"]
    assert [row["paper: parameters"] for row in rows] == ["76M", "72M"]
    for row in rows:
        assert row["steps"] == "2"
        assert row["training TFLOP"] == "2.0"  # one a step
        assert float(row["PSNR of rebuilt images (dB)"]) > 10
        assert float(row["sliced Wasserstein distance"]) > 0
    picture = np.asarray(Image.open(tmp_path / "tiny.png"))
    columns = 10 * 130 + 2
    assert picture.shape[0] == 3 * 130 + 2
    assert picture.shape[1] > columns
    assert np.min(picture[:, -columns:]) < 255
    assert np.all(picture[:, -columns - 6 : -columns] == 255)  # no eleventh image
    for row, learning, networks in zip(rows, ("operator", "standard"), (1, 2), strict=True):
        config = get_config()
        config.msal.learning = learning
        shared = cost.count_parameters(systems.build(config))["generator"]
        assert int(row["parameters"]) == networks * shared
        # In a folder of its own, and the score network is not trained.
        stages = (tmp_path / "runs" / row["method"] / "checkpoints").iterdir()
        assert [path.name for path in stages] == ["msal"]


@pytest.mark.parametrize(
    ("name", "flags", "pattern"),
    [
        ("table1", ["--config=tests/tiny.py:sgm"], "must be of WMGM, not of SGM"),
        ("wavediff", ["--config=tests/tiny.py:sgm"], "must be of WMGM or WaveDiff, not of SGM"),
        ("wavediff", ["--config.wavedif.levels=1"], "has no such setting: .*wavedif"),
        (
            "table2",
            ["--config=configs/faces128.py", "--config.data.dir=nowhere", "--scale=tiny"],
            "'nowhere' does not exist",
        ),
        ("table1", [TINY, "--scale=tiny", "--budget=nan"], "--budget is a positive number"),
        ("phi4", ["--beta=nan"], "--beta is a positive number"),
        ("gaussian", ["--eta=nan"], "--eta is a positive number"),
    ],
)
def test_mistakes_get_one_line(name, flags, pattern, run, tmp_path):
    code, _, log = run(*flags, f"--out={tmp_path}", module=f"experiments.{name}")
    assert code == 2, log
    (message,) = (line for line in log.splitlines() if line.startswith("wmgm_jax: "))
    assert re.search(pattern, message)


def test_the_spread_of_a_run(run, tmp_path):
    workdir = tmp_path / "run"
    train = (TINY, f"--workdir={workdir}", "--config.stages=msal", "--config.msal.num_steps=1")
    code, _, log = run(*train)
    assert code == 0, log
    flags = (f"--workdir={workdir}", f"--out={tmp_path}", "--num_images=4", "--draws=3")
    code, _, log = run(*flags, module="experiments.details")
    assert code == 0, log
    rows = read(tmp_path / "run.csv")
    assert len(rows) == 2 * 2 * 3
    assert {row["images"] for row in rows} == {"training", "validation"}
    assert all(float(row["variance"]) > 0 for row in rows)
    assert np.asarray(Image.open(tmp_path / "run.png")).std() > 0


def test_a_stage_of_another_training_is_not_copied(monkeypatch, tmp_path):
    """Another seed, or another number of steps, is another training."""
    monkeypatch.setattr(comparison, "_WORKDIR", SimpleNamespace(value=str(tmp_path)))
    monkeypatch.setattr(comparison.loop, "train", lambda run: None)
    config = get_config()
    first = comparison.trained(config, "first")
    finished = first.workdir / "checkpoints" / "score" / str(config.score.num_steps)
    finished.mkdir(parents=True)

    def is_copied(**changes):
        other = get_config()
        other.update_from_flattened_dict(changes)
        run = comparison.trained(other, "other")
        found = (run.workdir / "checkpoints" / "score").exists()
        shutil.rmtree(run.workdir)
        return found

    assert is_copied(**{"msal.loss": "paper", "msal.num_steps": 3})
    assert not is_copied(seed=1)
    assert not is_copied(**{"score.num_steps": 3})
    assert not is_copied(**{"score.batch_size": 4})
    finished.rename(finished.with_name("3"))
    assert not is_copied(**{"msal.loss": "paper"})


def test_scales():
    for system in comparison.NAMES:
        config = comparison.scaled(get_config(), system, "tiny")
        assert config.system == system
        assert config.data.image_size == (32, 32)
        assert config.data.augment == get_config().data.augment
        assert comparison.scaled(get_config(), system, "paper").data.image_size == (16, 16)
    # The networks of WMGM, too, are those of configs/colon_ihc.py.
    small = comparison.scaled(faces128.get_config(), "wmgm", "tiny")
    assert small.msal == colon_ihc.get_config().msal


@pytest.mark.parametrize("scale", ["paper", "tiny"])
def test_settings_of_the_command_line_hold_at_every_scale(scale):
    overrides = {
        "score.ema_decay": 0.5,
        "msal.paper.adversarial_weight": 3.0,
        "train.log_every": 7,
        "seed": 5,
        "data.image_size": (16, 16),
    }
    of = {
        system: comparison.scaled(get_config(), system, scale, overrides)
        for system in comparison.NAMES
    }
    assert {of[system].score.ema_decay for system in ("sgm", "wsgm", "wmgm")} == {0.5}
    assert of["wsgm"].details.ema_decay == 0.5
    assert of["wmgm"].msal.paper.adversarial_weight == 3
    assert {config.train.log_every for config in of.values()} == {7}
    assert {config.seed for config in of.values()} == {5}
    assert of["sgm"].data.image_size == ((16, 16) if scale == "paper" else (32, 32))
    own = get_config("wavediff")
    own = comparison.scaled(own, "wavediff", scale, {"wavediff.latent_size": 3})
    assert own.wavediff.latent_size == 3


@pytest.fixture
def command(monkeypatch):
    """What a command line without a budget would say."""

    def says(scale, overrides):
        monkeypatch.setattr(comparison, "SCALE", SimpleNamespace(value=scale))
        monkeypatch.setattr(comparison, "_BUDGET", SimpleNamespace(value=None))
        monkeypatch.setattr(comparison, "BUDGETS", {})
        monkeypatch.setattr(comparison.cli, "config_overrides", lambda: overrides)
        monkeypatch.setattr(comparison.runs, "open_sources", lambda config: None)

    return says


@pytest.mark.parametrize("scale", ["paper", "small", "tiny"])
def test_every_system_is_sampled_as_its_paper_does(scale, command):
    command(scale, {})
    configs = {
        system: comparison.system_config(faces128.get_config(), system)
        for system in comparison.NAMES
    }
    for system, config in configs.items():
        validate(config)
        steps = ("posterior", 4) if system == "wavediff" else ("euler_maruyama", 16)
        assert (config.sampling.sampler, config.sampling.num_steps) == steps
    own = comparison.system_config(wavediff_faces128.get_config(), "wavediff")
    # Its own table and Table 1 share a run.
    assert different(configs["wavediff"], own) == []


@pytest.mark.parametrize(
    ("key", "value", "choice"),
    [
        ("sampling.num_steps", 8, {}),
        ("sampling.spacing", "quadratic", {}),
        ("data.image_size", (16, 16), {}),
        ("msal.learning", "standard", {"msal.learning": "operator"}),
    ],
)
def test_what_is_compared_is_not_set_by_hand(key, value, choice, command):
    command("tiny", {key: value})
    with pytest.raises(UserError, match=f"--config.{key} is not yours to set"):
        comparison.system_config(get_config(), "wmgm", choice)


@pytest.mark.parametrize(
    ("system", "choice"),
    [
        ("sgm", {}),
        ("wavediff", {}),
        ("wmgm", {}),
        ("wmgm", {"stages": "msal", "msal.loss": "paper"}),
        (
            "wmgm",
            {
                "stages": "msal",
                "msal.loss": "paper",
                "msal.learning": "operator",
                "msal.shared": False,
            },
        ),
    ],
)
def test_equal_budgets(system, choice):
    config = get_config(system)
    config.update_from_flattened_dict(choice)
    config = comparison.budgeted(config, 0.02)
    assert comparison.training_cost(config)["training TFLOP"] == pytest.approx(0.02, rel=0.05)


def test_a_penalty_costs_its_share_of_the_steps():
    """R1 at every k-th step: FLOPs of a + b / k a step."""

    def flops(every):
        config = get_config("wavediff")
        config.wavediff.r1_every = every
        return comparison.flops_per_step(config, "wavediff")

    always, every_second, every_fourth = map(flops, (1, 2, 4))
    assert always > 1.01 * every_second
    assert always - every_second == pytest.approx(2 * (every_second - every_fourth), rel=1e-6)


def test_a_step_takes_about_three_forward_passes():
    """The forward pass, and twice as much for the gradient of inputs and of weights."""
    config = get_config("sgm")
    ((name, stage),) = systems.build(config).stages.items()
    forward = cost.summarise(config)["flops_per_image"] / config.sampling.num_steps
    step = comparison.flops_per_step(config, name)
    assert 2.5 < step / (stage.settings.batch_size * forward) < 3.5
