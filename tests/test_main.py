"""The command line: what works, and the one line that bad input gets."""

import csv
import json
import re

import jax
import numpy as np
import pytest
from conftest import ROOT, TINY
from PIL import Image

from wmgm_jax import systems
from wmgm_jax.config.validation import validate
from wmgm_jax.systems import cost

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


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a run that the first test makes and the next ones use."""
    return tmp_path_factory.mktemp("runs") / "run"


@pytest.fixture
def folder_flags(faces, workdir):
    return (
        TINY,
        "--config.data.source=folder",
        f"--config.data.dir={faces}",
        f"--config.data.cache_dir={workdir.parent / 'cache'}",
        f"--workdir={workdir}",
        "--config.data.image_size=(8,12)",
        "--config.data.augment=flip",
        "--config.data.channels=1",
        "--config.wavelet.levels=1",
        "--config.train.dtype=bfloat16",
        "--config.train.rematerialise=True",
        "--config.process.schedule=cosine",
        "--config.score.prediction=noise",
        "--config.msal.shared=False",
        "--config.msal.loss=paper",
        "--config.msal.paper.loss_domain=wavelet",
        "--config.msal.paper.lipschitz=gradient_penalty",
        "--config.msal.generator.norm=group",
    )


@pytest.fixture
def trained(folder_flags, workdir, run):
    """Grey, non-square, a folder, one level, bfloat16: the other branch of every setting."""
    if not (workdir / "evaluation.json").exists():
        code, _, log = run(*folder_flags)
        assert code == 0, log
    return workdir


def values(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_the_other_branch_of_every_setting(trained, run):
    report = values(trained)
    assert np.isfinite(report["measures"]["reconstruction/psnr"]["value"])
    assert report["images"]["reference"]["shape"] == [8, 12, 1]

    (trained / "evaluation.json").unlink()
    code, _, log = run(f"--workdir={trained}", "--mode=evaluate")
    assert code == 0, log
    assert values(trained)["measures"] == report["measures"]


def test_sampling_a_run(trained, folder_flags, run):
    flags = (f"--workdir={trained}", "--mode=sample", "--num_samples=5", "--seed=3")
    code, _, log = run(*flags, "--cpu_devices=2")
    assert code == 0, log
    samples = trained / "samples" / "seed_3"
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
    made_by = json.loads((samples / "sampling.json").read_text())
    assert (made_by["seed"], made_by["checkpoint"]) == (3, "last")
    assert made_by["sampling"]["num_steps"] == 2
    assert "2 images in" in log
    assert "by 2 steps of " in log
    fails(run(*sampling, "--config.score.prediction=velocity"), r"config\.score\.prediction")


def test_the_best_checkpoint_is_what_measured_least(trained, run):
    steps = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    measured = {
        (record["stage"], record["step"]): record["sliced_wasserstein"]
        for record in steps
        if "sliced_wasserstein" in record
    }
    best = {
        stage: min((6, 12), key=lambda step: measured[stage, step]) for stage in ("score", "msal")
    }
    code, _, log = run(f"--workdir={trained}", "--mode=evaluate", "--checkpoint=best")
    assert code == 0, log
    assert values(trained / "evaluations" / "validation_best")["step"] == best

    # A damaged one does not stand in the way of the last.
    for file in (trained / "best" / "msal").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(b"")
    sample = (f"--workdir={trained}", "--mode=sample", "--num_samples=1")
    fails(run(*sample, "--checkpoint=best"), "best/msal", "damaged", "--checkpoint=last")
    assert run(*sample)[0] == 0


def test_a_run_measured_against_other_images_keeps_its_own_evaluation(trained, faces, run):
    before = values(trained)
    code, _, log = run(f"--workdir={trained}", "--mode=evaluate", f"--reference={faces}")
    assert code == 0, log
    assert values(trained) == before
    other = values(trained / "evaluations" / f"{faces.name}_last")
    assert other["reference"] == str(faces)
    assert other["images"]["reference"]["count"] == 16


def test_any_images_against_any_others(trained, faces, run, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 1), np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    flags = (
        f"--generated={tmp_path / 'images.npz'}",
        f"--reference={faces}",
        f"--workdir={tmp_path / 'compared'}",
        f"--config={TINY.removeprefix('--config=')}",
        f"--config.data.cache_dir={tmp_path / 'cache'}",
    )
    code, _, log = run("--mode=evaluate", *flags)
    assert code == 0, log
    assert values(tmp_path / "compared")["images"] == {
        "generated": {"count": 5, "shape": [8, 12, 1]},
        "reference": {"count": 16, "shape": [8, 12, 1]},
    }
    assert (tmp_path / "compared" / "report.html").exists()
    fails(run("--mode=evaluate", flags[0]), "--reference is missing")
    fails(run("--mode=evaluate", flags[0], f"--reference={trained}/config.json"), "--reference")


def test_another_system_trains_samples_and_is_evaluated(run, tmp_path):
    flags = (f"{TINY}:wsgm", f"--workdir={tmp_path}", "--config.score.num_steps=3")
    code, _, log = run(*flags)
    assert code == 0, log
    stages = ["details_1", "details_2", "score"]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == stages
    report = values(tmp_path)
    assert report["system"] == "wsgm"
    assert np.isfinite(report["measures"]["reconstruction/psnr"]["value"])
    for stage in stages:
        assert list((tmp_path / "samples").glob(f"{stage}_*.png"))
    code, _, log = run(f"--workdir={tmp_path}", "--mode=sample", "--num_samples=3")
    assert code == 0, log


def test_stages_train_one_at_a_time(run, tmp_path):
    code, _, log = run(TINY, f"--workdir={tmp_path}", "--config.stages=msal")
    assert code == 0, log
    assert "stage score has no checkpoint" in log
    assert not (tmp_path / "checkpoints" / "score").exists()
    fails(run(f"--workdir={tmp_path}", "--mode=sample"), "score", r"--config\.stages=score")
    code, _, log = run(TINY, f"--workdir={tmp_path}", "--config.stages=score")
    assert code == 0, log
    assert (tmp_path / "evaluation.json").exists()


def config_of(name):
    namespace = {}
    exec(compile((ROOT / "configs" / name).read_text(), name, "exec"), namespace)
    return namespace["get_config"]()


# Those of CelebA-HQ build what those of AFHQ build, which a test below says.
@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.startswith("celebahq")])
def test_what_every_config_builds(name):
    facts = cost.summarise(config_of(name))
    main = "generator" if facts["system"] == "wavediff" else "score"
    assert facts["parameters"][main] > 1e6
    assert facts["flops_per_image"] == sum(call["flops"] for call in facts["sampling"]) > 0
    if name == "afhq_cat.py":
        trained = facts["parameters"]
        assert trained["score"] + trained["generator"] == 89_014_579
        paper = config_of(name)
        paper.msal.loss = "paper"
        trained = cost.summarise(paper)["parameters"]
        assert trained["score"] + trained["generator"] == 89_014_579
        assert trained["discriminator"] == 42_632_257
    # The paper's own counts: 160M and 351M.
    if name == "afhq_cat_sgm.py":
        assert sum(facts["parameters"].values()) == pytest.approx(160.3e6, rel=5e-4)
    if name == "afhq_cat_wsgm.py":
        assert sum(facts["parameters"].values()) == pytest.approx(350.7e6, rel=5e-4)
    # Counted by hand from the layers of the release.
    if name == "wavediff_cifar10.py":
        assert facts["parameters"] == {"generator": 33_370_124, "discriminator": 7_630_593}


@pytest.mark.parametrize(
    ("learning", "one", "paper"),
    [
        ("operator", 75_896_329, 76),
        ("standard", 36_294_921, 36),
        ("adversarial", 36_471_600, 36),
    ],
)
def test_what_table_2_compares(learning, one, paper):
    """The paper's counts of a network for both scales; of one a scale it says twice as much."""
    config = config_of("celebahq.py")
    config.msal.loss, config.msal.learning = "paper", learning
    for shared in (True, False):
        config.msal.shared = shared
        validate(config)
        stage = systems.build(config).stages["msal"]
        params, _ = jax.eval_shape(stage.init, jax.random.key(0))
        count = sum(leaf.size for leaf in jax.tree.leaves(params["generator"]))
        assert count == (one if shared else 2 * one)
        assert ("discriminator" in params) == (learning == "adversarial")
    # The attention U-Net has the authors' own shapes, and is what they round to 36M.
    tolerance = 0.014 if learning == "adversarial" else 0.01
    assert one == pytest.approx(paper * 1e6, rel=tolerance)


@pytest.mark.parametrize("suffix", [".py", "_sgm.py", "_wsgm.py"])
def test_celebahq_differs_from_afhq_in_its_images(suffix):
    ours, theirs = config_of("celebahq" + suffix), config_of("afhq_cat" + suffix)
    if suffix == ".py":
        ours.msal.num_steps = theirs.msal.num_steps  # 150 epochs of either
    ours.data = theirs.data
    assert ours.to_dict() == theirs.to_dict()


def test_inspect(run):
    code, output, log = run(TINY, "--mode=inspect")
    assert code == 0, log
    facts = json.loads(output.splitlines()[-1])
    assert f"{facts['parameters']['score']:,}" in output
    assert facts["system"] == "wmgm"


@pytest.mark.parametrize(
    ("flags", "patterns"),
    [
        ((), ["--config"]),
        (
            ("--config=configs/nowhere.py",),
            ["--config", "no file", "configs/nowhere.py", "colon_ihc,"],
        ),
        (("--config=setup.cfg",), ["--config", "setup.cfg"]),
        (("--config=wmgm_jax/losses/msal.py",), ["--config", "get_config"]),
        ((TINY, "--config.score.num_stepz=3"), ["num_stepz"]),
        ((TINY, "--config.score.num_steps=many"), ["num_steps", "many"]),
        ((TINY, "--config.system=pixelcnn"), [r"config\.system", "wmgm", "pixelcnn"]),
        ((TINY, "--config.data.image_size=(18,16)"), [r"data\.image_size", "4", "18"]),
        ((TINY, "--config.data.source=nowhere"), [r"data\.source", "embedded", "folder"]),
        ((TINY, "--config.stages=score,nothing"), [r"config\.stages", "nothing", "msal"]),
        ((TINY, "--config.score.batch_size=0"), [r"score\.batch_size", "at least 1"]),
        ((TINY, "--config.seed=-1"), [r"config\.seed", "at least 0", "-1"]),
        ((TINY, "--config.train.steps_per_call=2"), ["checkpoint_every", "multiple", "call = 2"]),
        ((TINY, "--config.sampling.sampler=magic"), ["sampler", "euler_maruyama", "magic"]),
        ((TINY, "--config.sampling.spacing=magic"), ["spacing", "one of '', uniform,", "magic"]),
        ((TINY, "--config.score.optimizer.learning_rate=0.0"), ["learning_rate", "above 0"]),
        ((TINY, "--config.score.network.multipliers=()"), ["multipliers", "at least 1"]),
        ((TINY, "--config.score.network.attention_levels=(7,)"), ["attention_levels", "0 to 0"]),
        ((TINY, "--config.process.T=-1"), [r"process\.T", "between 0", "-1"]),
        ((TINY, "--config.data.image_size=(16.0,16)"), ["image_size", "16.0"]),
        ((TINY, "--config.msal.generator.depth=40"), ["depth", "at most 10"]),
        ((TINY, "--config.msal.paper.mse_weight=-3.0"), ["mse_weight", "at least 0"]),
        ((TINY, "stray"), ["stray", "--help"]),
        (("--mode=sample", "--config.seed=2"), ["--config.seed", "missing"]),
        ((TINY, "--config.data.validation_fraction=0.0"), ["validation_fraction", "between 0"]),
        ((TINY, "--mode=dance"), ["mode", "dance"]),
        ((TINY, "--mode=inspect", "--config.stages=gan"), [r"config\.stages", "gan", "msal"]),
        ((TINY, "--mode=inspect", "--config.data.source=web"), [r"data\.source", "web"]),
        ((TINY, "--mode=evaluate", "--seed=3"), ["--seed", "--mode=sample"]),
        ((TINY, "--checkpoint=best"), ["--checkpoint", "--mode=train", "--mode=evaluate"]),
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
    fails(run(*flags, "--config.score.batch_size=6", "--cpu_devices=4"), r"batch_size", "6", "4")
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
    for word in (
        "--config:",
        "--mode",
        "--workdir",
        "inspect",
        "num_samples",
        "coordinator",
        "cpu_devices",
    ):
        assert word in output


def test_weights_are_searched_for_that_a_trained_run_follows(trained, run, tmp_path):
    np.savez(tmp_path / "spectra.npz", faces=np.geomspace(20, 0.01, 32))
    code, _, log = run(
        f"--workdir={trained}",
        "--steps=2",
        "--num_paths=4",
        "--evaluations=12",
        f"--spectra={tmp_path / 'spectra.npz'}",
        f"--out={tmp_path}",
        module="experiments.multistep",
    )
    assert code == 0, log
    with (tmp_path / "multistep.csv").open() as file:
        second_order, gaussian, followed = csv.DictReader(file)
    for row in (second_order, gaussian, followed):
        assert len(row["B"].split()) == 2
        assert len(row["weights"].split()) == 1
    exact, path = "error, faces", f"error, {trained.name}"
    # Two times and a weight instead of two times and 0.
    assert float(gaussian[exact]) < 0.6 * float(second_order[exact])
    assert 0 < float(followed[path]) <= float(gaussian[path])
