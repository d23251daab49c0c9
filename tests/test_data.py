"""The sources, the order, the augmentations and the prefetching of `wmgm_jax.data`."""

import itertools
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wmgm_jax import data
from wmgm_jax.core.errors import UserError
from wmgm_jax.data.batches import epoch_order
from wmgm_jax.data.folder import decode_image


class Numbers:
    """A source whose image i is the number i, and which counts what it reads."""

    def __init__(self, count: int, shape: tuple[int, int, int] = (2, 2, 3)):
        self.image_shape = shape
        self.count = count
        self.taken = 0

    def __len__(self) -> int:
        return self.count

    def take(self, indices: np.ndarray) -> np.ndarray:
        self.taken += len(indices)
        return np.broadcast_to(
            indices.astype(np.uint8)[:, None, None, None], (len(indices), *self.image_shape)
        ).copy()


class Same(Numbers):
    """A source whose images are all the same one."""

    def __init__(self, count: int, image: np.ndarray):
        super().__init__(count, image.shape)
        self.image = image

    def take(self, indices: np.ndarray) -> np.ndarray:
        return np.repeat(self.image[None], len(indices), axis=0)


def numbers(batch: np.ndarray) -> list[int]:
    return batch[:, 0, 0, 0].tolist()


def everything(source: data.Source) -> np.ndarray:
    return source.take(np.arange(len(source)))


def refusal(pattern: str):
    """Expects a UserError of a single line that matches the pattern."""
    return pytest.raises(UserError, match=rf"\A(?!.*\n).*(?:{pattern})")


# ---------------------------------------------------------------------------------- order


def test_an_epoch_shows_every_image_once_and_batches_straddle_epochs():
    source = Numbers(10)
    shown = []
    for step in range(15):
        shown += numbers(data.batch_at(source, seed=3, step=step, batch_size=4, augment="none"))
    epochs = [shown[i : i + 10] for i in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_the_order_depends_on_the_seed_and_on_nothing_else():
    def at(seed, step):
        return numbers(
            data.batch_at(Numbers(100), seed=seed, step=step, batch_size=10, augment="none")
        )

    first = at(0, 7)
    at(5, 1), at(0, 8)
    epoch_order.cache_clear()
    assert at(0, 7) == first
    assert at(1, 7) != first


def test_an_epoch_can_be_a_single_batch():
    batch = data.batch_at(Numbers(4), seed=0, step=9, batch_size=4, augment="none")
    assert sorted(numbers(batch)) == [0, 1, 2, 3]


def test_a_distant_step_reads_only_its_own_images():
    source = Numbers(1000)
    started = time.monotonic()
    data.batch_at(source, seed=0, step=10**6, batch_size=64, augment="flip")
    assert source.taken == 64
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(("first_step", "steps"), [(0, 1), (5, 1), (6, 3)])
def test_batches_resume_at_any_step(first_step, steps):
    settings = {"seed": 1, "batch_size": 3, "augment": "dihedral"}
    source = data.open_source(source="embedded", split="valid", image_size=(8, 8), channels=3)
    stream = data.batches(source, first_step=first_step, steps=steps, **settings)
    batches = itertools.chain.from_iterable(itertools.islice(stream, 6))
    for step, batch in enumerate(batches, first_step):
        np.testing.assert_array_equal(batch, data.batch_at(source, step=step, **settings))
    assert step == first_step + 6 * steps - 1
    stream.close()


@pytest.mark.parametrize("rows", [slice(0, 3), slice(3, 8), slice(7, 8), slice(1, None, 2)])
@pytest.mark.parametrize("augment", ["none", "flip", "dihedral"])
def test_rows_are_a_slice_of_the_whole_batch(rows, augment):
    source = data.open_source(source="embedded", split="valid", image_size=(8, 8), channels=3)
    settings = {"seed": 2, "step": 11, "batch_size": 8, "augment": augment}
    whole = data.batch_at(source, **settings)
    np.testing.assert_array_equal(data.batch_at(source, rows=rows, **settings), whole[rows])


def test_rows_read_only_their_own_images():
    source = Numbers(50)
    data.batch_at(source, seed=0, step=0, batch_size=40, augment="none", rows=slice(10, 15))
    assert source.taken == 5


@pytest.mark.parametrize("batch_size", [0, 6])
def test_a_batch_must_fit_the_data(batch_size):
    with refusal(rf"batch_size is {batch_size} .*5 images.*--config\.\*\.batch_size"):
        data.batch_at(Numbers(5), seed=0, step=0, batch_size=batch_size, augment="none")


# --------------------------------------------------------------------------- augmentation


def symmetries(image: np.ndarray) -> list[bytes]:
    turned = [np.rot90(image, k) for k in range(4)]
    return [view.tobytes() for t in turned for view in (t, t[:, ::-1])]


@pytest.mark.parametrize("augment, expected", [("none", [0]), ("flip", [0, 1])])
def test_flip_mirrors_left_to_right_half_the_time(augment, expected):
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    batch = data.batch_at(Same(400, image), seed=0, step=0, batch_size=400, augment=augment)
    variants = [image.tobytes(), image[:, ::-1].tobytes()]
    seen = [variants.index(item.tobytes()) for item in batch]
    assert sorted(set(seen)) == expected
    assert augment == "none" or 140 < sum(seen) < 260  # Six standard deviations.


def test_dihedral_draws_the_eight_symmetries_evenly():
    image = np.arange(3 * 3 * 3, dtype=np.uint8).reshape(3, 3, 3)
    group = symmetries(image)
    assert len(set(group)) == 8
    batch = data.batch_at(Same(1600, image), seed=0, step=0, batch_size=1600, augment="dihedral")
    counts = np.bincount([group.index(item.tobytes()) for item in batch], minlength=8)
    assert counts.min() > 120 and counts.max() < 280  # Six standard deviations.


def test_augmentations_change_with_the_step():
    image = np.arange(3 * 3 * 3, dtype=np.uint8).reshape(3, 3, 3)
    batch = [
        data.batch_at(Same(64, image), seed=0, step=step, batch_size=64, augment="flip").tobytes()
        for step in (0, 1, 0)
    ]
    assert batch[0] == batch[2] != batch[1]


def test_augmentations_that_do_not_apply_are_refused():
    settings = {"seed": 0, "step": 0, "batch_size": 2}
    with refusal("data.augment is 'dihedral'.*2x3.*'flip'"):
        data.batch_at(Numbers(5, (2, 3, 1)), augment="dihedral", **settings)
    with refusal("data.augment is 'zoom'.*'none', 'flip', 'dihedral'"):
        data.batch_at(Numbers(5), augment="zoom", **settings)


# ---------------------------------------------------------------------------- prefetching


def wait_for(condition, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("end", ["close", "drop"])
def test_the_prefetch_thread_ends_with_the_iterator(end):
    before = set(threading.enumerate())
    stream = data.batches(Numbers(9), seed=0, first_step=0, batch_size=2, augment="none")
    next(stream)
    started = set(threading.enumerate()) - before
    assert len(started) == 1
    if end == "close":
        stream.close()
        assert not any(thread.is_alive() for thread in started)
    del stream
    assert wait_for(lambda: not any(thread.is_alive() for thread in started))


@pytest.mark.parametrize("prefetch", [0, 3])
def test_prefetching_is_bounded(prefetch):
    source = Numbers(9)
    stream = data.batches(
        source, seed=0, first_step=0, batch_size=1, augment="none", prefetch=prefetch
    )
    next(stream)
    assert wait_for(lambda: source.taken == 1 + prefetch)
    time.sleep(0.05)
    assert source.taken == 1 + prefetch
    stream.close()


def test_an_exception_arrives_in_the_turn_of_its_batch():
    class Faulty(Numbers):
        def take(self, indices):
            if self.taken == 2:
                raise RuntimeError("no third batch")
            return super().take(indices)

    stream = data.batches(Faulty(9), seed=0, first_step=0, batch_size=1, augment="none")
    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(RuntimeError, match="no third batch"):
        next(stream)


# -------------------------------------------------------------------------------- sources


@pytest.mark.parametrize("source", ["", "file", "tfds", "tfds:", "Folder", "array", "array:"])
def test_unknown_sources_are_refused_with_the_valid_ones(source):
    with refusal(rf"data.source is '{source}'.*'embedded', 'folder', 'tfds:NAME' or 'array:PATH'"):
        data.open_source(source=source, split="train", image_size=(8, 8), channels=3)


@pytest.mark.parametrize(
    "setting",
    [{"image_size": (0, 8)}, {"channels": 2}, {"validation_fraction": 0.0}],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_out_of_range_are_refused(setting):
    settings = {"source": "embedded", "split": "train", "image_size": (8, 8), "channels": 3}
    with refusal(f"--config.data.{next(iter(setting))} is"):
        data.open_source(**settings | setting)


def test_the_module_imports_no_framework():
    code = (
        "import sys, types;"
        "package = types.ModuleType('wmgm_jax');"  # The real one imports JAX.
        "package.__path__ = ['wmgm_jax'];"
        "sys.modules['wmgm_jax'] = package;"
        "import wmgm_jax.data;"
        "print({'jax', 'tensorflow', 'tensorflow_datasets', 'skimage'} & set(sys.modules))"
    )
    root = Path(__file__).parents[1]
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root) == b"set()\n"


@pytest.mark.parametrize("channels", [1, 3])
def test_embedded_crops_are_crops_of_the_micrograph(channels):
    from skimage.data import immunohistochemistry

    image = immunohistochemistry()
    if channels == 1:
        image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    train, valid = (
        data.open_source(source="embedded", split=split, image_size=(16, 24), channels=channels)
        for split in ("train", "valid")
    )
    assert train.image_shape == valid.image_shape == (16, 24, channels)
    assert (len(train), len(valid)) == (369 * 489, 113 * 489)
    crops = train.take(np.array([0, 488, 489, len(train) - 1]))
    assert crops.dtype == np.uint8 and crops.flags.c_contiguous
    for crop, (y, x) in zip(crops, [(0, 0), (0, 488), (1, 0), (368, 488)], strict=True):
        np.testing.assert_array_equal(crop, image[y : y + 16, x : x + 24])
    np.testing.assert_array_equal(valid.take(np.array([490]))[0], image[385:401, 1:25])


def test_embedded_splits_share_no_pixel(monkeypatch):
    row = np.broadcast_to(np.arange(512)[:, None], (512, 512))
    image = np.stack([row % 256, row // 256, row * 0], axis=-1).astype(np.uint8)
    monkeypatch.setattr("skimage.data.immunohistochemistry", lambda: image)
    rows = []
    for split in ("train", "valid"):
        source = data.open_source(source="embedded", split=split, image_size=(8, 500), channels=3)
        crops = everything(source)[:, :, 0].astype(int)
        rows.append(set((crops[..., 0] + 256 * crops[..., 1]).ravel().tolist()))
    assert rows == [set(range(384)), set(range(384, 512))]


@pytest.mark.parametrize(
    "split, fits, too_large",
    [
        ("train", (384, 512), (385, 512)),
        ("valid", (128, 512), (129, 8)),
        ("train", (8, 8), (8, 513)),
    ],
)
def test_embedded_crops_must_fit(split, fits, too_large):
    settings = {"source": "embedded", "split": split, "channels": 3}
    assert len(data.open_source(image_size=fits, **settings)) >= 1
    with refusal(rf"image_size is {too_large[0]}x{too_large[1]} but the {split} part"):
        data.open_source(image_size=too_large, **settings)


@pytest.mark.parametrize("split, expected", [("train", range(10)), ("valid", [100, 101])])
def test_folders_are_sources(tmp_path, split, expected):
    for i in (*range(10), 100, 101):
        path = tmp_path / "images" / ("train" if i < 100 else "valid") / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), i).save(path)
    source = data.open_source(
        source="folder",
        split=split,
        image_size=(4, 4),
        channels=3,
        directory=str(tmp_path / "images"),
        cache_dir=str(tmp_path / "cache"),
    )
    assert source.image_shape == (4, 4, 3) and len(source) == len(expected)
    before = everything(source)
    assert numbers(before) == list(expected) and before.shape[1:] == (4, 4, 3)
    data.batch_at(source, seed=0, step=0, batch_size=len(source), augment="dihedral")
    np.testing.assert_array_equal(everything(source), before)


# ----------------------------------------------------------------------------------- TFDS


def test_tfds_must_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with refusal("'tfds:cifar10'.*pip install tensorflow-datasets"):
        data.open_source(source="tfds:cifar10", split="train", image_size=(8, 8), channels=3)


@pytest.fixture(scope="module")
def open_tfds(tmp_path_factory):
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    directory = str(tmp_path_factory.mktemp("tfds"))

    def image(value: int) -> BytesIO:
        file = BytesIO()
        Image.new("RGB", (16, 12), (value, value, value)).save(file, "PNG")
        file.seek(0)
        return file

    def define(dataset: str, splits: dict[str, range], feature=None):
        class Tiny(tfds.core.GeneratorBasedBuilder):  # Defining it registers it.
            name = dataset
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = {"image": feature or tfds.features.Image(shape=(None, None, 3))}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, _):
                return {split: self._generate_examples(values) for split, values in splits.items()}

            def _generate_examples(self, values):
                for value in values:
                    content = np.zeros(2, np.uint8) if dataset == "tiny_vector" else image(value)
                    yield value, {"image": content}

    define("tiny_alone", {"train": range(40)})
    define("tiny_test", {"train": range(10), "test": range(100, 105)})
    define("tiny_both", {"train": range(9), "test": range(7), "validation": range(200, 203)})
    define("tiny_single", {"train": range(1)})
    define("tiny_untrained", {"test": range(3)})
    define("tiny_vector", {"train": range(3)}, tfds.features.Tensor(shape=(2,), dtype=np.uint8))

    def open_it(name: str, split: str, **settings):
        settings = {"image_size": (6, 8), "channels": 3, "directory": directory} | settings
        return data.open_source(source=f"tfds:{name}", split=split, **settings)

    return open_it


@pytest.mark.parametrize(
    "name, train, valid",
    [("tiny_test", range(10), range(100, 105)), ("tiny_both", range(9), range(200, 203))],
)
def test_tfds_validates_on_its_own_split(open_tfds, name, train, valid):
    assert sorted(numbers(everything(open_tfds(name, "train")))) == list(train)
    source = open_tfds(name, "valid")
    images = everything(source)
    assert sorted(numbers(images)) == list(valid)
    assert source.image_shape == (6, 8, 3) and images.shape[1:] == (6, 8, 3)
    assert images.dtype == np.uint8


def test_tfds_splits_by_fraction_and_decodes_only_what_it_takes(open_tfds, monkeypatch):
    train, valid = (open_tfds("tiny_alone", s, validation_fraction=0.1) for s in ("train", "valid"))
    assert (len(train), len(valid)) == (36, 4)
    assert len(open_tfds("tiny_alone", "valid", validation_fraction=0.001)) == 1
    assert sorted(numbers(everything(train)) + numbers(everything(valid))) == list(range(40))
    decoded = []
    whole = decode_image
    monkeypatch.setattr(
        "wmgm_jax.data.tfds.decode_image", lambda *a: decoded.append(a) or whole(*a)
    )
    images = train.take(np.array([3, 1, 3]))
    assert len(decoded) == 3 and numbers(images)[0] == numbers(images)[2] != numbers(images)[1]


def test_tfds_data_that_does_not_serve_is_refused(open_tfds):
    for name, split, pattern in [
        ("tiny_nowhere", "train", "unknown to TFDS"),
        ("tiny_alone/what:9", "train", "cannot be prepared"),
        ("tiny_single", "valid", "no image for the valid split"),
        ("tiny_untrained", "train", r"no split 'train', only \['test'\]"),
        ("tiny_vector", "train", "no 'image' feature of integers"),
    ]:
        with refusal(rf"data.source 'tfds:{name}' .*{pattern}"):
            open_tfds(name, split)


def test_tfds_images_of_floats_are_refused(open_tfds, monkeypatch):
    import tensorflow_datasets as tfds

    open_tfds("tiny_test", "train")
    # TFDS needs TensorFlow to write such images.
    monkeypatch.setattr(tfds.features.Image, "np_dtype", np.float32)
    with refusal("no 'image' feature of integers"):
        open_tfds("tiny_test", "train")
