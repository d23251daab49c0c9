"""Finding, splitting, decoding and caching the files of `wmgm_jax.data.folder`."""

import errno
import os
import re
import struct
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wmgm_jax.core.errors import UserError
from wmgm_jax.data import folder as image_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    return path


@pytest.fixture
def open_folder(folder: Path, tmp_path: Path):
    def open_it(split: str = "train", image_size=(4, 4), channels: int = 1, **settings):
        defaults = {
            "directory": str(folder),
            "validation_fraction": 0.05,
            "cache_dir": str(tmp_path / "cache"),
            "missing_hint": "",
        }
        shape = (*image_size, channels)
        # Copied, since tests may harm the file that the images are mapped from.
        return np.array(image_folder.open_folder(split=split, shape=shape, **defaults | settings))

    return open_it


def numbers(images: np.ndarray) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def grey(value: int, size: tuple[int, int] = (4, 4)) -> Image.Image:
    return Image.new("L", size, value)


def save(image: Image.Image, path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def fill(folder: Path, count: int, first: int = 0) -> None:
    """Writes grey images 0000.png, 0001.png, ..., each of its own number."""
    for i in range(first, first + count):
        save(grey(i % 256), folder / f"{i:04}.png")


def refusal(pattern: str):
    """Expects a UserError of a single line that matches the pattern."""
    return pytest.raises(UserError, match=rf"\A(?!.*\n).*(?:{pattern})")


# ---------------------------------------------------------------------------------- files


def test_images_are_found_at_any_depth_in_the_order_of_their_paths(folder, open_folder):
    paths = ["b/c/1.PNG", "b/2.TiFF", "a.webp", "b/c.bmp", "d.Jpeg", "e.jpg", "f.tif"]
    for value, path in enumerate(sorted(paths), 1):
        options = {"lossless": True} if path.endswith("webp") else {}
        save(grey(value * 16), folder / "train" / path, **options)
    fill(folder / "valid", 1)
    for hidden in (".hidden.png", ".git/x.png", "notes.txt", "png"):
        save(grey(255), folder / "train" / hidden, format="png")
    np.testing.assert_array_equal(open_folder()[:, 0, 0, 0], 16 * np.arange(1, len(paths) + 1))


@pytest.mark.skipif(os.name == "nt", reason="links need privileges")
def test_links_to_folders_are_followed_once(folder, open_folder, tmp_path):
    fill(tmp_path / "elsewhere", 3)
    fill(folder / "valid", 1)
    (folder / "train").mkdir()
    (folder / "train" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(folder / "train")
    assert len(open_folder()) == 3


@pytest.mark.parametrize("name", ["valid", "val", "validation", "test"])
def test_named_folders_are_the_splits(folder, open_folder, name):
    fill(folder / "train", 3)
    fill(folder / name, 2, first=100)
    fill(folder, 1, first=200)
    assert numbers(open_folder("train")) == [0, 1, 2]
    assert numbers(open_folder("valid")) == [100, 101]


def test_the_first_of_the_validation_names_counts(folder, open_folder):
    fill(folder / "train", 2)
    fill(folder / "test", 1, first=10)
    fill(folder / "val", 1, first=20)
    assert numbers(open_folder("valid")) == [20]


def test_a_train_folder_alone_is_split_by_fraction(folder, open_folder):
    fill(folder / "train", 20)
    fill(folder, 1, first=200)
    train, valid = (numbers(open_folder(split)) for split in ("train", "valid"))
    assert sorted(train + valid) == list(range(20)) and train and valid


def test_splitting_by_fraction_is_a_partition_and_adding_files_moves_none(folder, open_folder):
    fill(folder, 100)
    settings = {"validation_fraction": 0.2, "image_size": (1, 1)}
    before = {s: set(numbers(open_folder(s, **settings))) for s in ("train", "valid")}
    assert before["train"].isdisjoint(before["valid"])
    assert before["train"] | before["valid"] == set(range(100))
    assert 8 <= len(before["valid"]) <= 32  # Three standard deviations.
    fill(folder, 40, first=100)
    after = {s: set(numbers(open_folder(s, **settings))) for s in ("train", "valid")}
    assert before["train"] <= after["train"] and before["valid"] <= after["valid"]


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_each_split_has_an_image_if_there_are_two(folder, open_folder, fraction):
    fill(folder, 2)
    train, valid = (
        numbers(open_folder(split, validation_fraction=fraction)) for split in ("train", "valid")
    )
    assert sorted(train + valid) == [0, 1] and len(train) == len(valid) == 1


def test_a_single_image_is_for_training(folder, open_folder):
    fill(folder, 1, first=7)
    assert numbers(open_folder("train")) == [7]
    with refusal("has one image: add another"):
        open_folder("valid")


def test_folders_that_do_not_serve_are_refused(folder, open_folder, tmp_path):
    hint = "Get it from example.org"
    for directory in ("", str(tmp_path / "nowhere")):
        with refusal(rf"data.dir '{directory}' does not exist.*{hint}"):
            open_folder(directory=directory, missing_hint=hint)
    path = save(grey(0), tmp_path / "file.png")
    with refusal(f"'{path}' is not a folder.*{hint}"):
        open_folder(directory=str(path), missing_hint=hint)
    with refusal(rf"'{folder}' has no images: .*\.png.*{hint}"):
        open_folder(missing_hint=hint)
    fill(folder / "train", 2)
    (folder / "valid").mkdir()
    with refusal(rf"'{folder / 'valid'}' has no images"):
        open_folder("valid")


# ------------------------------------------------------------------------------- decoding


def decode(image: Image.Image, suffix: str, shape, **options) -> np.ndarray:
    file = BytesIO()
    image.save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    return image_folder.decode_image(file, shape)


def paletted(transparent: bool) -> tuple[Image.Image, dict]:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 200, 100, 50])
    return image, {"transparency": 1} if transparent else {}


COLOUR = (200, 100, 50)
HALF = tuple(round((c * 128 + 255 * 127) / 255) for c in COLOUR)
MODES = {
    "jpeg": (Image.new("RGB", (4, 4), COLOUR), "jpg", {"quality": 100}, COLOUR),
    "jpeg grey": (Image.new("L", (4, 4), 77), "jpg", {}, (77,) * 3),
    "jpeg cmyk": (Image.new("CMYK", (4, 4), (55, 155, 205, 0)), "jpg", {"quality": 100}, COLOUR),
    "webp": (Image.new("RGB", (4, 4), COLOUR), "webp", {"lossless": True}, COLOUR),
    "webp alpha": (Image.new("RGBA", (4, 4), (*COLOUR, 128)), "webp", {"lossless": True}, HALF),
    "bmp": (Image.new("RGB", (4, 4), COLOUR), "bmp", {}, COLOUR),
    "tiff": (Image.new("RGB", (4, 4), COLOUR), "tif", {"compression": "tiff_lzw"}, COLOUR),
    "tiff cmyk": (Image.new("CMYK", (4, 4), (55, 155, 205, 0)), "tif", {}, COLOUR),
    "png": (Image.new("RGB", (4, 4), COLOUR), "png", {}, COLOUR),
    "png bilevel": (Image.new("1", (4, 4), 1), "png", {}, (255,) * 3),
    "png palette": (paletted(False)[0], "png", {}, COLOUR),
    "png palette, transparent": (*paletted(True)[:1], "png", paletted(True)[1], (255,) * 3),
    "png rgba": (Image.new("RGBA", (4, 4), (*COLOUR, 128)), "png", {}, HALF),
    "png transparent": (Image.new("RGBA", (4, 4), (*COLOUR, 0)), "png", {}, (255,) * 3),
    "png colour key": (
        Image.new("RGB", (4, 4), COLOUR), "png", {"transparency": COLOUR}, (255,) * 3
    ),
    "png grey alpha": (Image.new("LA", (4, 4), (51, 0)), "png", {}, (255,) * 3),
    "png 16 bits": (Image.fromarray(np.full((4, 4), 77 * 257, "<u2")), "png", {}, (77,) * 3),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MODES)
def test_every_format_and_mode_decodes_to_its_colour(name, channels):
    image, suffix, options, colour = MODES[name]
    decoded = decode(image, suffix, (4, 4, channels), **options)
    luma = (round(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]),)
    assert decoded.shape == (4, 4, channels) and decoded.dtype == np.uint8
    expected = np.broadcast_to(colour if channels == 3 else luma, decoded.shape)
    np.testing.assert_allclose(decoded.astype(int), expected, atol=1)


RAMP = np.arange(65536).reshape(256, 256)


@pytest.mark.parametrize(
    "pixels, suffix",
    [
        (RAMP.astype("<u2"), "png"),
        (RAMP.astype("<u2"), "tif"),
        (RAMP.astype("<i4"), "tif"),
        ((RAMP / 65535).astype("<f4"), "tif"),
    ],
    ids=["png I;16", "tiff I;16", "tiff I", "tiff F"],
)
def test_deep_grey_is_scaled_to_eight_bits(pixels, suffix):
    decoded = decode(Image.fromarray(pixels), suffix, (256, 256, 1))
    np.testing.assert_array_equal(decoded[..., 0], np.rint(RAMP / 257))


@pytest.mark.parametrize(
    "pixels",
    [np.full((4, 4), 70000, "<i4"), np.full((4, 4), -1, "<i4"), np.full((4, 4), 255, "<f4"),
     np.full((4, 4), np.nan, "<f4")],
    ids=["over 16 bits", "negative", "float over 1", "nan"],
)  # fmt: skip
def test_grey_of_unknown_scale_is_refused(pixels):
    with pytest.raises(ValueError, match=r"mode [IF] pixels in \[.*\], not \[0, (1|65535)\]"):
        decode(Image.fromarray(pixels), "tif", (4, 4, 1))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(suffix, orientation):
    upright = np.zeros((32, 48), np.uint8)
    upright[:16, :16] = 255
    upright[:16, 16:32] = 128
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"quality": 95} if suffix in ("jpg", "webp") else {})
    decoded = decode(Image.fromarray(stored).convert("RGB"), suffix, (32, 48, 1), **options)
    np.testing.assert_allclose(decoded[..., 0].astype(int), upright, atol=12)


def test_the_crop_is_the_centre():
    image = np.random.default_rng(0).integers(256, size=(6, 20, 3), dtype=np.uint8)
    wide, tall = Image.fromarray(image), Image.fromarray(image.transpose(1, 0, 2))
    np.testing.assert_array_equal(decode(wide, "png", (6, 6, 3)), image[:, 7:13])
    np.testing.assert_array_equal(decode(wide, "png", (6, 12, 3)), image[:, 4:16])
    np.testing.assert_array_equal(
        decode(tall, "png", (6, 6, 3)), image.transpose(1, 0, 2)[7:13]
    )  # fmt: skip


def test_shrinking_is_antialiased_and_close_to_plain_lanczos():
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    np.testing.assert_allclose(
        decode(Image.fromarray(board), "png", (16, 16, 1)).astype(int), 127.5, atol=2
    )
    from skimage.data import immunohistochemistry

    image = Image.fromarray(immunohistochemistry())
    expected = np.asarray(image.resize((40, 40), Image.Resampling.LANCZOS), int)
    for suffix in ("png", "jpg"):
        decoded = decode(image, suffix, (40, 40, 3), **{"quality": 95} if suffix == "jpg" else {})
        assert np.abs(decoded - expected).mean() < 1.5


def test_a_large_jpeg_is_decoded_at_reduced_size(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        image_folder,
        "_to_eight_bits",
        lambda image, mode: sizes.append(image.size) or image.convert(mode),
    )
    decode(Image.new("RGB", (1600, 800)), "jpg", (64, 64, 3))
    decode(Image.new("RGB", (200, 100)), "jpg", (64, 64, 3))
    assert sizes == [(400, 200), (200, 100)]


def test_a_very_long_image_is_just_converted():
    image = np.zeros((40, 40000), np.uint8)
    image[:, 19980:20020] = 99
    decoded = decode(Image.fromarray(image), "png", (40, 40, 1))
    np.testing.assert_array_equal(decoded, np.full((40, 40, 1), 99))
    assert decode(Image.fromarray(image).resize((1, 4000)), "png", (8, 8, 3)).shape == (8, 8, 3)


# ------------------------------------------------------------------------------ bad files


def png_of(width: int, height: int) -> bytes:
    """A well-formed PNG file that claims a size and holds no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")]
    )


def encoded(suffix: str) -> bytes:
    file = BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8))
    image.save(file, suffix)
    return file.getvalue()


def damage(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


BAD = {
    "empty.jpg": (b"", "empty, or not a"),
    "text.png": (b"<html>not found</html>", "empty, or not a"),
    "vector.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "empty, or not a"),
    "bomb.png": (png_of(40000, 40000), "1600000000 pixels"),
    "pixelless.png": (png_of(8, 8), "truncated"),
    "half.jpg": (encoded("JPEG")[:2000], "truncated"),
    "half.png": (encoded("PNG")[:2000], "[Tt]runcated"),
    "half.bmp": (encoded("BMP")[:2000], "truncated"),
    "half.webp": (encoded("WEBP")[:1000], "OSError"),
    "half.tif": (encoded("TIFF")[:2000], "empty, or not a|truncated"),
    "damaged.png": (damage(encoded("PNG")), "checksum"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_skipped_and_named_with_the_reason(folder, open_folder, caplog, name):
    content, reason = BAD[name]
    fill(folder / "train", 20)
    fill(folder / "valid", 1)
    (folder / "train" / name).write_bytes(content)
    for _ in range(2):  # The second time from the cache.
        caplog.clear()
        assert numbers(open_folder()) == list(range(20))
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == 2
        assert re.search(rf"skipped '{name}': .*({reason})", messages[0])
        assert "skipped 1 of the 21 images" in messages[1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_dangling_links_and_pipes_are_skipped(folder, open_folder, caplog):
    fill(folder / "train", 40)
    fill(folder / "valid", 1)
    (folder / "train" / "link.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "train" / "pipe.png")
    assert len(open_folder()) == 40
    assert caplog.text.count("missing, or not a regular file") == 2


def test_five_percent_may_be_skipped_and_no_more(folder, open_folder, tmp_path):
    fill(folder / "valid", 1)
    fill(folder / "train", 19)
    (folder / "train" / "bad.png").write_bytes(b"")
    assert len(open_folder()) == 19
    (folder / "train" / "0000.png").unlink()
    with refusal(r"1 of 19 images cannot be read, over 5%: .*'bad.png' \(empty"):
        open_folder()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]


def test_a_folder_of_bad_images_is_refused(folder, open_folder):
    (folder / "bad.png").write_bytes(b"")
    with refusal("1 of 1 images cannot be read"):
        open_folder()


def test_ten_skipped_files_are_named(folder, open_folder, caplog):
    fill(folder / "valid", 1)
    fill(folder / "train", 228)
    for i in range(12):
        (folder / "train" / f"bad{i:02}.png").write_bytes(b"")
    open_folder(image_size=(1, 1))
    assert caplog.text.count("skipped 'bad") == 10
    assert "skipped 12 of the 240 images" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
def test_odd_file_names_stay_on_one_line(folder, open_folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\n.png")).write_bytes(b"")
    with refusal(r"'\\udcff\\n.png'"):
        open_folder()


# ---------------------------------------------------------------------------------- cache


@pytest.fixture
def no_decoding(monkeypatch):
    def forbid():
        def fail(*_):
            raise AssertionError("decoded")

        monkeypatch.setattr(image_folder, "_write_cache", fail)
        monkeypatch.setattr(image_folder, "decode_image", fail)

    return forbid


def test_a_second_run_decodes_nothing(folder, open_folder, no_decoding):
    fill(folder, 10)
    expected = open_folder()
    no_decoding()
    np.testing.assert_array_equal(open_folder(), expected)
    with pytest.raises(AssertionError, match="decoded"):
        open_folder("valid")


@pytest.mark.parametrize(
    "change", [{"image_size": (4, 2)}, {"channels": 3}, {"split": "valid"}], ids=str
)
def test_other_settings_have_other_caches(folder, open_folder, no_decoding, caplog, change):
    fill(folder, 10)
    open_folder()
    assert open_folder(**change).shape[1:] != open_folder().shape[1:] or "split" in change
    no_decoding()
    open_folder(), open_folder(**change)
    assert not caplog.text


def test_the_cache_is_found_by_any_path_to_the_folder(folder, open_folder, no_decoding, tmp_path):
    fill(folder, 10)
    open_folder()
    no_decoding()
    open_folder(directory=str(folder / ".." / folder.name))
    if os.name == "posix":
        (tmp_path / "link").symlink_to(folder)
        open_folder(directory=str(tmp_path / "link"))


def test_changed_and_renamed_files_are_decoded_again(folder, open_folder):
    fill(folder / "valid", 1)
    fill(folder / "train", 3)
    assert numbers(open_folder()) == [0, 1, 2]
    path = folder / "train" / "0001.png"
    before = path.stat()
    path.write_bytes(save(grey(9), folder / "other.png").read_bytes())
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert numbers(open_folder()) == [0, 9, 2]
    path.rename(path.with_name("9999.png"))
    assert numbers(open_folder()) == [0, 2, 9]


def test_twin_folders_have_their_own_caches(folder, open_folder, tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        save(grey(value), folder / name / "x.png")
        os.utime(folder / name / "x.png", ns=(0, 0))
    assert len({(folder / name / "x.png").stat().st_size for name in "ab"}) == 1
    assert numbers(open_folder(directory=str(folder / "a"))) == [1]
    assert numbers(open_folder(directory=str(folder / "b"))) == [2]


def overwrite(path: Path, position: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(position, os.SEEK_SET if position >= 0 else os.SEEK_END)
        file.write(content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, 100),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: overwrite(path, 0, b"garbage!"),
        lambda path: overwrite(path, 200, b"\xff"),
        lambda path: overwrite(path, -3, b"???"),
        lambda path: path.write_bytes(b"PK\x03\x04 not a zip file"),
        lambda path: path.write_bytes(path.read_bytes().replace(b"4, 4, 1)", b"1, 4, 4)", 1)),
        lambda path: np.save(path, np.zeros((9, 4, 4, 1), np.uint8)),
        lambda path: np.save(path, np.array([{}]), allow_pickle=True),
    ],
    ids=[
        "empty",
        "header cut",
        "half",
        "last byte",
        "magic",
        "pixel",
        "record",
        "zip",
        "shape",
        "array",
        "pickle",
    ],
)
def test_a_damaged_cache_is_made_again(folder, open_folder, tmp_path, caplog, no_decoding, harm):
    fill(folder, 10)
    expected = open_folder()
    (path,) = (tmp_path / "cache").iterdir()
    harm(path)
    np.testing.assert_array_equal(open_folder(), expected)
    assert f"cache '{path}' is damaged" in caplog.text
    no_decoding()
    np.testing.assert_array_equal(open_folder(), expected)


def test_a_full_disk_leaves_nothing_behind(folder, open_folder, tmp_path, monkeypatch):
    fill(folder, 10)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with refusal(rf"'{tmp_path / 'cache'}' .*No space left on device.*--config.data.cache_dir"):
        open_folder()
    assert not list((tmp_path / "cache").iterdir())


def test_an_interrupted_run_leaves_nothing_behind(folder, open_folder, tmp_path, monkeypatch):
    fill(folder, 10)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_folder()
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_folder_that_cannot_be_is_refused(folder, open_folder, tmp_path):
    fill(folder, 10)
    path = save(grey(0), tmp_path / "file.png")
    with refusal("--config.data.cache_dir"):
        open_folder(cache_dir=str(path / "cache"))


def test_runs_may_fill_the_cache_at_once(folder, open_folder, tmp_path):
    fill(folder, 50)
    start = threading.Barrier(4)

    def run(_):
        start.wait()
        return open_folder()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(4)))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_cache_is_the_users_by_default(folder, open_folder, tmp_path, monkeypatch):
    fill(folder, 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_folder(cache_dir="")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    open_folder(cache_dir="")
    for parent in ("xdg", "home/.cache"):
        assert len(list((tmp_path / parent / "wmgm_jax").glob("*.npy"))) == 1


def test_nothing_is_printed_away_from_a_terminal(folder, open_folder, capfd, monkeypatch):
    monkeypatch.setattr(
        image_folder, "decode_image", lambda *_: time.sleep(0.1) or np.zeros((4, 4, 1), "u1")
    )
    fill(folder, 15 * image_folder.WORKERS)
    open_folder()
    assert capfd.readouterr() == ("", "")
