"""Fields: float arrays as a source, their units, their pictures, and a run on them."""

import functools
import json
import logging
import os
import shutil
import tracemalloc

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from conftest import TINY
from PIL import Image
from test_data import everything, refusal
from test_wmgm import random_images, tiny

from wmgm_jax import data, runs, sampling
from wmgm_jax.core.codec import IMAGES, Fields, FieldStatistics, codec_of
from wmgm_jax.core.random import fold_in_each
from wmgm_jax.data import array_files
from wmgm_jax.data import arrays as array_source
from wmgm_jax.data.array_files import ArrayFile
from wmgm_jax.data.image_sets import open_set
from wmgm_jax.evaluation import ImageSets, evaluate, quick_measures
from wmgm_jax.evaluation.reconstruction import fidelity, rebuild

MEAN, STD = np.array([300.0, -2e-3]), np.array([7.0, 1e-4])


def fields(count=60, shape=(4, 6), seed=0):
    """Two channels of other units, float64 `[N, H, W, 2]`."""
    noise = np.random.default_rng(seed).standard_normal((count, *shape, 2))
    return noise * STD + MEAN


@pytest.fixture
def open_fields(tmp_path):
    def open_fields(path, split="train", image_size=(4, 6), channels=2, **settings):
        return data.open_source(
            source=f"array:{path}",
            split=split,
            image_size=image_size,
            channels=channels,
            cache_dir=str(tmp_path / "cache"),
            **settings,
        )

    return open_fields


def both(open_fields, path, **settings):
    return [open_fields(path, split, **settings) for split in ("train", "valid")]


def in_units(source):
    return source.codec.to_sample(everything(source))


# ----------------------------------------------------------------------------------- units


def test_units_come_and_go():
    x, codec = fields(), Fields(MEAN, STD)
    unit_range = codec.encode(x)
    assert unit_range.dtype == np.float32
    np.testing.assert_allclose(unit_range, (x - MEAN) / (2 * STD), atol=1e-6)
    np.testing.assert_allclose(unit_range.std((0, 1, 2)), 0.5, rtol=0.05)
    np.testing.assert_allclose(codec.to_sample(unit_range), x, rtol=1e-6)
    in_jax = jax.jit(codec_of(codec.statistics()).to_sample)(jnp.asarray(unit_range))
    assert in_jax.dtype == jnp.float32
    np.testing.assert_allclose(in_jax, x, rtol=1e-6)


def test_a_channel_that_never_varies_comes_back_exactly():
    statistics = FieldStatistics()
    for part in np.split(np.stack([np.full(90, 0.1), np.arange(90.0)], axis=1), 3):
        statistics.add(part)
    codec = statistics.codec()
    assert codec.mean[0] == 0.1
    assert codec.std[0] == 0
    assert codec.encode(np.array([[0.1, 3.0]]))[0, 0] == 0
    assert codec.to_sample(np.array([[5.0, 0.0]]))[0].tolist() == [0.1, 44.5]


@pytest.mark.parametrize("values", [[1e300, -1e300], [1e38, 0.9e38], [1e6 + 1e-3, 1e6], [1e-40, 0]])
def test_what_float32_cannot_hold_is_refused(values):
    statistics = FieldStatistics()
    statistics.add(np.array([[1.0, value] for value in values] + [[2.0, values[0]]]))
    with pytest.raises(ValueError, match=r"channel 1 has mean .*float32"):
        statistics.codec()


# ---------------------------------------------------------------------------------- source


@pytest.mark.parametrize("chunk", [1, 1000, 2**22])
def test_statistics_are_those_of_the_training_fields(open_fields, tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(array_source, "CHUNK", chunk)
    x = fields()
    np.save(tmp_path / "x.npy", x)
    train, valid = both(open_fields, tmp_path / "x.npy", validation_fraction=0.3)
    chosen = x[train.positions]
    np.testing.assert_allclose(train.codec.mean, chosen.mean((0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(train.codec.std, chosen.std((0, 1, 2)), rtol=1e-11)
    np.testing.assert_array_equal(valid.codec.mean, train.codec.mean)
    np.testing.assert_array_equal(everything(valid), train.codec.encode(x[valid.positions]))
    assert 8 < len(valid) < 28
    assert sorted([*train.positions, *valid.positions]) == list(range(60))


def test_statistics_are_measured_once(open_fields, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", fields())
    first = open_fields(tmp_path / "x.npy")
    with monkeypatch.context() as patch:
        patch.setattr(array_source, "chunks", None)
        again = open_fields(tmp_path / "x.npy")
    np.testing.assert_array_equal(again.codec.std, first.codec.std)
    # Of another file, and of a cache that is damaged, anew.
    (record,) = (tmp_path / "cache").iterdir()
    record.write_text(record.read_text()[:20])
    np.testing.assert_array_equal(open_fields(tmp_path / "x.npy").codec.std, first.codec.std)
    np.save(tmp_path / "x.npy", 2 * fields())
    os.utime(tmp_path / "x.npy", (0, 0))
    np.testing.assert_allclose(open_fields(tmp_path / "x.npy").codec.std, 2 * first.codec.std)


def test_files_are_mapped_and_never_read_whole(open_fields, tmp_path, monkeypatch):
    monkeypatch.setattr(array_source, "CHUNK", 2**12)
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (4000, 32, 32))
    mapped[:] = np.arange(4000)[:, None, None]
    mapped.flush()
    settings = {"image_size": (32, 32), "channels": 1}
    tracemalloc.start()
    source = open_fields(tmp_path / "x.npy", **settings)
    taken = source.take(np.array([3000, 5]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(
        source.codec.to_sample(taken)[:, 0, 0, 0], source.positions[[3000, 5]], atol=1e-3
    )
    assert mapped.nbytes == 16_384_000
    assert peak < mapped.nbytes / 4


def test_a_split_moves_no_field_when_fields_are_added_or_the_file_renamed(open_fields, tmp_path):
    np.save(tmp_path / "x.npy", fields(200))
    np.save(tmp_path / "y.npy", np.concatenate([fields(200), fields(100, seed=1)]))
    few, many = (
        both(open_fields, tmp_path / name, validation_fraction=0.1) for name in ("x.npy", "y.npy")
    )
    for ours, theirs in zip(few, many, strict=True):
        assert ours.positions.tolist() == [i for i in theirs.positions if i < 200]
    np.save(tmp_path / "z.npy", fields(2))
    assert [len(x) for x in both(open_fields, tmp_path / "z.npy")] == [1, 1]


def test_a_folder_is_its_files_one_after_the_other(open_fields, tmp_path):
    x, folder = fields(40), tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    np.save(folder / "a.npy", x[:10].astype(np.float32))
    np.savez_compressed(folder / "b" / "a.npz", x[10:30])
    np.save(folder / "c.npy", np.asfortranarray(x[30:].astype(">f8")))
    np.save(folder / ".hidden.npy", np.zeros(3))
    (folder / "notes.txt").write_text("")
    train, valid = both(open_fields, folder, validation_fraction=0.2)
    assert sorted([*train.positions, *valid.positions]) == list(range(40))
    for source in (train, valid):
        np.testing.assert_allclose(in_units(source), x[source.positions], rtol=1e-6)
    shuffled = np.random.default_rng(0).permutation(len(train))
    np.testing.assert_array_equal(train.take(shuffled), everything(train)[shuffled])


def test_subfolders_are_the_split(open_fields, tmp_path):
    x = fields(30)
    for name, part in (("train", x[:20]), ("val", x[20:])):
        (tmp_path / "data" / name).mkdir(parents=True)
        np.save(tmp_path / "data" / name / "x.npy", part)
    train, valid = both(open_fields, tmp_path / "data")
    np.testing.assert_allclose(in_units(train), x[:20], rtol=1e-6)
    np.testing.assert_allclose(in_units(valid), x[20:], rtol=1e-6)
    np.testing.assert_allclose(train.codec.mean, x[:20].mean((0, 1, 2)), rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int16, np.uint8])
def test_any_real_type_without_a_channel_axis(open_fields, tmp_path, dtype):
    x = np.random.default_rng(0).integers(0, 200, (20, 4, 6)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    source = open_fields(tmp_path / "x.npy", channels=1)
    np.testing.assert_allclose(in_units(source)[..., 0], x[source.positions], atol=1e-4)


def test_npz_files_are_unpacked_once(open_fields, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", labels=np.arange(3), fields=fields())
    first = everything(open_fields(tmp_path / "x.npz"))
    array_files.mapped.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(array_files, "unpack", None)
        np.testing.assert_array_equal(everything(open_fields(tmp_path / "x.npz")), first)
    (unpacked,) = (tmp_path / "cache").glob("*.npy")
    assert isinstance(array_files.mapped(ArrayFile("", str(unpacked), (0, 0))), np.memmap)
    # A damaged one is unpacked anew.
    unpacked.write_bytes(unpacked.read_bytes()[:500])
    array_files.mapped.cache_clear()
    np.testing.assert_array_equal(everything(open_fields(tmp_path / "x.npz")), first)


def test_fields_that_are_not_finite_are_skipped(open_fields, tmp_path, caplog):
    x = fields(100).astype(np.float32)
    sound = x.copy()
    x[[7, 40], 1, 2, 1] = np.nan, np.inf
    np.save(tmp_path / "x.npy", x)
    with caplog.at_level(logging.WARNING):
        train, valid = both(open_fields, tmp_path / "x.npy", validation_fraction=0.1)
    assert len(train) + len(valid) == 98
    assert not {7, 40} & {*train.positions, *valid.positions}
    np.testing.assert_allclose(train.codec.mean, sound[train.positions].mean((0, 1, 2)), rtol=1e-5)
    for place in (7, 40):
        assert caplog.text.count(f"skipped field {place} of 'x.npy'") == 1
    x[:6] = np.nan
    np.save(tmp_path / "x.npy", x)
    with refusal("8 of 100 fields hold NaN or infinity, over 5%.*field 0 of 'x.npy'"):
        open_fields(tmp_path / "x.npy")
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (
            np.zeros((5, 8, 8, 3)),
            r"5 fields of 8x8 with 3 channels, not of 4x6 with 2: set "
            r'--config\.data\.image_size="\(8,8\)" --config\.data\.channels=3',
        ),
        (np.zeros((5, 4, 6)), r"with 1 channels, .* --config\.data\.channels=1"),
        (np.zeros((4, 6)), r"float64 \[4, 6\]: give .* \[N, H, W\] or \[N, H, W, C\]"),
        (np.zeros((5, 4, 6, 2), np.complex64), "holds complex64"),
        (np.full((5, 4, 6, 2), "a"), "holds <U1"),
        (np.zeros((5, 4, 6, 2), bool), "holds bool"),
        (np.full((5, 4, 6, 2), None), "cannot be read: ValueError"),
        (np.zeros((1, 4, 6, 2)), "has 1 fields: give at least two"),
        (np.arange(480).reshape(10, 4, 6, 2) * 1e300, "channel 0 .*float32 cannot"),
    ],
)
def test_arrays_that_do_not_serve_are_refused(open_fields, tmp_path, content, pattern):
    np.save(tmp_path / "x.npy", content)
    with refusal(f"array:.*x.npy.*{pattern}"):
        open_fields(tmp_path / "x.npy")


def test_files_that_do_not_serve_are_refused(open_fields, tmp_path):
    with refusal("nowhere.npy' does not exist: give an .npy file.*Draw them"):
        open_fields(tmp_path / "nowhere.npy", missing_hint="Draw them first")
    (tmp_path / "x.txt").write_text("1")
    with refusal("x.txt' is not an .npy file, an .npz file or a folder"):
        open_fields(tmp_path / "x.txt")
    (tmp_path / "empty").mkdir()
    with refusal("empty' has no .npy or .npz file"):
        open_fields(tmp_path / "empty")
    (tmp_path / "split" / "train").mkdir(parents=True)
    (tmp_path / "split" / "test").mkdir()
    np.save(tmp_path / "split" / "train" / "x.npy", fields())
    with refusal("split/test' has no .npy or .npz file"):
        open_fields(tmp_path / "split")
    np.savez(tmp_path / "x.npz", train=fields(), test=fields())
    with refusal("'x.npz' holds arrays train, test: name one 'images' or 'fields'"):
        open_fields(tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "y.npz", fields())
    content = (tmp_path / "y.npz").read_bytes()
    middle = len(content) // 2
    for damaged in (content[:middle], content[:middle] + b"0000" + content[middle + 4 :], b""):
        (tmp_path / "y.npz").write_bytes(damaged)
        with refusal("'y.npz' cannot be read"):
            open_fields(tmp_path / "y.npz")
    np.save(tmp_path / "y.npy", fields())
    (tmp_path / "y.npy").write_bytes((tmp_path / "y.npy").read_bytes()[:-100])
    with refusal("'y.npy' cannot be read"):
        open_fields(tmp_path / "y.npy")


@pytest.mark.parametrize(("augment", "expected"), [("flip", 2), ("dihedral", 8)])
def test_augmentations_turn_fields_as_they_turn_images(open_fields, tmp_path, augment, expected):
    np.save(tmp_path / "x.npy", fields(40, (4, 4)))
    source = open_fields(tmp_path / "x.npy", image_size=(4, 4))
    settings = {"seed": 1, "step": 3, "batch_size": 30}
    plain = data.batch_at(source, **settings, augment="none")
    turned = data.batch_at(source, **settings, augment=augment)
    assert turned.dtype == np.float32
    found = set()
    for x, y in zip(plain, turned, strict=True):
        rotations = [np.rot90(x, k) for k in range(4)]
        symmetries = [*rotations, *(r[:, ::-1] for r in rotations)]
        (which,) = (i for i, z in enumerate(symmetries) if np.array_equal(y, z))
        found.add(which)
    assert len(found) == expected
    assert augment != "flip" or found == {0, 4}


# ------------------------------------------------------------------------- model and measures


def test_unit_range_is_left_as_it_is():
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    assert Fields(MEAN, STD).to_unit_range(x) is x
    np.testing.assert_array_equal(IMAGES.to_unit_range(np.array([0, 255], np.uint8)), [-1, 1])


def test_samples_come_in_the_units_of_the_data(monkeypatch):
    """Of a system that draws noise: its samples are clipped as images, not as fields."""

    class Noise:
        def make_draw(self, how):
            draw = functools.partial(jax.random.normal, shape=(4, 4, 3))
            return lambda params, keys: jax.vmap(draw)(keys)

    monkeypatch.setattr(sampling.systems, "build", lambda config, dtype: Noise())
    config, key = tiny(), jax.random.key(2)
    noise = np.asarray(Noise().make_draw(None)({}, fold_in_each(key, jnp.arange(19))))
    sample_fn = sampling.make_sample_fn(config)
    images = sample_fn({"statistics": {}}, key, 19)
    np.testing.assert_allclose(images, np.clip((noise + 1) / 2, 0, 1), atol=1e-6)

    mean, std = np.array([300.0, 2.0, -5.0]), np.array([7.0, 0.0, 0.1])
    params = {"statistics": Fields(mean, std).statistics()}
    expected = noise * 2 * std + mean
    np.testing.assert_allclose(sample_fn(params, key, 19), expected, rtol=1e-5)
    assert "callback" not in sample_fn.lower(params, key, 19).as_text()
    model = runs.Model(config, params, {})
    batches = list(sampling.sample_batches(model, key, 19))
    np.testing.assert_allclose(np.concatenate(batches), expected, rtol=1e-5)
    np.testing.assert_allclose(model.codec.std, std, rtol=1e-6)


def test_fields_measure_as_the_images_that_they_equal():
    """Photographs handed over as fields in unit range get the values of photographs."""
    codec = Fields(np.zeros(3), np.full(3, 0.5))
    images = [random_images(n, seed) // (seed + 1) for seed, n in enumerate((20, 24, 28))]
    as_fields = [IMAGES.to_unit_range(x).astype(np.float64) for x in images]
    ours = evaluate(ImageSets(*(data.from_array(x, codec) for x in as_fields)), 2)
    theirs = evaluate(ImageSets(*map(data.from_array, images)), 2)
    assert ours["method"]["units"] == {"mean": [0, 0, 0], "std": [0.5, 0.5, 0.5]}
    assert theirs["method"]["units"] is None
    assert ours["measures"].keys() == theirs["measures"].keys()
    for name, measure in theirs["measures"].items():
        for entry in ("value", "training"):
            assert ours["measures"][name][entry] == pytest.approx(measure[entry], rel=1e-3), name
    paired = [IMAGES.to_unit_range(x[:20]) for x in images[:2]]
    assert fidelity(*paired, codec) == pytest.approx(
        fidelity(*(x[:20] for x in images[:2]), IMAGES), rel=1e-4
    )
    expected = quick_measures(images[0][:20], images[1][:20], IMAGES, is_paired=True)
    assert quick_measures(*paired, codec, is_paired=True) == pytest.approx(expected, rel=1e-3)


def test_rebuilt_fields_are_neither_clipped_nor_rounded():
    x = np.random.default_rng(0).standard_normal((5, 4, 4, 2)).astype(np.float32)
    rebuilt = rebuild(
        lambda factor, keys, fields: factor * fields,
        3,
        x,
        Fields(MEAN, STD),
        jax.random.key(0),
        batch_size=2,
    )
    np.testing.assert_allclose(rebuilt, 3 * x, rtol=1e-6)


def test_a_field_is_compared_with_arrays_in_its_units(tmp_path):
    x, codec = fields(5), Fields(MEAN, STD)
    np.savez(tmp_path / "x.npz", images=x)
    source = open_set(str(tmp_path / "x.npz"), "--reference", (4, 6, 2), codec=codec)
    np.testing.assert_array_equal(everything(source), codec.encode(x))
    assert data.subset(source, 3).codec is codec
    with refusal("holds images .4, 6, 2., to be compared with .4, 6, 1."):
        open_set(str(tmp_path / "x.npz"), "--reference", (4, 6, 1), codec=codec)
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with refusal("x.npz cannot be read: ValueError: no array of numbers"):
        open_set(str(tmp_path / "x.npz"), "--reference", (4, 6, 2), codec=codec)
    with refusal("is not an .npz or an .npy file"):
        open_set(str(tmp_path), "--reference", (4, 6, 2), codec=codec)


def test_data_that_has_changed_is_noticed(tmp_path):
    statistics = Fields(MEAN, STD).statistics()
    runs.check_same_units(tmp_path, data.from_array(fields(), Fields(MEAN, STD)), statistics)
    runs.check_same_units(tmp_path, data.from_array(random_images()), {})
    other = Fields(MEAN, STD * [1, 1.01])
    with refusal("trained on other data: channel 1 had the std 0.0001, .*0.000101 now"):
        runs.check_same_units(tmp_path, data.from_array(fields(), other), statistics)


# ---------------------------------------------------------------------------------- pictures


def test_false_colours():
    codec = Fields(np.array([300.0]), np.array([7.0]))
    values = np.array([300 - 3 * 7, 300, 300 + 3 * 7, 1000.0, -1000.0]).reshape(1, 1, 5, 1)
    viridis = matplotlib.colormaps["viridis"]
    expected = viridis([0, 0.5, 1.0, 1.0, 0], bytes=True)[:, :3]
    np.testing.assert_array_equal(codec.to_visible(codec.encode(values))[0, 0], expected)
    assert codec.to_visible(np.full((1, 1, 1, 1), np.nan)).tolist() == [[[[0, 0, 0]]]]
    images = random_images(2)
    assert IMAGES.to_visible(images) is images


@pytest.mark.parametrize(("channels", "width"), [(1, 5), (2, 11), (3, 17), (7, 17)])
def test_channels_are_shown_side_by_side(channels, width):
    x = np.random.default_rng(0).standard_normal((3, 4, 5, channels)).astype(np.float32)
    picture = Fields(MEAN, STD).to_visible(x)
    assert picture.shape == (3, 4, width, 3)
    for k in range(min(channels, 3)):
        alone = Fields(MEAN, STD).to_visible(x[..., k : k + 1])
        np.testing.assert_array_equal(picture[:, :, 6 * k : 6 * k + 5], alone)
    assert (picture[:, :, 5::6] == 0).all()


# --------------------------------------------------------------------------------------- run


def test_a_run_on_fields(run, tmp_path):
    """Two channels of other units, from training to the samples and the report."""
    x = fields(40, (8, 8))
    np.save(tmp_path / "x.npy", x)
    workdir = tmp_path / "run"
    flags = (
        TINY,
        f"--workdir={workdir}",
        f"--config.data.source=array:{tmp_path / 'x.npy'}",
        "--config.data.channels=2",
        f"--config.data.cache_dir={tmp_path / 'cache'}",
        "--config.data.image_size=(8,8)",
        "--config.data.validation_fraction=0.3",
        "--config.wavelet.levels=1",
        # Under "velocity" a network that has learnt nothing draws white noise, of the right scale.
        "--config.score.prediction=velocity",
        "--config.sampling.sampler=euler_maruyama",
        "--config.sampling.num_steps=32",
        "--config.evaluation.inception_weights=",
    )
    code, _, log = run(*flags)
    assert code == 0, log
    assert "not computed for fields" in log

    report = json.loads((workdir / "evaluation.json").read_text())
    assert report["images"]["generated"] == {"count": 8, "shape": [8, 8, 2]}
    np.testing.assert_allclose(report["method"]["units"]["mean"], MEAN, rtol=0.02)
    for name in (
        "reconstruction/psnr",
        "sliced_wasserstein/mean",
        "marginal_wasserstein/scale_1/HH",
    ):
        assert np.isfinite(report["measures"][name]["value"])
    assert (workdir / "report.html").read_text().count("data:image/png;base64,") == 3
    drawn = np.load(workdir / "samples" / "evaluated.npy")
    assert drawn.dtype == np.float32
    assert drawn.shape == (8, 8, 8, 2)
    in_deviations = (drawn - MEAN) / STD
    assert (abs(in_deviations.mean((0, 1, 2))) < 0.5).all()
    # Of white noise a quarter of the variance is in the low band, and no detail has been learnt.
    np.testing.assert_allclose(in_deviations.std((0, 1, 2)), 0.5, rtol=0.15)
    for stage in ("score", "msal"):
        picture = np.asarray(Image.open(workdir / "samples" / f"{stage}_0000012.png"))
        assert picture.shape[-1] == 3

    # Without its last checkpoint, as if killed before it, the run ends at the same bits.
    before = runs.load(workdir).params
    shutil.rmtree(workdir / "checkpoints" / "msal" / "12")
    code, _, log = run(*flags)
    assert "msal: continuing from step 9" in log
    jax.tree.map(np.testing.assert_array_equal, runs.load(workdir).params, before)

    # Sampling needs no data.
    (tmp_path / "x.npy").unlink()
    code, _, log = run(f"--workdir={workdir}", "--mode=sample", "--num_samples=3")
    assert code == 0, log
    folder = workdir / "samples" / "seed_0"
    images = np.load(folder / "images.npz", allow_pickle=False)["images"]
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, drawn[:3], rtol=1e-4)
    assert Image.open(folder / "grid.png").mode == "RGB"
    assert Image.open(folder / "images" / "000002.png").size == (8 + 1 + 8, 8)
