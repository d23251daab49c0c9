"""Sets of images from files, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from wmgm_jax.core.errors import UserError
from wmgm_jax.data.image_sets import open_set


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), np.uint8)


def contents(source):
    return source.take(np.arange(len(source)))


def test_a_folder_gives_all_its_images_at_the_size_of_the_first(images, tmp_path):
    """Whatever the names of its subfolders, which mean nothing here."""
    for i, image in enumerate(images):
        folder = tmp_path / "images" / ("train" if i % 2 else "valid")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    source = open_set(str(tmp_path / "images"), "--generated", cache_dir=str(tmp_path / "cache"))
    np.testing.assert_array_equal(contents(source), images[[1, 3, 0, 2, 4]])
    resized = open_set(
        str(tmp_path / "images"), "--reference", (4, 4, 1), cache_dir=str(tmp_path / "cache")
    )
    assert contents(resized).shape == (5, 4, 4, 1)


def test_grey_and_turned_images_have_the_shape_that_is_seen(tmp_path):
    image = Image.fromarray(np.zeros((8, 12), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # To be turned by a quarter.
    image.save(tmp_path / "a.jpg", exif=exif)
    source = open_set(str(tmp_path), "--generated", cache_dir=str(tmp_path / "cache"))
    assert source.image_shape == (12, 8, 1)


def test_one_grey_image_does_not_take_the_colour_of_the_others(images, tmp_path, caplog):
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "a.png")
    Image.fromarray(images[1]).save(tmp_path / "b.png")
    source = open_set(str(tmp_path), "--generated", cache_dir=str(tmp_path / "cache"))
    np.testing.assert_array_equal(contents(source)[1], images[1])
    np.testing.assert_array_equal(contents(source)[0], images[0, ..., :1].repeat(3, axis=-1))
    assert "images differ; all are converted to 8x12 in colour" in caplog.text


def test_arrays(images, tmp_path):
    np.savez(tmp_path / "named.npz", images=images, labels=np.arange(5))
    np.savez_compressed(tmp_path / "single.npz", images[..., 0])
    np.save(tmp_path / "plain.npy", images)
    for name, expected in (
        ("named.npz", images),
        ("single.npz", images[..., :1]),
        ("plain.npy", images),
    ):
        source = open_set(str(tmp_path / name), "--generated")
        np.testing.assert_array_equal(contents(source), expected)


@pytest.mark.parametrize(
    ("name", "arrays", "pattern"),
    [
        ("a.npz", {"x": np.zeros(3), "y": np.zeros(3)}, "x, y.*'images'"),
        ("a.npz", {"images": np.zeros((2, 4, 4, 3))}, "float64.*uint8"),
        ("a.npz", {"images": np.zeros((2, 4, 4, 4), np.uint8)}, r"\[2, 4, 4, 4\].*C 1 or 3"),
        ("a.npz", {"images": np.zeros((0, 4, 4, 3), np.uint8)}, "no image"),
        ("a.npz", {"images": np.array([{}])}, "pickle"),
        ("a.npz", {"images": np.zeros((2, 4, 6, 3), np.uint8)}, r"\[4, 6, 3\].*\[4, 4, 3\]"),
    ],
)
def test_other_arrays_are_refused(name, arrays, pattern, tmp_path):
    np.savez(tmp_path / name, **arrays)
    with pytest.raises(UserError, match=f"--generated=.*{name}.*{pattern}"):
        open_set(str(tmp_path / name), "--generated", (4, 4, 3))


def test_what_is_no_set_of_images(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04torn")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"torn")
    for name in ("empty", "torn.npz", "notes.txt", "nowhere", "nowhere.npz", "broken"):
        with pytest.raises(UserError, match=name):
            open_set(str(tmp_path / name), "--generated")
