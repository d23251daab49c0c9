"""The learned features: how the network is trained, kept and shared, and what it sees."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from scipy import ndimage

from wmgm_jax import data
from wmgm_jax.core.errors import UserError
from wmgm_jax.evaluation import ImageSets, evaluate
from wmgm_jax.evaluation.feature_measures import frechet
from wmgm_jax.evaluation.learned import damage, weights
from wmgm_jax.evaluation.learned.load import load
from wmgm_jax.evaluation.learned.network import Backbone, block_side
from wmgm_jax.evaluation.learned.training import contrastive_loss


@pytest.fixture(scope="module")
def crops():
    image = skimage.data.immunohistochemistry()
    corners = np.random.default_rng(0).integers(0, 512 - 16, (240, 2))
    return np.stack([image[top : top + 16, left : left + 16] for top, left in corners])


@pytest.fixture(autouse=True, scope="module")
def small_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wmgm_jax.evaluation.learned.training.BATCH_SIZE", 4)
        yield


@pytest.fixture(scope="module")
def trained(crops, tmp_path_factory):
    """A network of a few steps, and the folder of its cache."""
    folder = tmp_path_factory.mktemp("cache")
    return load(data.from_array(crops), cache_dir=str(folder), num_steps=10), folder


# --- the labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetry", range(8))
def test_turned_is_numpys(symmetry):
    image = np.arange(6 * 6 * 2).reshape(6, 6, 2)
    expected = np.rot90(image, symmetry // 2)
    expected = expected[:, ::-1] if symmetry % 2 else expected
    np.testing.assert_array_equal(damage.turned(jnp.asarray(image), symmetry), expected)


def test_the_turns_that_are_damage_are_those_that_augmentation_does_not_make():
    """Turns times augmentations give each symmetry of the image once."""
    image = np.arange(25).reshape(5, 5, 1)
    for augment, own in (("none", 1), ("flip", 2), ("dihedral", 8)):
        images = {
            np.asarray(damage.turned(damage.turned(jnp.asarray(image), s), turn)).tobytes()
            for s in range(own)
            for turn in damage.turns(image.shape, augment)
        }
        assert len(images) == 8 == own * len(damage.turns(image.shape, augment))
    assert damage.turns((4, 6, 1), "flip") == (0, 4)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_exchanged_moves_quarters(order):
    image = np.arange(5 * 6 * 1).reshape(5, 6, 1)
    parts = [image[:2, :3], image[:2, 3:], image[2:4, :3], image[2:4, 3:]]
    expected = image.copy()
    for place, part in zip(np.ndindex(2, 2), order, strict=True):
        rows, columns = (
            slice(n * size, (n + 1) * size) for n, size in zip(place, (2, 3), strict=True)
        )
        expected[rows, columns] = parts[part]
    np.testing.assert_array_equal(damage.exchanged(jnp.asarray(image), np.array(order)), expected)


def test_blurred_is_a_gaussian_blur(crops):
    image = crops[0].astype(np.float32)
    blurred = damage.blurred(jnp.asarray(image), jnp.float32(1.0))
    expected = ndimage.gaussian_filter(image, (1, 1, 0))
    np.testing.assert_allclose(blurred[4:-4, 4:-4], expected[4:-4, 4:-4], rtol=1e-3)
    np.testing.assert_allclose(damage.blurred(jnp.asarray(image), jnp.float32(0)), image, rtol=1e-6)


def test_labels_say_what_was_done():
    """Of images of one grey level each, everything that was pasted can be seen."""
    levels = np.arange(64, dtype=np.uint8) * 2 + 60
    images = np.broadcast_to(levels[:, None, None, None], (64, 12, 8, 1))
    damaged, labels = damage.damage(jax.random.key(0), jnp.asarray(images), "flip")
    strengths = np.asarray(labels["strengths"])
    assert damaged.shape == images.shape and damaged.min() >= 0 and damaged.max() <= 255
    assert 0.3 < np.mean(strengths == 0) < 0.9
    clean = np.flatnonzero((strengths == 0).all(axis=1))
    assert len(clean) > 4
    masks = np.asarray(labels["mask"])[clean, ..., None]
    expected = np.where(masks == 1, np.roll(images, 1, axis=0)[clean], images[clean])
    np.testing.assert_array_equal(np.asarray(damaged)[clean], expected)
    assert 0.2 < np.mean(np.asarray(labels["mask"]).max(axis=(1, 2))) < 0.8
    assert set(np.unique(labels["turn"])) == {0, 1}
    assert np.mean(np.asarray(labels["quarters"]) == 0) == pytest.approx(0.5, abs=0.25)


def test_the_contrastive_loss_is_that_of_simclr():
    x = np.random.default_rng(0).standard_normal((8, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    total = 0
    for i in range(8):
        weights = np.exp(x @ x[i] / 0.2)
        total -= np.log(weights[(i + 4) % 8] / (weights.sum() - weights[i]))
    expected = total / 8 / np.log(7)
    assert float(contrastive_loss(jnp.asarray(x), 0.2)) == pytest.approx(expected, rel=1e-5)


# --- the network and its file --------------------------------------------------------------------


def test_the_first_grid_is_about_32x32():
    sides = {(16, 16): 1, (32, 32): 1, (64, 64): 2, (128, 128): 4, (100, 64): 2, (66, 65): 1}
    for shape, side in sides.items():
        assert block_side(*shape) == side
    for shape in ((1, 16, 16, 3), (1, 64, 80, 1), (1, 10, 13, 1)):
        outputs = jax.eval_shape(Backbone().init_with_output, jax.random.key(0), jnp.zeros(shape))
        assert outputs[0][0].shape == (1, 80)


def test_the_same_images_give_the_same_network(crops, trained, tmp_path):
    network, _ = trained
    again = load(data.from_array(crops), cache_dir=str(tmp_path), num_steps=10)
    assert again.sha256 == network.sha256
    np.testing.assert_array_equal(again.features(crops[:5]), network.features(crops[:5]))
    # In units of its standard deviation over the training images.
    deviation = network.features(crops).std(axis=0)
    assert np.all(np.isclose(deviation, 1, atol=1e-3) | (deviation < 1e-3))


def test_a_network_is_trained_once(crops, trained, monkeypatch, caplog):
    network, folder = trained
    source, options = data.from_array(crops), {"cache_dir": str(folder), "num_steps": 10}
    (file,) = folder.glob("feature_network_*")
    with monkeypatch.context() as patch:
        patch.setattr("wmgm_jax.evaluation.learned.training.train", None)
        assert load(source, **options).sha256 == network.sha256
        # As a named file, for any images of the same shape.
        given = load(data.from_array(crops[:2]), str(file))
        assert (given.sha256, given.path) == (network.sha256, file)
        assert load(source, "none") is None
    file.write_bytes(file.read_bytes()[:1000])
    assert load(source, **options).sha256 == network.sha256
    assert "training the feature network again" in caplog.text


def test_foreign_files_are_refused_in_one_line(crops, trained, tmp_path):
    network, _ = trained
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, x=np.zeros(3))
    objects = tmp_path / "objects.npz"
    np.savez(objects, settings=np.array([{}], object))
    larger = data.from_array(np.zeros((4, 32, 32, 3), np.uint8))
    cases = [
        (data.from_array(crops), tmp_path / "absent.npz", "not an existing file"),
        (data.from_array(crops), foreign, "has no feature network"),
        (data.from_array(crops), objects, "has no feature network"),
        (larger, network.path, "is for images .16, 16, 3., and these are .32, 32, 3."),
    ]
    for source, path, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            load(source, str(path))
        assert "\n" not in str(caught.value)


def test_a_file_of_other_arrays_is_refused(trained, tmp_path):
    network, _ = trained
    tree, _ = weights.read(network.path, (16, 16, 3))
    tree["params"]["Conv_0"]["kernel"] = np.zeros((3, 3, 1, 32), np.float32)
    weights.save(
        tmp_path / "x.npz", tree["params"], tree["deviation"], {"image_shape": [16, 16, 3]}
    )
    with pytest.raises(UserError, match="Conv_0/kernel"):
        weights.read(tmp_path / "x.npz", (16, 16, 3))


def test_few_images_are_enough(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 10, 12, 1)).astype(np.uint8)
    network = load(data.from_array(images), cache_dir=str(tmp_path), num_steps=1, augment="flip")
    assert np.isfinite(network.features(images)).all()


# --- the measures --------------------------------------------------------------------------------


def test_distances_grow_with_damage(crops, trained):
    network, _ = trained
    first, second = crops[:120], crops[120:]
    floor = frechet(network, second, first)
    blurs = [
        frechet(network, ndimage.gaussian_filter(second, (0, s, s, 0)), first) for s in (0.5, 1, 2)
    ]
    assert floor < blurs[0] < blurs[1] < blurs[2]
    exchanged = second.copy()
    exchanged[:, :8, :8], exchanged[:, 8:, 8:] = second[:, 8:, 8:], second[:, :8, :8]
    half = np.where((np.arange(120) % 2 == 0)[:, None, None, None], exchanged, second)
    assert floor < frechet(network, half, first) < frechet(network, exchanged, first)


def test_evaluations_name_the_network(crops, trained, tmp_path):
    network, _ = trained
    sets = ImageSets(*(data.from_array(x) for x in np.split(crops, 3)))
    tree = evaluate(sets, 2, None, tmp_path, network)
    assert tree["method"]["feature_network"] == {"sha256": network.sha256}
    assert tree["method"]["weights_sha256"] is None
    value = frechet(network, *np.split(crops, 3)[:2])
    assert tree["measures"]["learned/frechet"]["value"] == pytest.approx(value, rel=1e-3)
    assert {"learned/precision", "learned/recall"} <= tree["measures"].keys()
    assert "learned/kernel" not in tree["measures"]
    without = evaluate(dataclasses.replace(sets, training=None), 2)
    assert without["method"]["feature_network"] is None
