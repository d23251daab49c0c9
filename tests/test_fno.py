"""The Fourier neural operator, compared with Fourier sums in float64 and between grids."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from wmgm_jax.networks import FNO
from wmgm_jax.networks.fno import SpectralConv

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def frequencies(modes):
    """All (k_1, k_2) with their places in the weights."""
    rows, columns = modes
    return [(i - rows // 2, j, (i, j)) for i in range(rows) for j in range(columns // 2 + 1)]


def waves(height, width, k_1, k_2):
    """e^(2 pi i k.p) at every pixel, `[H, W]`."""
    p_1, p_2 = np.arange(height)[:, None] / height, np.arange(width) / width
    return np.exp(2j * np.pi * (k_1 * p_1 + k_2 * p_2))


def random_params(network, shape, seed=0):
    """Random parameters, none of them 0."""
    options = {"train": False} if isinstance(network, FNO) else {}
    init = functools.partial(network.init, **options)
    abstract = jax.eval_shape(init, jax.random.key(0), jnp.zeros(shape))
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape, np.float32), abstract)


def fourier_sum(params, x, modes):
    """The formula of `SpectralConv` in float64, a frequency at a time."""
    weights, bias = (np.float64(params["params"][name]) for name in ("weights", "bias"))
    height, width = x.shape[1:3]
    y = np.zeros((*x.shape[:3], len(bias))) + bias
    for k_1, k_2, place in frequencies(modes):
        if abs(k_1) >= height / 2 or k_2 >= width / 2:
            continue
        wave = waves(height, width, k_1, k_2)
        X = np.mean(np.float64(x) * wave.conj()[..., None], axis=(1, 2))
        Y = X @ (weights[0][place] + 1j * weights[1][place])
        y += (1 if k_2 == 0 else 2) * (Y[:, None, None] * wave[..., None]).real
    return y


@pytest.mark.parametrize(
    ("modes", "size"),
    [
        ((4, 4), (8, 10)),
        ((5, 3), (6, 12)),
        ((1, 1), (4, 6)),
        ((4, 4), (4, 4)),  # as many modes as pixels: the highest frequency is left out
        ((16, 16), (6, 8)),  # more modes than pixels
        ((7, 6), (2, 2)),  # only the mean is left
    ],
)
def test_a_spectral_convolution_is_its_fourier_sum(modes, size):
    x = np.random.default_rng(1).standard_normal((2, *size, 3), np.float32)
    network = SpectralConv(5, modes)
    params = random_params(network, x.shape)
    expected = fourier_sum(params, x, modes)
    actual = jit(network.apply)(params, x)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=3e-5)


def test_the_network_layer_by_layer():
    x = np.random.default_rng(1).standard_normal((2, 6, 8, 2), np.float32)
    network = FNO(3, modes=(4, 4), channels=4, depth=2)
    params = random_params(network, x.shape)
    actual = jit(functools.partial(network.apply, train=False))(params, x)

    def gelu(h):
        return h * scipy.special.ndtr(h)

    def dense(h, layer):
        return h @ np.float64(layer["kernel"]) + layer["bias"]

    layers = params["params"]
    h = dense(gelu(dense(np.float64(x), layers["Dense_0"])), layers["Dense_1"])
    for i in range(2):
        layer = layers[f"FourierLayer_{i}"]
        skip = h @ np.float64(layer["Dense_0"]["kernel"])
        h = fourier_sum({"params": layer["SpectralConv_0"]}, h, (4, 4)) + skip
        if i == 0:
            h = gelu(h)
    expected = dense(gelu(dense(h, layers["Dense_2"])), layers["Dense_3"])
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


def band_limited(size, highest, channels, seed=2):
    """Samples `[2, H, W, C]` of the same function on any grid, of frequencies up to `highest`."""
    generator = np.random.default_rng(seed)
    x = np.zeros((2, *size, channels))
    for k_1 in range(-highest, highest + 1):
        for k_2 in range(highest + 1):
            amplitude = generator.standard_normal((2, 2, 1, 1, channels)) / (1 + k_1**2 + k_2**2)
            wave = waves(*size, k_1, k_2)[..., None]
            x += wave.real * amplitude[0] + wave.imag * amplitude[1]
    return np.float32(x)


@pytest.mark.parametrize("modes", [(4, 4), (16, 16)])
@pytest.mark.parametrize("channels", [2, 6])
def test_a_spectral_convolution_does_not_depend_on_the_grid(modes, channels):
    network = SpectralConv(3, modes)
    params = random_params(network, (1, 8, 12, channels))
    coarse, fine = (
        network.apply(params, band_limited(size, 3, channels)) for size in ((8, 12), (16, 36))
    )
    assert np.std(coarse) > 0.5
    np.testing.assert_allclose(fine[:, ::2, ::3], coarse, atol=2e-5)


@pytest.mark.parametrize(("channels", "out_channels"), [(2, 3), (6, 9)])
def test_the_network_depends_less_on_finer_grids(channels, out_channels):
    """For grey and for coloured bands, each with as many channels of noise."""
    network = FNO(out_channels, modes=(4, 4), channels=8, depth=2)
    init = jit(functools.partial(network.init, train=False))
    params = init(jax.random.key(0), jnp.zeros((1, 8, 8, channels)))
    outputs = {}
    for side in (8, 16, 32, 64):
        x = band_limited((side, side), 1, channels)
        output = jit(functools.partial(network.apply, train=False))(params, x)
        assert output.shape == (2, side, side, out_channels)
        outputs[side] = np.array(output[:, :: side // 8, :: side // 8])
    assert np.std(outputs[64]) > 0.1
    errors = [np.abs(outputs[side] - outputs[64]).max() for side in (8, 16, 32)]
    assert errors[0] > 10 * errors[1]
    assert errors[1] < 5e-5
    assert errors[2] < 2e-6


def test_every_frequency_keeps_its_power_at_first():
    x = np.random.default_rng(3).standard_normal((4, 12, 12, 32), np.float32)
    network = SpectralConv(64, (8, 8))
    y = jit(lambda key: network.apply(network.init(key, x), x))(jax.random.key(0))
    before, after = (np.abs(np.fft.fft2(z, axes=(1, 2))) ** 2 for z in (x, y))
    # Where k_2 = 0, only the real part counts, which is half of the power.
    kept = np.ix_(range(4), [-4, -3, -2, -1, 0, 1, 2, 3], [1, 2, 3, 4])
    ratio = after[kept].mean() / before[kept].mean()
    assert ratio == pytest.approx(1, rel=0.05)
    assert after[:, :, 5:8].max() < 1e-6 * after.max()


def test_every_weight_has_a_gradient():
    """Except the imaginary part at k = 0: the mean of a real function is real."""
    x = np.random.default_rng(4).standard_normal((2, 8, 8, 3), np.float32)
    network = SpectralConv(2, (4, 5))
    params = random_params(network, x.shape)

    def loss(params):
        return jnp.sum(network.apply(params, x) ** 2)

    gradient = jit(jax.grad(loss))(params)
    weights = np.array(gradient["params"]["weights"])
    unused = np.argwhere(np.abs(weights).max(axis=(3, 4)) < 1e-4)
    np.testing.assert_array_equal(unused, [[1, 2, 0]])
    # The loss is quadratic, so that a central difference of any width equals the derivative.
    direction = random_params(network, x.shape, seed=1)
    ahead, behind = (
        loss(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction)) for s in (1, -1)
    )
    slope = jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, gradient, direction))
    np.testing.assert_allclose(slope, (ahead - behind) / 2, rtol=1e-3)


def test_gradients_of_the_network_are_finite():
    network = FNO(3, modes=(6, 6), channels=4, depth=2)
    x = jnp.zeros((2, 4, 8, 2))  # fewer rows than modes; and nothing but zeros
    params = network.init(jax.random.key(0), x, train=True)
    gradient = jit(jax.grad(lambda p, x: jnp.sum(network.apply(p, x, True) ** 2), (0, 1)))(
        params, x
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("size", [(5, 8), (8, 5), (1, 1)])
def test_odd_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"even, not {size[0]}x{size[1]}"):
        FNO(3).init(jax.random.key(0), jnp.zeros((1, *size, 2)), train=False)
