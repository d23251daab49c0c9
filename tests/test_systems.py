"""SGM and WSGM: samplers with exact scores against closed forms, and configs that are siblings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from ml_collections import ConfigDict

import wmgm_jax
from tests.tiny import get_config
from wmgm_jax import runs, systems, wavelets
from wmgm_jax.config import registry
from wmgm_jax.config.validation import validate
from wmgm_jax.core.errors import UserError
from wmgm_jax.networks import inference
from wmgm_jax.runs import untrained
from wmgm_jax.systems import wsgm
from wmgm_jax.systems.coarsest import CoarsestBand
from wmgm_jax.systems.interface import Sampling

COUNT = 20_000
SAMPLING = Sampling("euler_maruyama", 6, "uniform")


@dataclasses.dataclass(frozen=True)
class GaussianNetwork:
    """Stands for a network that predicts the noise of X_0 ~ N(slope * condition, variance).

    Attributes:
        process: the forward process.
        variance: `[c]`.
        slope: `[c]`, on the one channel of the condition; None where there is no condition.
    """

    process: object
    variance: np.ndarray
    slope: np.ndarray | None = None

    def apply(self, variables, x, level, dropout_keys=None):
        # `level` is the angle of (alpha, sigma).
        angle = (level * jnp.pi / 2000)[:, None, None, None]
        alpha, sigma = jnp.cos(angle), jnp.sin(angle)
        mean = 0.0
        if self.slope is not None:
            x, condition = x[..., :-1], x[..., -1:]
            mean = alpha * self.slope * condition
        return sigma * (x - mean) / (alpha**2 * self.variance + sigma**2)


def recursion(process, variance, slope=0.0):
    """Variance of the output of Euler-Maruyama and its factor on the condition, in float64."""
    times = process.times(SAMPLING.num_steps, SAMPLING.spacing).astype(np.float64)
    v, m = np.ones_like(variance), np.zeros_like(variance)
    for i, (t, dt) in enumerate(zip(times[:-1], -np.diff(times), strict=True)):
        alpha = np.exp(-t)  # The constant schedule, g = 1.
        noised = alpha**2 * variance + 1 - alpha**2
        factor = 1 + dt - 2 * dt / noised
        v = factor**2 * v + (2 * dt if i < SAMPLING.num_steps - 1 else 0.0)
        m = factor * m + 2 * dt * alpha * slope / noised
    return v, m


def config_of(system, **changes):
    """Of networks that predict the noise, as `GaussianNetwork` does."""
    config = get_config(system)
    for section in registry.settings_of(system).score_sections:
        config[section].prediction = "noise"
    config.update_from_flattened_dict(changes)
    return config


def test_sgm_draws_what_the_recursion_says():
    config = config_of("sgm", **{"data.image_size": (2, 2), "data.channels": 1})
    image = CoarsestBand(config, "float32", levels=0)
    process, variance = image.score.process, np.array([0.3])
    oracle = dataclasses.replace(image.score, network=GaussianNetwork(process, variance))
    image = _with(image, oracle)
    statistics = {"low_mean": np.array([[0.1]]), "low_std": np.array([[0.5]])}
    draw = jax.jit(image.make_draw(SAMPLING))
    keys = jax.random.split(jax.random.key(0), COUNT)
    images = draw({"score": {}, "statistics": statistics}, keys)
    assert images.shape == (COUNT, 2, 2, 1)
    (expected,), _ = recursion(process, variance)
    # Four pixels an image; a variance has a relative error of sqrt(2 / n).
    assert np.var((images - 0.1) / 0.5) == pytest.approx(expected, rel=4 * (2 / (4 * COUNT)) ** 0.5)
    assert np.mean(images) == pytest.approx(0.1, abs=4 * 0.5 * (expected / (4 * COUNT)) ** 0.5)


def _with(band, score):
    band.score = score
    return band


def test_wsgm_draws_what_the_recursion_says():
    """One scale of 2x2 images whose details depend on the low band: exact conditional scores give
    the covariance of the recursion, which tends to that of the data."""
    config = config_of(
        "wsgm", **{"data.image_size": (2, 2), "data.channels": 1, "wavelet.levels": 1}
    )
    model = wsgm.WSGM(config, "float32")
    process = model.coarsest.score.process
    low_variance, variance = np.array([1.4]), np.array([0.5, 0.9, 0.2])
    slope = np.array([0.7, -0.4, 0.0])
    model.coarsest = _with(
        model.coarsest,
        dataclasses.replace(model.coarsest.score, network=GaussianNetwork(process, low_variance)),
    )
    network = GaussianNetwork(process, variance, slope)
    model.details = {1: dataclasses.replace(model.details[1], network=network)}
    statistics = {
        "low_mean": np.array([[9.0], [0.3]]),  # of the image, which WSGM does not use, and x_L^1
        "low_std": np.array([[9.0], [2.0]]),
        "detail_std": np.array([[[0.5], [0.25], [1.5]]]),
    }
    draw = jax.jit(model.make_draw(SAMPLING))
    keys = jax.random.split(jax.random.key(1), COUNT)
    images = draw({"score": {}, "details_1": {}, "statistics": statistics}, keys)
    low, details = wavelets.dwt2(images)
    x_low = (np.asarray(low).reshape(COUNT) - 0.3) / 2.0
    x_high = np.stack([np.asarray(d).reshape(COUNT) for d in details]) / np.array(
        [[0.5], [0.25], [1.5]]
    )
    (low_expected,), _ = recursion(process, low_variance)
    high_expected, factor = recursion(process, variance, slope)
    covariance = np.cov(np.vstack([x_low, x_high]))
    expected = np.diag(np.concatenate([[low_expected], high_expected]))
    expected[1:, 0] = expected[0, 1:] = factor * low_expected
    expected[1:, 1:] += np.outer(factor, factor) * low_expected
    error = 4 * np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / COUNT)
    assert np.all(np.abs(covariance - expected) < error)
    # The signs matter, and the details of the data are well above the error.
    assert np.all(np.abs(expected[0, 1:3]) > 5 * error[0, 1:3])


@pytest.mark.parametrize("system", ["sgm", "wsgm"])
def test_a_stage_of_its_own_for_every_network(system):
    config = get_config(system)
    built = systems.build(config)
    assert (
        list(built.stages)
        == {
            "sgm": ["score"],
            "wsgm": ["score", "details_2", "details_1"],
        }[system]
    )
    calls = built.network_calls(Sampling("heun", 3, "uniform"))
    assert {call.count for call in calls} == {5}
    sizes = [call.arguments[1].shape for call in calls]
    assert (
        sizes
        == {
            "sgm": [(1, 16, 16, 3)],
            # Nine noised details beside three low ones.
            "wsgm": [(1, 4, 4, 3), (1, 4, 4, 12), (1, 8, 8, 12)],
        }[system]
    )


def test_details_are_compared_above_their_true_low_band():
    config = config_of("wsgm", **{"data.channels": 1})
    stage = systems.build(config).stages["details_1"]
    images = np.repeat(np.linspace(-1, 1, 8)[:, None, None, None], 16, axis=1)
    images = jnp.asarray(np.repeat(images, 16, axis=2), jnp.float32)
    ones = {
        "low_mean": np.zeros((3, 1)),
        "low_std": np.ones((3, 1)),
        "detail_std": np.ones((2, 3, 1)),
    }
    params = {"details_1": stage.init(jax.random.key(0))[0]["details_1"], "statistics": ones}
    keys = jax.random.split(jax.random.key(1), 8)
    drawn, true = stage.generated_and_target(params, keys, images)
    assert drawn.shape == true.shape == images.shape
    np.testing.assert_allclose(true, images, atol=1e-6)
    # Whatever the details, the low band is the true one.
    np.testing.assert_allclose(wavelets.dwt2(drawn)[0], wavelets.dwt2(true)[0], atol=1e-5)


def leaves(config, prefix=""):
    found = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = tuple(value) if isinstance(value, list | tuple) else value
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*_*sgm.py")), ids=lambda p: p.stem)
def test_siblings_differ_only_where_the_system_does(path):
    name, system = path.stem.rsplit("_", 1)
    ours, theirs = (_config(stem) for stem in (path.stem, name))
    validate(ours)
    assert ours.system == system
    ours, theirs = leaves(ours), leaves(theirs)
    shared = ours.keys() & theirs.keys()
    different = {key for key in shared if ours[key] != theirs[key]}
    assert {key for key in different if not key.startswith("score.network.")} == {"system"}
    assert all(key.startswith("msal.") for key in theirs.keys() - ours.keys())
    assert all(key.startswith("details.") for key in ours.keys() - theirs.keys())
    for key in ours.keys() - theirs.keys():
        if not key.startswith("details.network."):
            assert ours[key] == theirs[key.replace("details", "score", 1)]


def _config(stem):
    namespace = {}
    exec(compile((ROOT / "configs" / f"{stem}.py").read_text(), stem, "exec"), namespace)
    return namespace["get_config"]()


@pytest.mark.parametrize(
    ("system", "networks"),
    [
        ("wmgm", ["UNet", "AttentionUNet", "AttentionUNet"]),
        ("sgm", ["UNet"]),
        ("wsgm", ["UNet", "UNet", "UNet"]),
        ("wavediff", ["DenoisingGenerator"]),
    ],
)
def test_images_are_drawn_with_prepared_networks(system, networks, monkeypatch):
    config = config_of(system)
    model, seen = untrained.model(config), []

    def prepared(network, variables, images):
        seen.append(type(network).__name__)
        return original(network, variables, images)

    original = inference.prepared
    monkeypatch.setattr(inference, "prepared", prepared)
    sample_fn = wmgm_jax.make_sample_fn(config)
    jax.eval_shape(lambda params: sample_fn(params, jax.random.key(0), 2), model.params)
    assert seen == networks


def test_a_batch_that_does_not_fit_is_told_by_the_setting_that_exists(tmp_path):
    """The stages of WSGM's details share one section of the config."""
    config = config_of("wsgm", **{"details.batch_size": 10**6})
    with pytest.raises(UserError, match=r"--config\.details\.batch_size=1000000 is more than"):
        runs.open_run(config, tmp_path)


def test_a_run_that_cannot_be_augmented_leaves_no_folder(tmp_path):
    """Else the corrected command would be refused for differing from it."""
    config = config_of("wmgm", **{"data.image_size": (16, 24), "data.augment": "dihedral"})
    with pytest.raises(UserError, match="images are 16x24: use 'flip'"):
        runs.open_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
