"""Files appear whole or not at all; checkpoints survive or are noticed."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError
from wmgm_jax.core.pictures import enlarge, image_grid, to_uint8, write_png
from wmgm_jax.runs.checkpoints import Checkpoints
from wmgm_jax.runs.metrics_file import MetricsFile


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def write_half():
        with files.atomic_writer(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_in_one_line(tmp_path, monkeypatch):
    def full(descriptor):
        with open("/dev/full", "wb", buffering=0) as disk:
            disk.write(b"x")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.png.*No space left.*free some space"):
        write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    write_png(tmp_path / "a.png", image)
    back = np.asarray(Image.open(tmp_path / "a.png")).reshape(image.shape)
    np.testing.assert_array_equal(back, image)


def test_grid_places_each_image():
    images = np.arange(1, 8, dtype=np.uint8)[:, None, None, None] * np.ones((7, 4, 6, 3), np.uint8)
    grid = image_grid(images, margin=1)
    assert grid.shape == (4 * 5 + 1, 2 * 7 + 1, 3)
    assert [int(grid[1 + 5 * (i // 2), 1 + 7 * (i % 2), 0]) for i in range(8)] == [
        1, 2, 3, 4, 5, 6, 7, 255,
    ]  # fmt: skip
    assert (grid[0] == 255).all()


def test_enlarge_repeats_pixels():
    images = np.arange(12, dtype=np.uint8).reshape(1, 2, 6, 1)
    large = enlarge(images, side=20)
    assert large.shape == (1, 6, 18, 1)
    np.testing.assert_array_equal(large[:, ::3, ::3], images)
    assert enlarge(large, side=20).shape == large.shape


def test_to_uint8_rounds_and_clips():
    values = to_uint8(np.array([-1, 0, 0.4999 / 255, 0.5001 / 255, 1, 2]))
    assert values.tolist() == [0, 0, 0, 1, 255, 255]


# --- checkpoints ---------------------------------------------------------------------------------


def test_a_full_disk_under_a_checkpoint_is_told_in_one_line(tmp_path, monkeypatch):
    """As Orbax tells it: an error of no special kind, with the system's words somewhere in it."""
    checkpoints = Checkpoints(tmp_path / "score")

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: OCDBT: No space left on device [os_error_code='28']")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
    with pytest.raises(UserError, match=r"cannot write .*score: No space left.*free some space"):
        checkpoints.save(3, {"x": np.ones(3)})


MODEL = {"a": np.arange(2000, dtype=np.float32), "empty": {}, "scale_2": {"b": np.ones(3)}}
TRAINING = {"step": np.array(3, np.int32), "m": np.linspace(0, 1, 3000).astype(np.float32)}


def like(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 1 to 3, of which two are kept."""
    checkpoints = Checkpoints(tmp_path / "stage", keep=2)
    for step in (1, 2, 3):
        model = MODEL | {"a": MODEL["a"] + step}
        checkpoints.save(step, model, TRAINING | {"step": np.array(step, np.int32)})
    checkpoints.wait()
    checkpoints.close()
    return tmp_path / "stage"


def restore(directory):
    checkpoints = Checkpoints(directory)
    restored = checkpoints.restore(like(TRAINING))
    checkpoints.close()
    return restored


def test_checkpoints_come_back(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["2", "3"]
    step, model, training = restore(saved)
    assert step == 3
    assert jax.tree.structure(model) == jax.tree.structure(MODEL)
    np.testing.assert_array_equal(model["a"], MODEL["a"] + 3)
    np.testing.assert_array_equal(training["m"], TRAINING["m"])
    checkpoints = Checkpoints(saved)
    assert checkpoints.restore()[2] is None
    checkpoints.close()


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped"])
def test_whatever_file_is_damaged_the_values_are_right(saved, damage):
    """Either the damage does no harm, or the checkpoint before is used."""
    fell_back = 0
    for path in sorted(path for path in (saved / "3").rglob("*") if path.is_file()):
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) if content else b""
        flipped += content[middle + 1 :]
        path.write_bytes(
            {"truncated": content[:middle], "emptied": b"", "flipped": flipped}[damage]
        )
        step, model, training = restore(saved)
        np.testing.assert_array_equal(model["a"], MODEL["a"] + step)
        assert training["step"] == step
        fell_back += step == 2
        path.write_bytes(content)
    assert fell_back >= 4
    assert restore(saved)[0] == 3


@pytest.mark.parametrize("damage", [lambda file: os.truncate(file, 1000), os.remove])
def test_a_file_that_is_cut_short_or_missing_takes_one_line(damage, tmp_path, caplog, capfd):
    """Of many arrays, which are read at once."""
    noise = np.random.default_rng(0).standard_normal((200, 5000))
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, {str(i): row + step for i, row in enumerate(noise)})
    checkpoints.wait()
    damage(max((tmp_path / "2" / "model").rglob("*"), key=lambda file: file.stat().st_size))
    with caplog.at_level("WARNING", "wmgm_jax"):
        assert checkpoints.restore()[0] == 1
    checkpoints.close()
    (message,) = caplog.messages
    assert message.endswith("2 is damaged and passed over: files of model are damaged or missing")
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_whole_is_an_error_and_nothing_at_all_is_none(saved, tmp_path):
    for path in saved.rglob("_METADATA"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="all 2 checkpoints are damaged"):
        restore(saved)
    assert restore(tmp_path / "new") is None


def test_a_damaged_checkpoint_is_written_over(saved):
    for path in (saved / "3").rglob("_METADATA"):
        path.write_bytes(b"")
    checkpoints = Checkpoints(saved, keep=2)
    assert checkpoints.restore(like(TRAINING))[0] == 2
    checkpoints.save(3, MODEL | {"a": MODEL["a"] + 3}, TRAINING)
    checkpoints.wait()
    checkpoints.close()
    assert restore(saved)[0] == 3


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_go_on_from_the_checkpoint(tmp_path):
    """Of this stage what lies beyond it goes, as does a torn line; of others all stays."""
    path = tmp_path / "metrics.jsonl"
    lines = [{"stage": "msal", "step": 9, "x": 1}] + [
        {"stage": "score", "step": step, "x": step} for step in (1, 2, 3)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"stage": "sco')
    metrics = MetricsFile(path, "score", first_step=2)
    metrics.write(3, {"x": 30.0})
    metrics.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records == [*lines[:3], {"stage": "score", "step": 3, "x": 30.0}]
