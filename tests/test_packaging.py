"""What an installed package has: the configs, in whatever folder a command runs; pretrained models;
one version."""

import configparser
import importlib
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT

import wmgm_jax
from wmgm_jax.config import packaged


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["colon_ihc", "colon_ihc.py", "configs/colon_ihc.py"])
def test_configs_are_found_from_any_folder(name, empty_folder):
    assert packaged.resolve(name) == str(ROOT / "configs" / "colon_ihc.py")
    assert packaged.resolve(f"{name}:30k") == str(ROOT / "configs" / "colon_ihc.py:30k")


def test_files_of_the_user_come_first(empty_folder):
    (empty_folder / "configs").mkdir()
    (empty_folder / "configs" / "colon_ihc.py").touch()
    assert packaged.resolve("configs/colon_ihc.py") == "configs/colon_ihc.py"
    assert packaged.resolve("colon_ihc") == str(ROOT / "configs" / "colon_ihc.py")


@pytest.mark.parametrize(
    "path", ["nowhere", "configs/nowhere.py", "mine/colon_ihc.py", "/colon_ihc.py", "colon_ihc.txt"]
)
def test_other_paths_stay(path, empty_folder):
    assert packaged.resolve(path) == path


def test_names():
    assert "colon_ihc" in packaged.names()
    assert len(packaged.names()) == len(list((ROOT / "configs").glob("*.py")))


@pytest.mark.parametrize("kind", ["nothing", "folder", "package"])
def test_configs_import_each_other_from_any_folder(kind, empty_folder, monkeypatch):
    """Beside the configs of the user, who has none, a folder, or a package of them."""
    others = [path for path in sys.path if path not in ("", ".", str(ROOT))]
    monkeypatch.setattr(sys, "path", [str(empty_folder), *others])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    if kind != "nothing":
        (empty_folder / "configs").mkdir()
        (empty_folder / "configs" / "cifar10_wsgm.py").touch()
    if kind == "package":
        (empty_folder / "configs" / "__init__.py").touch()

    packaged.make_importable()
    packaged.make_importable()
    before = set(sys.modules)
    try:
        ours = importlib.import_module("configs.cifar10_sgm")
        assert ours.get_config().system == "sgm"
        theirs = importlib.import_module("configs.cifar10_wsgm")
        folder = ROOT if kind == "nothing" else empty_folder
        assert theirs.__file__ == str(folder / "configs" / "cifar10_wsgm.py")
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]


@pytest.fixture
def source(tmp_path):
    """What a distribution is built of, in a folder that can be written to."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("wmgm_jax", "configs"):
        (folder / name).symlink_to(ROOT / name, target_is_directory=True)
    return folder


def pretrained_files():
    paths = (ROOT / "wmgm_jax" / "pretrained_models").glob("*/*")
    return {str(path.relative_to(ROOT)) for path in paths}


def test_the_source_distribution_has_the_pretrained_models(source, tmp_path):
    command = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", command], cwd=source, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert pretrained_files() <= files


def test_the_wheel_has_the_configs_the_command_and_the_version(source, tmp_path):
    """Built without the network, by the setuptools that is installed."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"wmgm_jax-{wmgm_jax.__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        (entry_points,) = (name for name in files if name.endswith("entry_points.txt"))
        commands = configparser.ConfigParser()
        commands.read_string(archive.read(entry_points).decode())
    assert commands["console_scripts"]["wmgm_jax"] == "wmgm_jax.__main__:main"
    configs = {f"wmgm_jax/_configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "wmgm_jax").rglob("*.py")}
    assert "wmgm_jax/pretrained_models/colon_ihc/model.npz" in pretrained_files()
    assert configs | modules | pretrained_files() | {"wmgm_jax/py.typed"} <= files
    top = {name.split("/")[0] for name in files}
    assert top == {"wmgm_jax", f"wmgm_jax-{wmgm_jax.__version__}.dist-info"}
