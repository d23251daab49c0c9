"""Models that come with the package, and how they are made."""

import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_initial import STEP, save_trained
from test_main import fails

import wmgm_jax
from configs import colon_ihc, colon_ihc_demo
from tests import commands
from tests.tiny import get_config
from wmgm_jax import runs, systems
from wmgm_jax.config import compatibility
from wmgm_jax.core.errors import UserError
from wmgm_jax.evaluation.learned.load import load
from wmgm_jax.runs import model_file

MODULE = "experiments.pretrained"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    save_trained(get_config(), folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of a package's models; the first test puts one into it."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def tiny(source, models, run, monkeypatch):
    """The name of a model of the package, as the script makes it of a run."""
    monkeypatch.setattr(model_file, "PRETRAINED", models)
    if not model_file.names():
        flags = (f"--workdir={source}", f"--out={models}", "--images=8", "--command=make it")
        flags += (f"--picture={models.with_name('picture.png')}",)
        code, _, log = run(*flags, "--name=tiny", module=MODULE)
        assert code == 0, log
        assert "8 images differ by at most " in log
        picture = np.asarray(Image.open(models.with_name("picture.png")))
        assert picture.shape == (6 * 130 + 2, 2 * (6 * 130 + 2) + 24, 3)
    return "tiny"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Commands run in another folder than that of the repository."""
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    return tmp_path


def test_the_model_in_the_package():
    model = wmgm_jax.pretrained("colon_ihc")
    assert model.config.data.source == "embedded"
    assert model.config.data.cache_dir == ""
    assert set(model.step) == set(systems.build(model.config).stages)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {np.dtype(np.float32)}
    folder = model_file.PRETRAINED / "colon_ihc"
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    (network,) = (name for name in files if name.startswith("feature_network_"))
    assert files.keys() == {"config.json", "model.npz", "evaluation.json", "README.md", network}
    assert sum(files.values()) < 10e6
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["step"] == model.step
    assert "python -m wmgm_jax.main" in (folder / "README.md").read_text()
    # The config is one that this version wrote or can read.
    assert compatibility.from_json(json.loads((folder / "config.json").read_text()))


def test_the_feature_network_in_the_package(monkeypatch, tmp_path):
    """The evaluation of the embedded images finds it: it trains none and writes none."""
    monkeypatch.setattr("wmgm_jax.evaluation.learned.training.train", None)
    config = colon_ihc.get_config()
    run = runs.open_run(config, tmp_path / "run")
    network = load(
        run.train,
        cache_dir=str(tmp_path / "cache"),
        num_steps=config.evaluation.feature_steps,
        augment=config.data.augment,
    )
    assert network.path.parent == model_file.PRETRAINED / "colon_ihc"
    evaluation = json.loads((network.path.parent / "evaluation.json").read_text())
    assert evaluation["method"]["feature_network"] == {"sha256": network.sha256}
    assert not list(tmp_path.glob("cache/*"))


def test_the_demo_starts_from_the_model_in_the_package(tmp_path):
    """It has the same networks."""
    run = runs.open_run(colon_ihc_demo.get_config(), tmp_path, "pretrained:colon_ihc")
    assert run.initial.step == wmgm_jax.pretrained("colon_ihc").step


def test_what_a_model_file_holds(tiny, source, models):
    with zipfile.ZipFile(models / tiny / "model.npz") as archive:
        assert all(name.endswith(".npy") for name in archive.namelist())
    with np.load(models / tiny / "model.npz", allow_pickle=False) as arrays:
        for name in arrays.files:
            is_kernel = "/params/" in name and arrays[name].ndim > 1
            assert arrays[name].dtype == (
                np.float16 if is_kernel else np.int64 if name.endswith("/step") else np.float32
            ), name
    stored, ours = wmgm_jax.pretrained(tiny), wmgm_jax.load(source)
    assert stored.step == ours.step == {"score": STEP, "msal": STEP}
    assert compatibility.different(stored.config, ours.config) == []
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2**-11, atol=1e-7),
        stored.params,
        ours.params,
    )
    for name in ("statistics", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, stored.params[name], ours.params[name])
    images = wmgm_jax.make_sample_fn(stored.config)(stored.params, jax.random.key(0), 2)
    assert images.shape == (2, 16, 16, 3)
    assert images.dtype == jnp.float32
    assert repr(wmgm_jax.load("pretrained:tiny")) == repr(stored)


def test_numbers_that_float16_cannot_hold_stay():
    model = {"params": {"a": np.array([[1e6, 1.0]], np.float32), "b": np.ones((2, 2), np.float32)}}
    half = model_file.in_half_precision(model)["params"]
    assert half["a"].dtype == np.float32
    assert half["b"].dtype == np.float16


def test_a_model_replaces_one_of_the_same_name(tiny, source, models, run):
    flags = (f"--workdir={source}", f"--out={models}", "--name=tiny", "--images=4")
    (models / tiny / "stray.txt").touch()
    before = (models / tiny / "README.md").read_text()
    fails(run(*flags, "--megabytes=0.001", module=MODULE), "MB", "--megabytes")
    fails(run(*flags, "--limit=-1", module=MODULE), "float16 changes the images", "--limit=-1")
    assert (models / tiny / "README.md").read_text() == before
    code, _, log = run(*flags, module=MODULE)
    assert code == 0, log
    assert {path.name for path in models.iterdir()} == {"tiny"}
    assert not (models / tiny / "stray.txt").exists()
    text = (models / tiny / "README.md").read_text()
    assert f"--workdir={source}" in text
    assert f"| msal | {STEP} | 8 |" in text
    assert "4 samples" in text


def test_the_commands_take_it_from_any_folder(tiny, elsewhere, models, run):
    before = sorted(models.rglob("*"))
    code, _, log = run("--mode=sample", "--workdir=pretrained:tiny", "--num_samples=2")
    assert code == 0, log
    outputs = elsewhere / "runs" / "pretrained_tiny"
    assert len(np.load(outputs / "samples" / "seed_0" / "images.npz")["images"]) == 2
    code, _, log = run("--mode=evaluate", "--workdir=pretrained:tiny")
    assert code == 0, log
    assert json.loads((outputs / "evaluation.json").read_text())["step"]["score"] == STEP
    assert "<title>pretrained_tiny" in (outputs / "report.html").read_text()
    code, output, log = run("--mode=inspect", "--workdir=pretrained:tiny")
    assert code == 0, log
    assert json.loads(output.splitlines()[-1])["system"] == "wmgm"
    assert sorted(models.rglob("*")) == before
    assert [path.name for path in elsewhere.iterdir()] == ["runs"]


def test_what_a_pretrained_model_cannot_do(tiny, run):
    workdir = "--workdir=pretrained:tiny"
    train = run(workdir, "--config=tests/tiny.py")
    fails(train, "cannot be trained further", "--init_from=pretrained:tiny")
    sample = run(workdir, "--mode=sample", "--checkpoint=best")
    fails(sample, "pretrained:tiny holds only one checkpoint")
    for mode in ("sample", "evaluate", "inspect"):
        result = run("--workdir=pretrained:other", f"--mode={mode}")
        fails(result, "there is no pretrained model 'other'; those that exist: tiny")
    with pytest.raises(UserError, match="'other'; those that exist: tiny"):
        wmgm_jax.pretrained("other")


def test_a_damaged_model_file_gets_one_line(tiny, models, tmp_path):
    content = (models / tiny / "model.npz").read_bytes()
    (tmp_path / "config.json").write_text((models / tiny / "config.json").read_text())
    middle = len(content) // 2
    for damaged in (b"", content[:middle], content[:middle] + b"\0" * 64 + content[middle + 64 :]):
        (tmp_path / "model.npz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.npz is damaged: ") as error:
            runs.load(tmp_path)
        assert "\n" not in str(error.value)
