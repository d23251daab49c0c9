"""The Inception network against pytorch-fid's, and what its loader refuses."""

import hashlib
import io
import re
import sys
import types
import urllib.error
import urllib.request

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.transform

from wmgm_jax.core.errors import UserError
from wmgm_jax.evaluation.inception import weights
from wmgm_jax.evaluation.inception.network import InceptionV3, average_pool, resize, to_rgb

SIZES = [(32, 32), (64, 48), (299, 299), (400, 400)]


def state_shapes():
    """The shapes of pytorch-fid's state dictionary, without its head."""
    shapes = {}
    for name, shape in weights.parameter_shapes().items():
        layer, _, kind = name.replace("/", ".").rpartition(".")
        if kind == "kernel":
            shapes[f"{layer}.conv.weight"] = (shape[3], shape[2], *shape[:2])
        else:
            names = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{layer}.bn.{n}": shape for n in names}
    return shapes


def random_state():
    """Weights that keep the activations near unit scale, with statistics that all matter."""
    random = np.random.default_rng(0)

    def draw(name, shape):
        values = random.standard_normal(shape, np.float32)
        if name.endswith("conv.weight"):
            return values * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        if name.endswith(("bn.weight", "running_var")):
            return (1 + 0.2 * np.tanh(values)).astype(np.float32)
        return np.float32(0.2) * values

    return {name: draw(name, shape) for name, shape in sorted(state_shapes().items())}


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture(scope="module")
def params(state):
    return weights.convert(state)


def images_of(size, channels, count=2):
    """Images in [0, 1] with structure at every scale."""
    random = np.random.default_rng([*size, channels])
    coarse = random.uniform(size=(count, 5, 4, channels))
    smooth = np.stack([skimage.transform.resize(x, size, order=3) for x in coarse])
    noise = random.uniform(-0.2, 0.2, smooth.shape)
    return np.clip(smooth + noise, 0, 1).astype(np.float32)


def features(params, images):
    """Not compiled as a whole, so that images of another size compile nothing but their resize."""
    return np.asarray(InceptionV3().apply({"params": params}, 2 * to_rgb(jnp.asarray(images)) - 1))


# --- parity with pytorch-fid ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def pytorch_fid(state):
    """`images [B, H, W, 3] in [0, 1] -> [B, 2048]` of pytorch-fid's own network."""
    torch = pytest.importorskip("torch")
    operators = declared_operators(torch)
    inception = pytest.importorskip("pytorch_fid.inception")
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    tensors |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: tensors)
        network = inception.InceptionV3().eval()

    def features(images):
        with torch.no_grad():
            (pooled,) = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        return pooled[..., 0, 0].numpy()

    yield features
    del operators


def declared_operators(torch):
    """What importing a torchvision that was built for another PyTorch takes: a declaration of its
    compiled operators. pytorch-fid uses none of them, only layers that are written in Python."""
    try:
        pytest.importorskip("torchvision")
        return None
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor x) -> Tensor")
    return library


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_features_are_pytorch_fids(pytorch_fid, params, size, channels):
    images = images_of(size, channels)
    theirs = pytorch_fid(images.repeat(3 // channels, axis=-1))
    ours = features(params, images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.mean())
    # The two images differ by far more than the two networks.
    assert np.abs(theirs[0] - theirs[1]).mean() > 0.01 * theirs.mean()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resize_is_pytorchs(size):
    torch = pytest.importorskip("torch")
    images = images_of(size, 3)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(images.transpose(0, 3, 1, 2).copy()),
        size=(299, 299), mode="bilinear", align_corners=False,
    )  # fmt: skip
    ours = np.asarray(resize(jnp.asarray(images))).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5)


def test_a_file_of_pytorchs_is_converted(state, params, tmp_path):
    """In the format of 2019, from when the public file is, with the head and with gradients."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pth"
    tensors = {n: torch.nn.Parameter(torch.from_numpy(x)) for n, x in state.items()}
    tensors |= {"fc.bias": torch.zeros(1008)}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    loaded, digest = weights.load(str(path))
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="has no weights of pytorch-fid"):
        weights.load(str(path))


def test_features_are_those_that_pytorch_fid_gave(params):
    """pytorch-fid 0.3.0 (PyTorch 2.13, torchvision 0.28) with the same weights and image."""
    image = np.random.default_rng(1).uniform(size=(1, 8, 9, 3)).astype(np.float32)
    (pooled,) = features(params, image)
    given = [1.499536, 1.350234, 0.7134067, 0.7229696, 1.16775, 1.923828, 0.752325, 0.8569433]
    np.testing.assert_allclose(pooled[18::256], given, rtol=2e-5)
    assert pooled.mean() == pytest.approx(0.6273445, rel=2e-5)


# --- the parts -----------------------------------------------------------------------------------


def test_parameter_count():
    """Keras counts 21,768,352 without the head, of which a bias a channel in place of batch norm;
    PyTorch's batch norm has a scale as well: 21,785,568."""
    shapes = weights.parameter_shapes()
    count = sum(int(np.prod(shape)) for shape in shapes.values())
    channels = sum(shape[0] for shape in shapes.values() if len(shape) == 1)
    assert (count, count + channels) == (21_768_352, 21_785_568)


def test_shapes_of_features():
    images = jax.ShapeDtypeStruct((2, 50, 70, 3), jnp.float32)
    result, _ = jax.eval_shape(InceptionV3().init_with_output, jax.random.key(0), images)
    assert (result.shape, result.dtype) == ((2, 2048), jnp.float32)


def resized_line(line):
    """Values of a line at 299 places, pixel by pixel, in float64."""
    length, result = len(line), []
    for i in range(299):
        place = max((i + 0.5) * length / 299 - 0.5, 0.0)
        left = int(place)
        right = min(left + 1, length - 1)
        result.append(line[left] + (place - left) * (line[right] - line[left]))
    return np.array(result)


@pytest.mark.parametrize("size", [(1, 2), (32, 48), (299, 299), (298, 300), (400, 700)], ids=str)
def test_resize(size):
    images = images_of(size, 2)
    result = resize(jnp.asarray(images))
    assert result.shape == (2, 299, 299, 2)
    lines = np.apply_along_axis(resized_line, 1, images.astype(np.float64))
    expected = np.apply_along_axis(resized_line, 2, lines)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    if min(size) > 1:  # scikit-image takes another path for a line of one pixel
        theirs = [
            skimage.transform.resize(
                x.astype(np.float64), (299, 299), order=1, mode="edge", anti_aliasing=False
            )
            for x in images
        ]
        np.testing.assert_allclose(result, theirs, atol=1e-6)


def test_average_pool_counts_what_is_inside():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    expected = np.zeros_like(x)
    for i, j in np.ndindex(5, 4):
        window = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
        expected[:, i, j] = window.mean((1, 2), dtype=np.float64)
    np.testing.assert_allclose(average_pool(jnp.asarray(x)), expected, atol=1e-6)


def test_grey_is_repeated():
    grey = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4, 1)
    np.testing.assert_array_equal(to_rgb(jnp.asarray(grey)), grey.repeat(3, axis=-1))
    colour = np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(to_rgb(jnp.asarray(colour)), colour)


def test_batch_norm_is_folded(state, params):
    """convolution, then batch norm, of one layer in float64 against kernel and bias."""
    prefix, x = "Mixed_6b.branch_pool", np.random.default_rng(0).normal(size=768)
    weight, scale, bias, mean, variance = (
        state[f"{prefix}.{name}"].astype(np.float64)
        for name in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    )
    expected = (weight[:, :, 0, 0] @ x - mean) / np.sqrt(variance + 0.001) * scale + bias
    layer = params["Mixed_6b"]["branch_pool"]
    result = x @ np.asarray(layer["kernel"])[0, 0] + np.asarray(layer["bias"])
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


# --- the loader ----------------------------------------------------------------------------------

SMALL = {"a/kernel": (3, 1, 2, 4), "a/bias": (4,), "b/c/kernel": (1, 1, 4, 2), "b/c/bias": (2,)}


@pytest.fixture
def small(monkeypatch):
    """A network of two layers; returns its state dictionary, without PyTorch's type."""
    monkeypatch.setattr(weights, "parameter_shapes", lambda: SMALL)
    random = np.random.default_rng(0)
    return {n: random.uniform(0.5, 1, s).astype(np.float32) for n, s in state_shapes().items()}


@pytest.fixture
def fake_torch(monkeypatch, small):
    """In the place of PyTorch: whatever the file, it holds the weights of the small network."""

    class Tensor:
        def __init__(self, array):
            self.numpy = lambda: array

        def detach(self):
            return self

    def load(path, map_location, weights_only):
        assert weights_only
        return {name: Tensor(array) for name, array in small.items()}

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))


@pytest.fixture
def public(monkeypatch):
    """The network answers with `content`, which is taken for the public weights."""
    content = b"public weights"

    def urlopen(url, timeout):
        assert url == weights.URL and timeout > 0
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(content).hexdigest())
    return content


@pytest.fixture
def offline(monkeypatch):
    def urlopen(url, timeout):
        raise urllib.error.URLError("no network\nhere")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


def refused(path, *, cache_dir="", match):
    """Loading is a mistake of the user's, told in one line."""
    with pytest.raises(UserError, match=match) as caught:
        weights.load(str(path), str(cache_dir))
    assert "\n" not in str(caught.value)


def test_converted_weights_are_the_same_and_keep_their_digest(small, fake_torch, tmp_path):
    source, target = tmp_path / "weights.pth", tmp_path / "weights.npz"
    source.write_bytes(b"weights")
    converted, digest = weights.load(str(source))
    assert digest == hashlib.sha256(b"weights").hexdigest()
    weights.save(target, converted, digest)
    loaded, same_digest = weights.load(str(target))
    jax.tree.map(np.testing.assert_array_equal, loaded, converted)
    assert same_digest == digest
    kernel = np.moveaxis(small["b.c.conv.weight"], 0, -1)[..., 0, 0, :]
    scale = small["b.c.bn.weight"] / np.sqrt(small["b.c.bn.running_var"] + 1e-3)
    np.testing.assert_allclose(loaded["b"]["c"]["kernel"][0, 0], kernel * scale, rtol=1e-6)


def test_an_npz_without_a_digest_has_its_own(small, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{name: np.zeros(shape, np.float32) for name, shape in SMALL.items()})
    _, digest = weights.load(str(path))
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


ARRAYS = {name: np.zeros(shape, np.float32) for name, shape in SMALL.items()}
MISSING = {name: array for name, array in ARRAYS.items() if name != "b/c/bias"}


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        (MISSING, "no 'b/c/bias'"),
        (ARRAYS | {"d/bias": np.zeros(2, np.float32)}, "unknown 'd/bias'"),
        (ARRAYS | {"a/bias": np.zeros(5, np.float32)}, r"\(5,\) rather than float32 \(4,\)"),
        (ARRAYS | {"a/bias": np.zeros(4)}, "float64"),
        (ARRAYS | {"a/bias": np.array([None] * 4)}, "never unpickled"),
    ],
    ids=["missing", "foreign", "shape", "type", "pickled"],
)
def test_wrong_npz(small, tmp_path, arrays, match):
    path = tmp_path / "weights.npz"
    np.savez(path, **arrays)
    refused(path, match=f"{re.escape(str(path))}.*{match}.*SOURCE.pth TARGET.npz")


def test_damaged_npz(small, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **ARRAYS)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>not found</html>"):
        path.write_bytes(content)
        refused(path, match="has no weights")
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    refused(path, match="has no weights")


@pytest.mark.parametrize("name", ["absent.npz", "absent.pth", "weights.txt"])
def test_no_such_file(tmp_path, name):
    (tmp_path / "weights.txt").touch()
    refused(tmp_path / name, match=rf"{name}.*https://github\.com/mseitzer")


def test_a_pth_takes_pytorch(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "weights.pth").touch()
    refused(tmp_path / "weights.pth", match="pip install torch")


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_pth_of_another_network(small, fake_torch, tmp_path, change):
    (tmp_path / "weights.pth").touch()
    weight = small.pop("a.bn.running_var")
    if change == "shape":
        small["a.bn.running_var"] = weight[:-1]
    refused(tmp_path / "weights.pth", match="weights.pth.*no weights of pytorch-fid.*https://")


def test_public_weights_are_downloaded_and_converted_once(
    small, fake_torch, public, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, digest = weights.load("")
    assert digest == hashlib.sha256(public).hexdigest()
    monkeypatch.setattr(urllib.request, "urlopen", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    second, same_digest = weights.load("", str(tmp_path / "wmgm_jax"))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert same_digest == digest


def test_a_damaged_cache_is_made_anew(small, fake_torch, public, tmp_path):
    name = weights.URL.rpartition("/")[2]
    (tmp_path / name).write_bytes(public[:5])
    (tmp_path / name).with_suffix(".npz").write_bytes(b"PK damaged")
    _, digest = weights.load("", str(tmp_path))
    assert digest == hashlib.sha256(public).hexdigest()
    assert (tmp_path / name).read_bytes() == public
    loaded, _ = weights.load(str((tmp_path / name).with_suffix(".npz")))
    assert set(loaded) == {"a", "b"}


def test_weights_put_into_the_cache_by_hand(small, fake_torch, public, offline, tmp_path):
    (tmp_path / weights.URL.rpartition("/")[2]).write_bytes(public)
    _, digest = weights.load("", str(tmp_path))
    assert digest == hashlib.sha256(public).hexdigest()


def test_no_network(fake_torch, offline, tmp_path):
    help = rf"{re.escape(weights.URL)}.*{re.escape(str(tmp_path))}.*inception_weights=PATH"
    refused("", cache_dir=tmp_path, match=f"no network here.*{help}")
    assert not list(tmp_path.iterdir())


def test_a_download_of_something_else(fake_torch, public, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "SHA256", "0" * 64)
    refused("", cache_dir=tmp_path, match=f"{len(public)} bytes.*rather than 0000.*=PATH")
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written(fake_torch, public, tmp_path):
    (tmp_path / "file").touch()
    refused("", cache_dir=tmp_path / "file" / "cache", match="--config.data.cache_dir")


def test_the_command_converts(small, fake_torch, monkeypatch, tmp_path, capsys):
    source, target = tmp_path / "weights.pth", tmp_path / "weights.npz"
    source.write_bytes(b"weights")
    monkeypatch.setattr(sys, "argv", ["", str(source), str(target)])
    weights.main()
    _, digest = weights.load(str(target))
    assert digest == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["absent.pth", "weights.npz"], "wmgm_jax: .*absent.pth"),
        (["weights.pth", "weights.pth"], "must end in .npz"),
        (["weights.pth", "weights.pth/weights.npz"], "cannot write.*choose another target"),
    ],
)
def test_mistakes_at_the_command(
    small, fake_torch, monkeypatch, tmp_path, capsys, arguments, match
):
    (tmp_path / "weights.pth").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["", *arguments])
    with pytest.raises(SystemExit) as caught:
        weights.main()
    assert caught.value.code == 2
    assert re.search(match, capsys.readouterr().err)


def test_the_command_has_help(run):
    code, output, _ = run("--help", module="wmgm_jax.evaluation.inception.weights")
    assert code == 0 and "SOURCE.pth TARGET.npz" in output
