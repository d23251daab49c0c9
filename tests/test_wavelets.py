"""The transforms against PyWavelets in float64, and against what an orthonormal transform is."""

import jax
import jax.numpy as jnp
import jaxwt
import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st

from wmgm_jax import wavelets

AXES = (-3, -2)
OTHER_WAVELETS = ("db2", "sym4", "bior2.2")

# The same examples on every run; each new shape is compiled, which takes too long for a deadline.
properties = settings(max_examples=6, deadline=None, derandomize=True)

wavedec2 = jax.jit(wavelets.wavedec2, static_argnames=("levels", "wavelet"))
waverec2 = jax.jit(wavelets.waverec2, static_argnames="wavelet")


@st.composite
def shapes_and_levels(draw):
    """`[..., H, W, C]` of at most two batch axes, and a number of levels that it admits."""
    levels = draw(st.integers(1, 4))
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    height, width = (2**levels * draw(st.integers(1, 3)) for _ in range(2))
    return (*batch, height, width, draw(st.integers(1, 4))), levels


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def assert_close(actual, expected, atol):
    """The same tree, the same shapes, and every value within `atol`."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=atol)


def inner_product(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def normal_like(tree, seed=1):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda x: generator.standard_normal(x.shape, np.float32), tree)


def test_one_block_by_hand():
    block = jnp.array([[1.0, 2.0], [3.0, 5.0]])[..., None]
    ll, (lh, hl, hh) = wavelets.dwt2(block)
    # Half of the sum, of top less bottom, of left less right, and of one diagonal less the other.
    assert (ll.item(), lh.item(), hl.item(), hh.item()) == (5.5, -2.5, -1.5, 0.5)


@properties
@given(shapes_and_levels())
def test_reconstructs(case):
    shape, levels = case
    x = normal(shape)
    assert_close(waverec2(wavedec2(x, levels)), x, atol=4e-6)


@properties
@given(shapes_and_levels())
def test_keeps_energy(case):
    shape, levels = case
    x = normal(shape)
    bands = [np.float64(band) for band in jax.tree.leaves(wavedec2(x, levels))]
    energy = sum(np.sum(band**2) for band in bands)
    assert energy == pytest.approx(np.sum(np.float64(x) ** 2), rel=1e-6)


@properties
@given(shapes_and_levels(), st.floats(-2, 2), st.floats(-2, 2))
def test_is_linear(case, a, b):
    shape, levels = case
    x = normal(shape)
    y = normal(shape, seed=1)
    a, b = np.float32(a), np.float32(b)
    separate = jax.tree.map(lambda p, q: a * p + b * q, wavedec2(x, levels), wavedec2(y, levels))
    assert_close(wavedec2(a * x + b * y, levels), separate, atol=1e-5)


@properties
@given(shapes_and_levels())
def test_equals_pywavelets_both_ways(case):
    shape, levels = case
    x = normal(shape)
    expected = pywt.wavedec2(np.float64(x), "haar", level=levels, axes=AXES)
    assert_close(wavedec2(x, levels), expected, atol=4e-6)
    # Coefficients of no image: the inverse must be right by itself.
    coefficients = normal_like(expected)
    assert_close(waverec2(coefficients), pywt.waverec2(coefficients, "haar", axes=AXES), atol=1e-5)


@properties
@given(shapes_and_levels())
def test_equals_jaxwt(case):
    shape, levels = case
    x = normal(shape)
    expected = jaxwt.wavedec2(jnp.asarray(x), "haar", level=levels, axes=AXES)
    assert_close(wavedec2(x, levels), expected, atol=1e-5)


@properties
@given(shapes_and_levels())
def test_transpose_is_the_inverse(case):
    shape, levels = case
    x = normal(shape)
    c = normal_like(jax.eval_shape(lambda x: wavelets.wavedec2(x, levels), x))
    gradient = jax.jit(jax.grad(lambda x: inner_product(wavelets.wavedec2(x, levels), c)))(x)
    assert_close(gradient, wavelets.waverec2(c), atol=1e-5)
    # And the other way round: the gradient of <waverec2(c), x> in c is wavedec2(x).
    gradient = jax.jit(jax.grad(lambda c: jnp.vdot(wavelets.waverec2(c), x)))(c)
    assert_close(gradient, wavelets.wavedec2(x, levels), atol=1e-5)


@properties
@given(shapes_and_levels())
def test_bfloat16_stays_so_and_is_near_float32(case):
    shape, levels = case
    x = normal(shape)
    x = jnp.asarray(x, jnp.bfloat16)
    exact = wavedec2(x.astype(jnp.float32), levels)
    rounded = wavedec2(x, levels)
    rebuilt = waverec2(rounded)
    assert all(band.dtype == jnp.bfloat16 for band in jax.tree.leaves([rounded, rebuilt]))

    # A level adds twice, each time with a relative error of at most 2^-8 of a sum that the low
    # band of |x| bounds; halving is exact.
    bounds, magnitude = [], np.abs(np.float64(x))
    for level in range(1, levels + 1):
        magnitude, _ = pywt.dwt2(magnitude, "haar", axes=AXES)
        bound = 1.1 * 2 * level * 2.0**-8 * magnitude
        bounds = [(bound, bound, bound), *bounds]
    errors = jax.tree.map(lambda p, q: np.abs(np.float64(p) - np.float64(q)), rounded, exact)
    within = jax.tree.map(
        lambda error, bound: bool(np.all(error <= bound)), errors, [bound, *bounds]
    )
    assert all(jax.tree.leaves(within)), within


@pytest.mark.parametrize("levels", [1, 3])
def test_jit_and_vmap_change_nothing(levels):
    x = normal((3, 8, 24, 2))
    expected = wavelets.wavedec2(jnp.asarray(x), levels)
    assert_close(wavedec2(x, levels), expected, atol=1e-6)
    assert_close(jax.vmap(lambda x: wavelets.wavedec2(x, levels))(x), expected, atol=1e-6)
    one_channel_each = jax.vmap(
        lambda x: wavelets.wavedec2(x[..., None], levels), in_axes=-1, out_axes=-1
    )(x)
    one_channel_each = jax.tree.map(lambda band: band[..., 0, :], one_channel_each)
    assert_close(one_channel_each, expected, atol=1e-6)
    assert_close(jax.vmap(wavelets.waverec2)(expected), x, atol=4e-6)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_constant_image_is_all_in_the_low_band(levels):
    low, *details = wavelets.wavedec2(jnp.full((2, 32, 16, 3), 0.3), levels)
    np.testing.assert_allclose(low, 2**levels * 0.3, rtol=1e-6)
    for band in jax.tree.leaves(details):
        np.testing.assert_array_equal(band, 0.0)


@pytest.mark.parametrize("wavelet", OTHER_WAVELETS)
@pytest.mark.parametrize("shape", [(48, 40, 3), (2, 40, 48, 1), (2, 2, 40, 40, 2)])
def test_other_wavelets_equal_pywavelets(wavelet, shape):
    x = normal(shape)
    coefficients = wavedec2(x, levels=2, wavelet=wavelet)
    expected = pywt.wavedec2(np.float64(x), wavelet, mode="symmetric", level=2, axes=AXES)
    assert_close(coefficients, expected, atol=3e-6)
    assert_close(waverec2(coefficients, wavelet=wavelet), x, atol=3e-6)


def test_other_wavelets_round_an_odd_size_up():
    x = normal((31, 33, 2))
    rebuilt = waverec2(wavedec2(x, levels=1, wavelet="db2"), wavelet="db2")
    assert rebuilt.shape == (32, 34, 2)
    assert_close(rebuilt[:31, :33], x, atol=3e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: wavelets.dwt2(jnp.zeros((4, 4))), "expects .*got shape"),
        (lambda: wavelets.dwt2(jnp.zeros((5, 4, 3))), "even; got 5x4"),
        (lambda: wavelets.dwt2(jnp.zeros((2, 4, 7, 3))), "even; got 4x7"),
        (lambda: wavelets.wavedec2(jnp.zeros((4, 4)), 1), "expects .*got shape"),
        (lambda: wavelets.wavedec2(jnp.zeros((4, 4, 3)), 0), "levels >= 1, got 0"),
        (lambda: wavelets.wavedec2(jnp.zeros((8, 12, 3)), 3), "divisible by 8; got 8x12"),
        (lambda: wavelets.wavedec2(jnp.zeros((12, 8, 3)), 3), "divisible by 8; got 12x8"),
    ],
)
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
