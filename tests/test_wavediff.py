"""WaveDiff: its chain against closed forms, its blocks, its losses, what its steps move."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
import scipy.integrate
import scipy.signal
from conftest import ROOT
from test_wmgm import moved, random_images, train_steps

import wmgm_jax
from tests.tiny import get_config
from wmgm_jax import runs, systems, wavelets
from wmgm_jax.config import base
from wmgm_jax.config.validation import validate
from wmgm_jax.core.codec import IMAGES
from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.core.errors import UserError
from wmgm_jax.diffusion.chain import Chain
from wmgm_jax.diffusion.process import OUProcess
from wmgm_jax.losses import nonsaturating
from wmgm_jax.networks import DenoisingGenerator, TimeDiscriminator
from wmgm_jax.networks.denoising_blocks import (
    AdaptiveGroupNorm,
    FrequencyDown,
    FrequencyUp,
    ResidualBlock,
    split,
)
from wmgm_jax.networks.layers import timestep_embedding
from wmgm_jax.networks.resampling import fir_blur, fir_downsample, fir_upsample
from wmgm_jax.networks.time_discriminator import group_deviation
from wmgm_jax.systems import wavediff
from wmgm_jax.systems.interface import Batch, LazyRegularizer, Objective, Sampling, Stage
from wmgm_jax.systems.wavediff import WaveDiff
from wmgm_jax.training import step as train_step
from wmgm_jax.training.state import init_state

COUNT = 20_000


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def normal(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


# --- the chain -----------------------------------------------------------------------------------


def exact_alpha(schedule, num_steps):
    """alpha_0, ..., alpha_T in float64, by quadrature of g^2 from a thousandth of the time on."""
    rates, end = {
        "constant": (lambda t: 1.0, 5.0),
        "linear": (lambda t: (0.1 + 19.9 * t) / 2, 1.0),
        "cosine": (lambda t: np.pi / 2.016 * np.tan(np.pi / 2.016 * (t + 0.008)), 0.97),
    }[schedule]
    times = np.linspace(0.001 * end, end, num_steps + 1)
    return np.exp([-scipy.integrate.quad(rates, times[0], t)[0] for t in times])


each_chain = pytest.mark.parametrize(
    ("schedule", "num_steps"), [("constant", 3), ("linear", 4), ("linear", 2), ("cosine", 4)]
)


@each_chain
def test_the_posterior_is_the_joint_gaussian_conditioned(schedule, num_steps):
    """(y_{t-1}, y_t) given y_0 is jointly Gaussian: condition its covariance on y_t."""
    alpha = exact_alpha(schedule, num_steps)
    t = np.arange(1, num_steps + 1)
    before, now = alpha[t - 1], alpha[t]
    variance_before, variance_now = 1 - before**2, 1 - now**2
    regression = (now / before) * variance_before / variance_now  # Cov / Var
    expected = (
        before - regression * now,
        regression,
        variance_before - regression * (now / before) * variance_before,
    )
    chain = Chain(OUProcess(schedule), num_steps)
    for ours, theirs in zip(chain.posterior(jnp.asarray(t)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-7)


@each_chain
def test_transitions_compose_to_the_marginal(schedule, num_steps):
    alpha = exact_alpha(schedule, num_steps)
    a, beta = Chain(OUProcess(schedule), num_steps).transition(jnp.arange(1, num_steps + 1))
    mean, variance = 1.0, 0.0
    for i in range(num_steps):
        mean, variance = float(a[i]) * mean, float(a[i]) ** 2 * variance + float(beta[i])
        assert mean == pytest.approx(alpha[i + 1], rel=2e-5)
        assert variance == pytest.approx(1 - alpha[i + 1] ** 2, rel=2e-5)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_last_step_returns_y0_to_the_bit(schedule):
    chain = Chain(OUProcess(schedule), 4)
    y0, y = normal((3, 2, 2, 1)), 100 * normal((3, 2, 2, 1), 1)
    t = jnp.array([1, 2, 1])
    drawn = jax.jit(chain.draw_before)(y0, y, t, keys_of(3))
    np.testing.assert_array_equal(drawn[::2], y0[::2])
    assert np.abs(drawn[1] - y0[1]).min() > 1e-3


def test_the_linear_schedule_is_that_of_ddgan():
    """Its B from time 0.001 on."""
    t = np.arange(5)
    integral = lambda time: 0.05 * time + 19.9 * time**2 / 4  # noqa: E731
    theirs = integral(0.001 + 0.999 * t / 4) - integral(0.001)
    ours = Chain(OUProcess("linear"), 4).integral(jnp.asarray(t))
    assert ours[0] == theirs[0] == 0
    np.testing.assert_allclose(ours[1:], theirs[1:], rtol=1e-5)


def test_pairs_have_the_joint_covariance():
    """Of y_{t-1} and y_t given y_0 = 1, every image at a t of its own."""
    chain, alpha = Chain(OUProcess("linear"), 4), exact_alpha("linear", 4)
    t = jnp.arange(COUNT) % 4 + 1
    before, now = jax.jit(chain.draw_pair)(jnp.ones((COUNT, 1)), t, keys_of(COUNT))
    for step in range(1, 5):
        pair = np.stack([x[t == step, 0] for x in (before, now)]).astype(np.float64)
        mean, variance = alpha[step - 1 : step + 1], 1 - alpha[step - 1 : step + 1] ** 2
        covariance = np.diag(variance)
        covariance[0, 1] = covariance[1, 0] = mean[1] / mean[0] * variance[0]
        count = pair.shape[1]
        error = np.sqrt((np.outer(variance, variance) + covariance**2) / count)
        assert np.all(np.abs(np.cov(pair) - covariance) <= 4 * error + 1e-9)
        assert np.all(np.abs(pair.mean(1) - mean) <= 4 * np.sqrt(variance / count) + 1e-6)


def test_sampling_with_the_true_posterior_draws_the_data():
    """For data N(0, v), y_0 drawn from p(y_0 | y_t) makes the chain exact, but for its start."""
    chain, v = Chain(OUProcess("linear"), 4), 0.3

    def predict(y, t, keys):
        alpha = jnp.exp(-chain.integral(t))[:, None]
        total = alpha**2 * v + 1 - alpha**2
        noise = jax.vmap(lambda key: jax.random.normal(key, y.shape[1:]))(keys)
        return alpha * v / total * y + jnp.sqrt(v * (1 - alpha**2) / total) * noise

    y = jax.jit(lambda keys: chain.sample(predict, keys, (COUNT, 1)))(keys_of(COUNT))
    assert np.var(y) == pytest.approx(v, rel=4 * (2 / COUNT) ** 0.5)
    assert np.mean(y) == pytest.approx(0, abs=4 * (v / COUNT) ** 0.5)


# --- the losses ----------------------------------------------------------------------------------


def test_the_losses_are_cross_entropies():
    fake, real = np.array([-2.0, 0.5, 40.0]), np.array([3.0, -0.1, 1.0])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    expected = -np.mean(np.log(sigmoid(real))) - np.mean(np.log1p(-sigmoid(fake[:2]))) * 2 / 3
    expected += 40 / 3  # -log(1 - sigmoid(40)), which float64 cannot
    assert nonsaturating.discriminator_loss(fake, real) == pytest.approx(expected, rel=1e-5)
    expected = -np.mean(np.log(sigmoid(fake)))
    assert nonsaturating.generator_loss(fake) == pytest.approx(expected, rel=1e-5)


def test_r1_against_finite_differences():
    random = np.random.default_rng(0)
    real, weights = random.standard_normal((3, 2, 2)), random.standard_normal((2, 4, 5))

    def critic(weights, x, tanh=np.tanh):
        return tanh(tanh(x.reshape(len(x), -1) @ weights[0]) @ weights[1].T).sum(-1)

    def slope(f, x, step=1e-4):
        result = np.zeros_like(x)
        for index in np.ndindex(x.shape):
            shift = np.zeros_like(x)
            shift[index] = step
            result[index] = (f(x + shift) - f(x - shift)) / (2 * step)
        return result

    def expected(weights):
        return np.sum(slope(lambda x: critic(weights, x).sum(), real) ** 2) / len(real) / 2

    def r1(weights):
        return nonsaturating.r1(jnp.asarray(real), lambda x: critic(weights, x, jnp.tanh))

    value, gradient = jax.value_and_grad(r1)(jnp.asarray(weights))
    assert value == pytest.approx(expected(weights), rel=1e-4)
    np.testing.assert_allclose(gradient, slope(expected, weights), rtol=1e-3, atol=1e-4)


class Stub:
    """Stands for a network."""

    def __init__(self, function):
        self.function = function

    def apply(self, variables, *inputs):
        return self.function(*inputs)


def test_losses_of_one_step_by_hand():
    """With T = 1, y_{t-1} is y_0 and y'_{t-1} is what the generator returns."""
    config = get_config("wavediff")
    config.wavediff.update({"denoising_steps": 1, "reconstruction_weight": 3.0, "r1_weight": 0.5})
    config.sampling.num_steps = 1
    model = WaveDiff(config, "float32")
    model.generator = Stub(lambda y, z, t: jnp.full_like(y, np.arctanh(0.3)))
    model.discriminator = Stub(
        lambda before, y, t: 5 * t * before.mean((1, 2, 3)) + 0 * y.sum((1, 2, 3)) ** 2
    )
    images = jnp.asarray(random_images(4) / 127.5 - 1, jnp.float32)
    statistics = {"mean": jnp.linspace(-0.5, 0.5, 12), "std": jnp.linspace(0.1, 2, 12)}
    batch, params = Batch(images, keys_of(4), statistics), {"generator": {}, "discriminator": {}}
    y0 = (wavediff.to_coefficients(images, 1) - statistics["mean"]) / statistics["std"]
    assert y0.shape == (4, 8, 8, 12)
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    loss, (metrics, _) = model.generator_loss(params, {}, batch)
    reconstruction = np.mean(np.abs(0.3 - np.asarray(y0)))
    assert metrics["reconstruction"] == pytest.approx(reconstruction, rel=1e-5)
    assert loss == pytest.approx(softplus(-1.5) + 3 * reconstruction, rel=1e-5)
    loss, _ = model.discriminator_loss(params, {}, batch)
    real = 5 * np.asarray(y0, np.float64).mean((1, 2, 3))
    assert loss == pytest.approx(np.mean(softplus(-real)) + softplus(1.5), rel=1e-5)
    # The gradient of 5 times a mean of 768 numbers is 5 / 768 in each.
    model.discriminator = Stub(lambda before, y, t: (5 * before + y**2).mean((1, 2, 3)))
    loss, (metrics, _) = model.r1_loss(params, {}, batch)
    assert metrics["r1"] == pytest.approx(25 / 768 / 2, rel=1e-5)
    assert loss == pytest.approx(0.5 * 25 / 768 / 2, rel=1e-5)


def test_every_step_of_the_chain_is_trained():
    model = WaveDiff(get_config("wavediff"), "float32")
    images = jnp.zeros((400, 16, 16, 3))
    batch = Batch(images, keys_of(400), model.compute_statistics([]))
    y0, before, y, t = jax.jit(model.noised)(batch, batch.keys)
    assert y0.shape == before.shape == y.shape == (400, 8, 8, 12)
    assert np.bincount(t, minlength=6) == pytest.approx([0, 100, 100, 100, 100, 0], abs=40)
    # Of grey images the scale is sigma: 0 before the first step, and almost 1 at the end.
    assert np.all(before[t == 1] == 0)
    assert np.std(y[t == 4]) == pytest.approx(1, abs=0.01)


def test_sampling_ends_with_what_the_generator_returns():
    """An image for the first half of the batch, a draw of z for the other."""
    config = tiny(**{"wavediff.normalisation": "unit"})
    model, keys = WaveDiff(config, "float32"), keys_of(4)
    image = jnp.asarray(random_images(1) / 127.5 - 1, jnp.float32)
    y0 = wavediff.to_coefficients(image, 1)
    is_first = (jnp.arange(4) < 2)[:, None, None, None]
    model.generator = Stub(lambda y, z, t: jnp.where(is_first, y0, z[:, :1, None, None]))
    draw = jax.jit(model.make_draw(Sampling.of(config)))
    statistics = {"mean": jnp.linspace(-0.5, 0.5, 12), "std": jnp.linspace(0.1, 2, 12)}
    y0 = (y0 - statistics["mean"]) / statistics["std"]
    drawn = draw({"generator": {}, "statistics": statistics}, keys)
    np.testing.assert_allclose(drawn[:2], np.repeat(image, 2, axis=0), atol=1e-6)
    fold_in = jax.vmap(jax.random.fold_in, (0, None))
    z = jax.vmap(lambda key: jax.random.normal(key, (4,)))(fold_in(fold_in(keys, 1), 0))
    expected = z[:, :1, None, None] * statistics["std"] + statistics["mean"]
    expected = wavediff.to_images(jnp.broadcast_to(expected, (4, 8, 8, 12)), 1)
    np.testing.assert_allclose(drawn[2:], expected[2:], atol=1e-6)


@pytest.mark.parametrize("normalisation", ["range", "unit"])
@pytest.mark.parametrize("units", [{}, {"units": {"mean": np.zeros(3), "std": np.ones(3)}}])
def test_images_have_bounds_where_their_coefficients_have(normalisation, units):
    """In sampling and in the losses. Fields have none."""
    config = tiny(**{"wavediff.normalisation": normalisation, "wavediff.levels": 0})
    model = WaveDiff(config, "float32")
    model.generator = Stub(lambda y, z, t: jnp.full_like(y, 2.0))
    model.discriminator = Stub(lambda before, y, t: jnp.zeros(len(y)))
    expected = np.tanh(2) if normalisation == "range" and not units else 2
    statistics = {"mean": jnp.zeros(3), "std": jnp.ones(3), **units}
    drawn = model.make_draw(Sampling.of(config))(
        {"generator": {}, "statistics": statistics}, keys_of(4)
    )
    np.testing.assert_allclose(drawn, np.full((4, 16, 16, 3), expected), rtol=1e-6)
    batch = Batch(jnp.zeros((4, 16, 16, 3)), keys_of(4), statistics)
    _, (metrics, _) = model.generator_loss({"generator": {}, "discriminator": {}}, {}, batch)
    assert metrics["reconstruction"] == pytest.approx(expected, rel=1e-4)


# --- the coefficients ----------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_coefficients_are_wavelet_packets(levels):
    images = jnp.asarray(random_images(2) / 127.5 - 1, jnp.float32)
    expected = [np.asarray(images)]
    for _ in range(levels):
        by_band = [pywt.dwt2(bands, "haar", axes=(1, 2)) for bands in expected]
        # All low bands first, then the details, each of all bands of the level before.
        expected = [ll for ll, _ in by_band]
        expected += [details[i] for i in range(3) for _, details in by_band]
    y = wavediff.to_coefficients(images, levels)
    np.testing.assert_allclose(y, np.concatenate(expected, -1), atol=1e-6)
    np.testing.assert_allclose(wavediff.to_images(y, levels), images, atol=1e-6)
    # By "range" they are between -1 and 1, which they reach.
    model = WaveDiff(tiny(**{"wavediff.levels": levels}), "float32")
    statistics = model.compute_statistics([])
    assert np.all(statistics["mean"] == 0)
    for extreme in (jnp.where(images > 0, 1.0, -1.0), jnp.ones_like(images)):
        largest = np.abs(wavediff.to_coefficients(extreme, levels) / statistics["std"]).max()
        assert largest == pytest.approx(1) if extreme.min() == 1 else largest <= 1


def test_unit_scale_is_measured_over_all_batches():
    images = random_images(7)
    images[:5] //= 4
    model = WaveDiff(tiny(**{"wavediff.normalisation": "unit"}), "float32")
    unit = IMAGES.to_unit_range(images)
    statistics = model.compute_statistics([unit[:5], unit[5:]])
    y = np.asarray(wavediff.to_coefficients(images / 127.5 - 1, 1))
    y = (y - statistics["mean"]) / statistics["std"]
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, rtol=1e-5)


# --- the networks --------------------------------------------------------------------------------

GENERATOR = DenoisingGenerator(
    out_channels=4,
    channels=8,
    multipliers=(1, 2),
    num_blocks=1,
    attention_levels=(),
    style_size=6,
    mapping_layers=1,
)
PLAIN = {
    "wavelet_residual": False,
    "frequency_resampling": False,
    "frequency_bottleneck": False,
}
INPUTS = normal((2, 8, 8, 4)), normal((2, 3), 1), jnp.array([1, 3])


def randomised(params, seed=0):
    """Parameters of which none is 0, as some are at first."""
    random = np.random.default_rng(seed)

    def draw(leaf):
        scale = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 25.0
        return jnp.asarray(random.standard_normal(leaf.shape) / np.sqrt(scale), jnp.float32)

    return jax.tree.map(draw, params)


@functools.cache
def params_of(network, *shapes):
    inputs = INPUTS if isinstance(network, DenoisingGenerator) else (INPUTS[0], *INPUTS[::2])
    return randomised(jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"])


def identity(kernel):
    """A convolution that changes nothing."""
    side, _, channels, _ = kernel.shape
    return jnp.zeros_like(kernel).at[side // 2, side // 2].set(jnp.eye(channels))


def test_details_that_leave_a_map_restore_it():
    """Down and up again, with convolutions that change nothing."""
    x, embedding, style = normal((2, 6, 4, 3)), normal((2, 5), 1), normal((2, 7), 2)
    down, up = FrequencyDown(3, jnp.float32), FrequencyUp(3, jnp.float32)
    down_params = jax.jit(down.init)(jax.random.key(0), x, embedding, style)["params"]
    for name in ("Conv_0", "Conv_1"):
        down_params[name]["kernel"] = identity(down_params[name]["kernel"])
    coarse, details = jax.jit(down.apply)({"params": down_params}, x, embedding, style)
    # The last convolution of a block begins at zero, which leaves the shortcut.
    np.testing.assert_allclose(np.sqrt(2) * coarse, split(x)[0], atol=1e-6)
    assert [detail.shape for detail in details] == 3 * [(2, 3, 2, 3)]

    norm = {"params": down_params["AdaptiveGroupNorm_0"]}
    h = nn.silu(AdaptiveGroupNorm(jnp.float32).apply(norm, x, style))
    low = split(h)[0]
    up_params = jax.jit(up.init)(jax.random.key(1), low, embedding, style, details)["params"]
    for name in ("Conv_1", "LH", "HL", "HH"):
        up_params[name]["kernel"] = identity(up_params[name]["kernel"])
    apply = jax.jit(up.apply)
    restored = apply({"params": up_params}, low, embedding, style, details)
    np.testing.assert_allclose(np.sqrt(2) * restored, h, atol=1e-6)
    # Both ways through the block get the details: the shortcut alone would differ by just them.
    second = up_params["SecondHalf_0"]
    up_params["Conv_0"] = {**up_params["Conv_0"], "kernel": 0 * up_params["Conv_0"]["kernel"]}
    second["Conv_0"]["kernel"] = identity(second["Conv_0"]["kernel"])
    one, other = (
        apply({"params": up_params}, low, embedding, style, carried)
        for carried in (details, tuple(0 * detail for detail in details))
    )
    assert np.abs(np.sqrt(2) * (one - other) - wavelets.idwt2(0 * low, details)).max() > 1e-2


@pytest.mark.parametrize("size", [(6, 4), (2, 8)])
def test_fir_filters_against_scipy(size):
    x = normal((2, *size, 3))

    def filtered(x, taps, up, down, start, length):
        for axis in (1, 2):
            x = scipy.signal.upfirdn(np.array(taps), x, up, axis=axis)
            stop = start + down * length(size[axis - 1])
            x = np.take(x, np.arange(start, stop, down), axis)
        return x

    taps = np.array([1, 3, 3, 1]) / 8
    for ours, expected in (
        (fir_downsample(x), filtered(x, taps, 1, 2, 2, lambda n: n // 2)),
        (fir_upsample(x), filtered(x, 2 * taps, 2, 1, 1, lambda n: 2 * n)),
        (fir_blur(x), filtered(x, taps, 1, 1, 1, lambda n: n + 1)),
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_the_time_embedding():
    """Sines first; the frequencies from 1 to 1/10000."""
    t = np.array([0.0, 1.0, 3.0])
    angles = t[:, None] * 10_000.0 ** -np.linspace(0, 1, 5)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(timestep_embedding(jnp.asarray(t), 10), expected, atol=1e-6)


def test_the_blocks_of_the_plain_generator_resample_both_ways_through_them():
    """Convolutions that change nothing, and a second half that is 0."""
    x, embedding, style = normal((2, 6, 4, 3)), normal((2, 5), 1), normal((2, 7), 2)
    for resample, filtered in (("down", fir_downsample), ("up", fir_upsample)):
        block = ResidualBlock(3, jnp.float32, resample)
        params = jax.jit(block.init)(jax.random.key(0), x, embedding, style)["params"]
        for name in ("Conv_0", "Conv_1"):
            params[name]["kernel"] = identity(params[name]["kernel"])
        apply = jax.jit(lambda params, block=block: block.apply(params, x, embedding, style))
        np.testing.assert_allclose(np.sqrt(2) * apply({"params": params}), filtered(x), atol=1e-6)
        # What enters the second half is the filtered map of the first.
        entered = []

        def interceptor(call, arguments, options, context, entered=entered):
            if type(context.module).__name__ == "SecondHalf":
                entered.append(arguments[0])
            return call(*arguments, **options)

        with nn.intercept_methods(interceptor):
            block.apply({"params": params}, x, embedding, style)
        norm = {"params": params["AdaptiveGroupNorm_0"]}
        h = nn.silu(AdaptiveGroupNorm(jnp.float32).apply(norm, x, style))
        np.testing.assert_allclose(entered[0], filtered(h), atol=1e-5)


@functools.cache
def inside():
    """Input and output of every call of every module inside the generator, by path."""

    def apply(params, *inputs):
        calls = {}

        def interceptor(call, arguments, options, context):
            output = call(*arguments, **options)
            if context.method_name == "__call__":
                path = "/".join(context.module.path)
                calls.setdefault(path, []).append((arguments[0], output))
            return output

        with nn.intercept_methods(interceptor):
            GENERATOR.apply({"params": params}, *inputs)
        return calls

    return jax.jit(apply)(params_of(GENERATOR), *INPUTS)


def test_the_bottleneck_works_on_the_low_band_alone():
    """The middle is a block, attention, a block: what each gets, and what comes out.

    The second block also sees the whole map, before the low band of what it makes of it.
    """
    (_, entered), (attention_in, attention_out), (left, _) = (
        inside()[name][0] for name in ("ResidualBlock_2", "SelfAttention_0", "ResidualBlock_5")
    )
    (first,), (whole, second) = (inside()[f"ResidualBlock_{block}"] for block in (3, 4))
    np.testing.assert_allclose(whole[0], attention_out / np.sqrt(2), atol=1e-5)
    assert np.abs(whole[1] - whole[0]).max() > 0.1
    stations = (entered, attention_in), (whole[1], left[..., :16])
    for (block_in, block_out), (given, result) in zip((first, second), stations, strict=True):
        (low, details), (low_after, details_after) = split(given), split(result)
        np.testing.assert_allclose(block_in, low, atol=1e-5)
        np.testing.assert_allclose(block_out, low_after, atol=1e-5)
        np.testing.assert_allclose(details_after, details, atol=1e-5)
        assert np.abs(low_after - low).max() > 0.1


def test_all_bands_of_the_input_join_the_features():
    bands, features = inside()["Conv_1"][0]
    low, *details = jnp.split(2 * bands, 4, axis=-1)
    np.testing.assert_allclose(wavelets.idwt2(low, tuple(details)), INPUTS[0], atol=1e-6)
    block_out, _ = inside()["FrequencyDown_1"][0][1]
    joined = (features + block_out) / np.sqrt(2)
    np.testing.assert_allclose(inside()["ResidualBlock_2"][0][0], joined, atol=1e-5)


def test_without_the_wavelet_residual_the_filtered_input_joins_the_features():
    """A strided convolution of the filtered input, by scipy."""
    network = GENERATOR.clone(wavelet_residual=False)
    params, found = params_of(network), []

    def interceptor(call, arguments, options, context):
        output = call(*arguments, **options)
        if context.module.path == ("Conv_1",):
            found.append(output)
        return output

    with nn.intercept_methods(interceptor):
        network.apply({"params": params}, *INPUTS)
    kernel, blurred = np.asarray(params["Conv_1"]["kernel"]), np.asarray(fir_blur(INPUTS[0]))
    expected = np.zeros((2, 4, 4, 8)) + np.asarray(params["Conv_1"]["bias"])
    for image, x in enumerate(blurred):
        for i in range(4):
            for j in range(4):
                window = x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                expected[image, i, j] += np.tensordot(window, kernel, 3)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_group_norms_have_the_epsilon_of_the_release():
    """Of features with a variance of 1e-6, a group norm with this epsilon leaves a half."""
    x = 1e-3 * jnp.tile(jnp.array([1.0, -1.0]), 32).reshape(1, 4, 4, 4)
    norm = AdaptiveGroupNorm(jnp.float32)
    params = norm.init(jax.random.key(0), x, jnp.zeros((1, 2)))
    normalised = norm.apply(params, x, jnp.zeros((1, 2)))
    np.testing.assert_allclose(normalised**2, np.full(x.shape, 0.5), rtol=1e-3)
    epsilons = []

    def interceptor(call, arguments, options, context):
        if isinstance(context.module, nn.GroupNorm):
            epsilons.append(context.module.epsilon)
        return call(*arguments, **options)

    with nn.intercept_methods(interceptor):
        jax.eval_shape(GENERATOR.init, jax.random.key(0), *INPUTS)
    assert len(epsilons) > 10
    assert set(epsilons) == {1e-6}


def tree(**changes):
    """Paths and shapes of the parameters of a variant."""
    shapes = jax.eval_shape(GENERATOR.clone(**changes).init, jax.random.key(0), *INPUTS)
    leaves = jax.tree_util.tree_leaves_with_path(shapes["params"])
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}


def test_each_part_of_the_generator_has_a_switch():
    whole = tree()
    assert tree(rematerialise=True) == whole
    # The bottleneck has the parameters of the blocks that it holds, at half the size.
    assert tree(frequency_bottleneck=False) == whole
    low_alone = tree(wavelet_residual=False)
    different = {path for path in whole if whole[path] != low_alone[path]}
    assert different == {"['Conv_1']['kernel']"}
    assert low_alone["['Conv_1']['kernel']"] == (3, 3, 4, 8)
    averaging = tree(frequency_resampling=False)
    assert {path.split("'")[1] for path in whole.keys() - averaging.keys()} == {
        "FrequencyDown_1",
        "FrequencyUp_7",
    }
    assert {path.split("'")[1] for path in averaging.keys() - whole.keys()} == {
        "ResidualBlock_1",
        "ResidualBlock_7",
    }


@pytest.mark.parametrize("part", [*PLAIN, "all"])
def test_without_a_part_the_generator_draws_otherwise(part):
    """Every variant is a function of y, z and t, and of each image alone."""
    network = GENERATOR.clone(**(PLAIN if part == "all" else {part: False}))
    apply = jax.jit(network.apply)
    params = {"params": params_of(network)}
    y, z, t = INPUTS
    drawn = apply(params, y, z, t)
    assert drawn.shape == y.shape
    assert drawn.dtype == jnp.float32
    assert np.abs(drawn - inside()["Conv_2"][0][1]).max() > 1e-2
    for other in ((y[::-1], z, t), (y, z[::-1], t), (y, z, t[::-1])):
        assert np.abs(apply(params, *other) - drawn).max() > 1e-2
    turned = apply(params, y[::-1], z[::-1], t[::-1])
    np.testing.assert_allclose(turned[::-1], drawn, atol=1e-5)


@pytest.mark.parametrize("first_stride", [1, 2])
def test_the_discriminator_judges_each_step_alone(first_stride):
    network = TimeDiscriminator(
        channels=4, num_blocks=3, first_stride=first_stride, embedding_size=6
    )
    params = {"params": randomised(params_of(network), seed=2)}
    apply = jax.jit(network.apply)
    before, (y, _, t) = normal((2, 8, 8, 4), 3), INPUTS
    logits = apply(params, before, y, t)
    assert logits.shape == (2,)
    assert logits.dtype == jnp.float32
    for other in ((before[::-1], y, t), (before, y[::-1], t), (before, y, t[::-1])):
        assert np.abs(apply(params, *other) - logits).min() > 1e-3
    turned = apply(params, before[::-1], y[::-1], t[::-1])
    np.testing.assert_allclose(turned[::-1], logits, rtol=1e-4, atol=1e-5)
    widths = [params["params"][f"TimeBlock_{i}"]["Conv_0"]["kernel"].shape[-1] for i in range(3)]
    assert widths == ([4, 8, 16] if first_stride == 1 else [8, 16, 16])


def test_the_deviation_of_a_group():
    h = np.random.default_rng(0).standard_normal((6, 2, 3, 4))
    ours = group_deviation(jnp.asarray(h, jnp.float32), 3)
    for group in (slice(0, 3), slice(3, 6)):
        expected = np.sqrt(h[group].var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(ours[group], np.full((3, 2, 3, 1), expected), rtol=1e-5)
    # Of images that are equal, and of one alone, it is almost 0, and has a gradient.
    value, gradient = jax.value_and_grad(lambda h: group_deviation(h, 1).mean())(ours)
    assert value == pytest.approx(1e-4)
    assert np.isfinite(gradient).all()


def test_a_judgement_depends_on_the_group_alone():
    """Neighbours of a batch are judged together, in any order, and no others with them."""
    network = TimeDiscriminator(channels=4, num_blocks=1, embedding_size=6)
    params = {"params": params_of(network)}
    before, y, t = normal((8, 4, 4, 4), 3), normal((8, 4, 4, 4), 4), jnp.arange(8) % 4 + 1
    judge = jax.jit(network.apply)
    logits = judge(params, before, y, t)
    np.testing.assert_allclose(judge(params, before[4:], y[4:], t[4:]), logits[4:], atol=1e-5)
    other = judge(params, before.at[5].multiply(2), y, t)
    np.testing.assert_allclose(other[:4], logits[:4], atol=1e-5)
    assert np.abs(other - logits)[4:].min() > 1e-4
    order = np.array([2, 0, 3, 1, 4, 6, 7, 5])
    turned = judge(params, before[order], y[order], t[order])
    np.testing.assert_allclose(turned, logits[order], atol=1e-5)


def test_devices_share_a_step_without_changing_it():
    """The losses, the penalty R1 and the gradients of four groups on one device, two and four."""
    config = tiny(**{"wavediff.batch_size": 16, "wavediff.discriminator.channels": 4})
    stage = systems.build(config).stages["wavediff"]
    statistics = systems.build(config).compute_statistics([])
    state = init_state(stage, statistics, jax.random.key(0))
    state = dataclasses.replace(state, params=randomised(state.params))
    images = jnp.asarray(random_images(16))

    def metrics(devices):
        active = train_step.active_terms(stage, 0)
        step = jax.vmap(train_step.make_train_step(stage, active), (None, 0), axis_name=BATCH_AXIS)
        return jax.jit(step)(state, images.reshape(devices, -1, *images.shape[1:]))[1]

    one, two, four = (metrics(devices) for devices in (1, 2, 4))
    assert one["r1"] > 0
    for name, value in one.items():
        for other in (two, four):
            np.testing.assert_allclose(other[name], np.repeat(value, len(other[name])), rtol=1e-4)


def test_devices_that_would_divide_a_group_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    expected = "batch_size=8 must be divisible by 16, the 4 devices .* times the 4 images that D"
    with pytest.raises(UserError, match=expected):
        runs.open_run(tiny(), tmp_path)
    assert not list(tmp_path.iterdir())
    # A group is the largest that the batch allows.
    sizes = {
        batch_size: systems.build(tiny(**{"wavediff.batch_size": batch_size}))
        .stages["wavediff"]
        .group_size
        for batch_size in (1, 2, 6, 7, 16)
    }
    assert sizes == {1: 1, 2: 2, 6: 2, 7: 1, 16: 4}


# --- the system ----------------------------------------------------------------------------------


def tiny(**changes):
    config = get_config("wavediff")
    config.update_from_flattened_dict(changes)
    validate(config)
    return config


def test_an_image_depends_on_its_own_key_alone():
    config, key = tiny(), jax.random.key(5)
    stage = systems.build(config).stages["wavediff"]
    params, batch_stats = jax.eval_shape(stage.init, key)
    params = stage.export(randomised(params), batch_stats)
    params["statistics"] = systems.build(config).compute_statistics([])
    sample_fn = wmgm_jax.make_sample_fn(config)
    many, one = sample_fn(params, key, 3), sample_fn(params, key, 1)
    assert many.shape == (3, 16, 16, 3)
    assert many.dtype == jnp.float32
    assert 0 <= many.min() < many.max() <= 1
    assert np.abs(many[0] - many[1]).max() > 0.05
    np.testing.assert_allclose(one[0], many[0], atol=2e-5)
    sample_fn(params, jax.random.key(6), 3)
    # One program for each number of images.
    assert sample_fn._cache_size() == 2  # noqa: SLF001 - of JAX
    assert "callback" not in sample_fn.lower(params, key, 3).as_text()


def test_a_chain_is_sampled_as_it_was_trained():
    config = tiny()
    for changes, expected in (
        ({"num_steps": 8}, "num_steps must be 4, not 8"),
        ({"sampler": "euler_maruyama"}, "sampler must be 'posterior'"),
        ({"spacing": "quadratic"}, "spacing must be 'uniform'"),
    ):
        with pytest.raises(UserError, match=expected):
            wmgm_jax.make_sample_fn(config, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sampling.num_steps": 2}, "sampling.num_steps must be 4, the chain's"),
        ({"sampling.sampler": "euler_maruyama"}, "sampling.sampler must be one of posterior"),
        ({"sampling.spacing": "logsnr"}, "sampling.spacing must be one of uniform"),
        ({"wavediff.normalisation": "none"}, "normalisation must be one of range, unit"),
        ({"wavediff.levels": 3}, "wavediff.levels must be one of 0, 1, 2"),
        ({"wavediff.denoising_steps": 0}, "denoising_steps must be at least 1"),
        ({"wavediff.r1_every": 0}, "r1_every must be at least 1"),
        ({"wavediff.r1_weight": -1.0}, "r1_weight must be at least 0"),
        ({"wavediff.reconstruction_weight": -1.0}, "reconstruction_weight must be at least 0"),
        ({"wavediff.r1_weight": float("inf")}, "r1_weight must be finite"),
        ({"wavediff.generator_optimizer.b1": 2.0}, r"optimizer.b1 must be in \[0, 1\), not 2.0"),
        ({"wavediff.generator.multipliers": (1, 2.0)}, "of type tuple of whole numbers"),
        ({"wavediff.latent_size": 0}, "latent_size must be at least 1"),
        ({"wavediff.generator.channels": 7}, "generator.channels must be even"),
        ({"wavediff.discriminator.embedding_size": 2}, "must be even, and at least 4, not 2"),
        ({"wavediff.generator.attention_levels": (1,)}, "some of the levels 0 to 0"),
        ({"wavediff.generator.multipliers": (1, 1, 1, 1)}, "divisible by 32: 1 Haar levels, and 4"),
        ({"wavediff.discriminator.num_blocks": 5}, "halvings in the discriminator"),
        ({"wavediff.discriminator.first_stride": 3}, "first_stride must be one of 1, 2"),
    ],
)
def test_settings_that_cannot_work(changes, expected):
    with pytest.raises(UserError, match=expected):
        tiny(**changes)


def test_a_step_updates_both_networks_and_the_ema_of_the_generator():
    """In the space of pixels, where no Haar level is split off."""
    config = tiny(**{"wavediff.levels": 0, "wavediff.r1_every": 2})
    (before, after), (metrics,) = train_steps(config, "wavediff", 1)
    for name in ("generator", "discriminator"):
        assert moved(before.params[name], after.params[name])
    assert set(after.ema[0]) == {"generator"}
    # The first decay is 1 / 10.
    expected = jax.tree.map(
        lambda old, new: 0.1 * old + 0.9 * new,
        before.params["generator"],
        after.params["generator"],
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6),
        after.ema[0]["generator"],
        expected,
    )
    assert metrics.keys() >= {"generator_loss", "discriminator_loss", "r1", "reconstruction"}
    assert all(np.isfinite(value).all() for value in metrics.values())
    stage = systems.build(config).stages["wavediff"]
    assert [train_step.active_terms(stage, step) for step in range(3)] == [
        ("discriminator", "generator", "r1"),
        ("discriminator", "generator"),
        ("discriminator", "generator", "r1"),
    ]


def test_a_lazy_regularizer_is_added_to_its_objective_when_it_is_active():
    """The slope of p's loss is 3, and 10 more at every second step; that of q's is 1."""

    def linear(slope, name):
        def loss(params, batch_stats, batch):
            return slope * (params["p"] + params["q"]), ({name: params["p"]}, batch_stats)

        return loss

    optimizer = tiny().wavediff.generator_optimizer
    stage = Stage(
        section="wavediff",
        settings=tiny().wavediff,
        init=lambda key: ({"p": jnp.zeros(()), "q": jnp.zeros(())}, {}),
        objectives={
            "p": Objective(linear(3.0, "p_loss"), optimizer),
            "q": Objective(lambda params, *_: (params["q"], ({}, {})), optimizer, every=3),
        },
        export=lambda params, batch_stats: params,
        generated_and_target=None,
        is_paired=False,
        regularizers={"more": LazyRegularizer("p", linear(10.0, "more"), every=2)},
    )
    assert train_step.period(stage) == 6
    schedule = [train_step.active_terms(stage, step) for step in range(4)]
    assert schedule == [("p", "q", "more"), ("p",), ("p", "more"), ("p", "q")]
    state = init_state(stage, {}, jax.random.key(0))
    images = jnp.zeros((1, 2, 2, 2, 1))
    for active in schedule[:2]:
        step = jax.vmap(train_step.make_train_step(stage, active), axis_name=BATCH_AXIS)
        _, metrics = step(jax.tree.map(lambda x: x[None], state), images)
        assert metrics["p_gradient_norm"] == pytest.approx(13.0 if "more" in active else 3.0)
        assert ("more" in metrics) == ("more" in active)
        assert metrics.get("q_gradient_norm", 1.0) == pytest.approx(1.0)
        assert ("q_gradient_norm" in metrics) == ("q" in active)


# --- the configs ---------------------------------------------------------------------------------


def config_of(stem):
    namespace = {}
    exec(compile((ROOT / "configs" / f"{stem}.py").read_text(), stem, "exec"), namespace)
    return namespace["get_config"]()


@pytest.mark.parametrize("name", ["cifar10", "faces128", "colon_ihc"])
def test_configs_keep_the_images_of_their_siblings(name):
    ours, theirs = config_of(f"wavediff_{name}"), config_of(name)
    validate(ours)
    for section in ("data", "wavelet", "train", "evaluation"):
        assert ours[section].to_dict() == theirs[section].to_dict()
    assert ours.sampling.batch_size == theirs.sampling.batch_size
    assert (ours.process.schedule, ours.process.T) == ("linear", None)


def test_parameters_at_the_published_sizes():
    """For STL-10: counted by hand from the layers of the release."""
    stl10 = config_of("wavediff_cifar10")
    stl10.data.image_size = (64, 64)
    generator = base("wavediff").wavediff.generator
    sizes = {"channels": 128, "multipliers": (1, 2, 2, 2), "mapping_layers": 4}
    stl10.wavediff.generator = generator.to_dict() | sizes | {"attention_levels": (1,)}
    stl10.wavediff.discriminator.num_blocks = 4
    stage = systems.build(stl10).stages["wavediff"]
    params, _ = jax.eval_shape(stage.init, jax.random.key(0))
    sizes = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in params.items()}
    assert sizes == {"generator": 55_585_292, "discriminator": 12_743_937}
