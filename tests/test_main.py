"""The command line: what works, and the one line that bad input gets."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT, TINY
from PIL import Image

CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.py"))


def fails(result, *patterns):
    """Exit code 2 and one line, without a traceback, in which every pattern occurs."""
    code, output, log = result
    assert code == 2, log
    assert "Traceback" not in log + output
    message = [line for line in log.splitlines() if line.startswith("wmgm_jax: ")]
    assert len(message) == 1, log
    for pattern in patterns:
        assert re.search(pattern, message[0]), message[0]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of 40 coloured images of several sizes and formats."""
    folder = tmp_path_factory.mktemp("faces")
    random = np.random.default_rng(0)
    for i in range(40):
        height, width = random.integers(20, 60, size=2)
        ramp = np.linspace(0, 255, width)[None, :, None] * random.random((height, 1, 3))
        suffix = ("png", "jpg", "webp", "bmp", "tiff")[i % 5]
        (folder / f"part{i % 2}").mkdir(exist_ok=True)
        Image.fromarray(ramp.astype(np.uint8)).save(folder / f"part{i % 2}" / f"{i:02d}.{suffix}")
    return folder


@pytest.fixture
def folder_flags(faces, tmp_path):
    return (
        TINY,
        "--config.data.source=folder",
        f"--config.data.dir={faces}",
        f"--config.data.cache_dir={tmp_path / 'cache'}",
        f"--workdir={tmp_path / 'run'}",
        "--config.data.image_size=(8,12)",
        "--config.data.augment=flip",
        "--config.data.channels=1",
        "--config.wavelet.levels=1",
        "--config.train.dtype=bfloat16",
        "--config.train.rematerialise=True",
        "--config.process.schedule=cosine",
        "--config.score.prediction=velocity",
        "--config.msal.shared=False",
        "--config.msal.loss_domain=wavelet",
        "--config.msal.lipschitz=gradient_penalty",
        "--config.msal.generator.norm=group",
    )


def test_the_other_branch_of_every_setting(folder_flags, faces, run, tmp_path):
    """Grey, non-square, a folder, one level, bfloat16 and so on; then sampling and evaluation."""
    code, _, log = run(*folder_flags)
    assert code == 0, log
    workdir = tmp_path / "run"
    report = json.loads((workdir / "evaluation.json").read_text())
    assert np.isfinite(report["measures"]["reconstruction/psnr"]["value"])
    assert report["images"]["reference"]["shape"] == [8, 12, 1]

    flags = (f"--workdir={workdir}", "--mode=sample", "--num_samples=5", "--seed=3")
    code, _, log = run(*flags, devices=2)
    assert code == 0, log
    samples = workdir / "samples" / "seed_3"
    images = np.load(samples / "images.npz", allow_pickle=False)["images"]
    assert images.shape == (5, 8, 12, 1)
    assert images.dtype == np.uint8
    assert len(list((samples / "images").glob("*.png"))) == 5
    np.testing.assert_array_equal(
        np.asarray(Image.open(samples / "images" / "000002.png")), images[2, :, :, 0]
    )
    assert Image.open(samples / "grid.png").size[0] > 2 * 12

    # Fewer images later leave none of the earlier ones; other settings of the model are refused.
    sampling = (*folder_flags, "--mode=sample", "--seed=3", "--num_samples=2")
    code, _, log = run(*sampling, "--config.sampling.num_steps=2")
    assert code == 0, log
    assert len(list((samples / "images").glob("*.png"))) == 2
    assert len(np.load(samples / "images.npz")["images"]) == 2
    fails(run(*sampling, "--config.score.prediction=noise"), r"config\.score\.prediction")

    (workdir / "evaluation.json").unlink()
    code, _, log = run(f"--workdir={workdir}", "--mode=evaluate")
    assert code == 0, log
    again = json.loads((workdir / "evaluation.json").read_text())
    assert again["measures"] == report["measures"]

    # What is kept in best/ is what measured least, and what --checkpoint=best reads.
    steps = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    measured = {
        (record["stage"], record["step"]): record["sliced_wasserstein"]
        for record in steps
        if "sliced_wasserstein" in record
    }
    for stage in ("score", "msal"):
        best = min((6, 12), key=lambda step: measured[stage, step])
        assert [path.name for path in (workdir / "best" / stage).glob("[0-9]*")] == [str(best)]
    assert run(*flags, "--checkpoint=best")[0] == 0
    # A run measured against other images keeps its own evaluation.
    code, _, log = run(*flags[:1], "--mode=evaluate", f"--reference={faces}")
    assert code == 0, log
    assert json.loads((workdir / "evaluation.json").read_text()) == again
    (folder,) = (workdir / "evaluations").iterdir()
    other = json.loads((folder / "evaluation.json").read_text())
    assert other["reference"] == str(faces)
    assert other["images"]["reference"]["count"] == 16
    # Any images against any others: what was drawn, against the folder of what was trained on.
    files = (
        f"--generated={samples / 'images.npz'}",
        f"--reference={faces}",
        f"--workdir={tmp_path / 'compared'}",
        f"--config={TINY.removeprefix('--config=')}",
        f"--config.data.cache_dir={tmp_path / 'cache'}",
    )
    code, _, log = run("--mode=evaluate", *files)
    assert code == 0, log
    compared = json.loads((tmp_path / "compared" / "evaluation.json").read_text())
    assert compared["images"] == {
        "generated": {"count": 5, "shape": [8, 12, 1]},
        "reference": {"count": 16, "shape": [8, 12, 1]},
    }
    assert (tmp_path / "compared" / "report.html").exists()
    fails(run("--mode=evaluate", files[0]), "--reference is missing")
    fails(run("--mode=evaluate", files[0], f"--reference={workdir}/config.json"), "--reference")


def test_stages_train_one_at_a_time(run, tmp_path):
    code, _, log = run(TINY, f"--workdir={tmp_path}", "--config.stages=msal")
    assert code == 0, log
    assert "stage score has no checkpoint" in log
    assert not (tmp_path / "checkpoints" / "score").exists()
    fails(run(f"--workdir={tmp_path}", "--mode=sample"), "score", r"--config\.stages=score")
    code, _, log = run(TINY, f"--workdir={tmp_path}", "--config.stages=score")
    assert code == 0, log
    assert (tmp_path / "evaluation.json").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_inspect_every_config(name, run):
    code, output, log = run(f"--config=configs/{name}", "--mode=inspect")
    assert code == 0, log
    facts = json.loads(output.splitlines()[-1])
    assert facts["parameters"]["score"] > 1e6
    assert facts["flops_per_image"] > sum(call["flops"] for call in facts["sampling"][1:])
    if name in ("afhq_cat.py", "celebahq.py"):
        trained = facts["parameters"]
        assert trained["score"] + trained["generator"] == 89_014_579
        assert trained["discriminator"] == 42_632_257


@pytest.mark.parametrize(
    ("flags", "patterns"),
    [
        ((), ["--config"]),
        (("--config=configs/nowhere.py",), ["--config", "no file", "configs/nowhere.py"]),
        (("--config=setup.cfg",), ["--config", "setup.cfg"]),
        (("--config=wmgm_jax/msal.py",), ["--config", "get_config"]),
        ((TINY, "--config.score.num_stepz=3"), ["num_stepz"]),
        ((TINY, "--config.score.num_steps=many"), ["num_steps", "many"]),
        ((TINY, "--config.system=pixelcnn"), [r"config\.system", "wmgm", "pixelcnn"]),
        ((TINY, "--config.data.image_size=(18,16)"), [r"data\.image_size", "4", "18"]),
        ((TINY, "--config.data.source=nowhere"), [r"data\.source", "embedded", "folder"]),
        ((TINY, "--config.stages=score,nothing"), [r"config\.stages", "nothing", "msal"]),
        ((TINY, "--config.score.batch_size=0"), [r"score\.batch_size", "at least 1"]),
        ((TINY, "--config.sampling.sampler=magic"), ["sampler", "euler_maruyama", "magic"]),
        ((TINY, "--config.score.optimizer.learning_rate=0.0"), ["learning_rate", "above 0"]),
        ((TINY, "--config.score.network.multipliers=()"), ["multipliers", "at least 1"]),
        ((TINY, "--config.score.network.attention_levels=(7,)"), ["attention_levels", "0 to 1"]),
        ((TINY, "--config.process.T=-1"), [r"process\.T", "between 0", "-1"]),
        ((TINY, "--config.data.image_size=(16.0,16)"), ["image_size", "16.0"]),
        ((TINY, "--config.msal.generator.depth=40"), ["depth", "at most 10"]),
        ((TINY, "--config.msal.mse_weight=-3.0"), ["mse_weight", "at least 0"]),
        ((TINY, "stray"), ["stray", "--help"]),
        (("--mode=sample", "--config.seed=2"), ["--config.seed", "missing"]),
        ((TINY, "--config.data.validation_fraction=0.0"), ["validation_fraction", "between 0"]),
        ((TINY, "--mode=dance"), ["mode", "dance"]),
        (("--config=configs/afhq_cat.py",), ["data/afhq_cat", "clovaai/stargan-v2"]),
        (("--config=configs/celebahq.py:30k",), ["data/celebahq_30k", "30,000"]),
        (("--config=configs/celebahq.py:7k",), ["7k", ":30k"]),
        ((TINY, "--mode=sample"), [r"config\.json", "not the folder of a run"]),
    ],
)
def test_mistakes_get_one_line(flags, patterns, run, tmp_path):
    workdir = tmp_path / "run"
    fails(run(*flags, f"--workdir={workdir}"), *patterns)
    assert not workdir.exists()


def test_mistakes_that_show_late(run, tmp_path):
    """The devices do not divide the batch; fewer images than a batch; another config's folder."""
    workdir = tmp_path / "run"
    flags = (TINY, f"--workdir={workdir}", "--config.stages=score")
    fails(run(*flags, "--config.score.batch_size=6", devices=4), r"batch_size", "6", "4")
    empty = tmp_path / "images"
    folder = (
        "--config.data.source=folder",
        f"--config.data.dir={empty}",
        f"--config.data.cache_dir={tmp_path / 'cache'}",
    )
    fails(run(*flags, *folder), "images")
    empty.mkdir()
    fails(run(*flags, *folder), "images", "no image")
    for i in range(4):
        Image.fromarray(np.full((16, 16, 3), 60 * i, np.uint8)).save(empty / f"{i}.png")
    fails(run(*flags, *folder), "batch", "8", "3")
    workdir = tmp_path / "other"
    flags = (TINY, f"--workdir={workdir}", "--config.stages=score")
    assert run(*flags)[0] == 0
    fails(run(*flags, "--config.score.batch_size=4"), str(workdir), r"score\.batch_size")
    fails(run(*flags, "--config.data.dir=elsewhere"), r"data\.dir")
    # What does not change the model may change.
    assert run(*flags, "--config.train.log_every=1", "--config.score.num_steps=13")[0] == 0


def test_a_loss_that_is_not_finite_stops_the_run(run, tmp_path):
    flags = (
        TINY,
        f"--workdir={tmp_path}",
        "--config.stages=score",
        "--config.score.num_steps=200",
        "--config.score.optimizer.learning_rate=1e30",
        "--config.score.optimizer.warmup_steps=0",
    )
    fails(run(*flags), "score", r"step \d+", "not|nan|inf")
    states = list((tmp_path / "checkpoints" / "score").glob("[0-9]*"))
    assert len(states) <= 1


def test_help_says_what_the_modes_do(run):
    code, output, _ = run("--help")
    assert code == 0
    for word in ("--config:", "--mode", "--workdir", "inspect", "num_samples", "coordinator"):
        assert word in output
