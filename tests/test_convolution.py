"""Convolutions and their gradients, compared with the definition in float64."""

import functools
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmgm_jax.networks import AttentionUNet, Discriminator, UNet, convolution, policy, winograd
from wmgm_jax.networks.policy import Policy
from wmgm_jax.systems import cost

LAYOUT = ("NHWC", "HWIO", "NHWC")

# Here compiling takes longer than running does.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def definition(x, kernel, cotangent, stride=1):
    """The convolution with a pixel of zeros at every border, and its gradients, in float64."""
    x, kernel, cotangent = map(np.float64, (x, kernel, cotangent))
    height, width = x.shape[1:3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y, to_x, to_kernel = 0, np.zeros_like(x), np.zeros_like(kernel)
    for i, j in np.ndindex(3, 3):
        rows, columns = slice(i, i + height, stride), slice(j, j + width, stride)
        y += x[:, rows, columns] @ kernel[i, j]
        to_x[:, rows, columns] += cotangent @ kernel[i, j].T
        to_kernel[i, j] = np.einsum("bhwc,bhwd->cd", x[:, rows, columns], cotangent)
    return y, to_x[:, 1:-1, 1:-1], to_kernel


def normal(seed, *shapes):
    random = np.random.default_rng(seed)
    return [jnp.asarray(random.standard_normal(shape, np.float32)) for shape in shapes]


def with_gradients(function, **options):
    """(x, kernel, cotangent) -> the convolution and its gradients, jitted."""

    @jit
    def convolve(x, kernel, cotangent):
        y, transpose = jax.vjp(functools.partial(function, **options), x, kernel)
        return y, *transpose(cotangent)

    return convolve


def library(x, kernel, stride=1, padding=((1, 1), (1, 1))):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=LAYOUT
    )


def ours(x, kernel, stride=1, padding=((1, 1), (1, 1))):
    return convolution.convolve(x, kernel, (stride, stride), padding, dimension_numbers=LAYOUT)


shapes = st.tuples(*(st.integers(1, n) for n in (4, 9, 9, 3)))


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    shape=shapes,
    channels=st.integers(1, 3),
    bytes_at_once=st.sampled_from([1, 2**12, 2**24]),
    seed=st.integers(0, 2**31 - 1),
)
def test_winograd(shape, channels, bytes_at_once, seed):
    inputs = normal(seed, shape, (3, 3, shape[-1], channels), (*shape[:3], channels))
    with mock.patch.object(winograd, "CACHE_BYTES", bytes_at_once):
        found = with_gradients(winograd.convolution)(*inputs)
    for ours, exact in zip(found, definition(*inputs), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-6 * (1 + np.abs(exact).max()))


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    shape=shapes,
    channels=st.integers(1, 3),
    stride=st.integers(1, 3),
    seed=st.integers(0, 2**31 - 1),
)
def test_product_of_windows(shape, channels, stride, seed):
    results = (shape[0], -(-shape[1] // stride), -(-shape[2] // stride), channels)
    inputs = normal(seed, shape, (3, 3, shape[-1], channels), results)
    found = with_gradients(convolution.product_of_windows, stride=stride)(*inputs)
    for ours, exact in zip(found, definition(*inputs, stride), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-6 * (1 + np.abs(exact).max()))


def test_winograd_rounds_as_the_convolution_does():
    inputs = normal(0, (2, 8, 8, 256), (3, 3, 256, 8), (2, 8, 8, 8))
    exact = definition(*inputs)
    direct, minimal = (with_gradients(f)(*inputs) for f in (library, winograd.convolution))
    for theirs, ours, truth in zip(direct, minimal, exact, strict=True):
        errors = [np.sqrt(np.mean((np.float64(y) - truth) ** 2)) for y in (theirs, ours)]
        assert errors[1] < 4 * errors[0]
        assert errors[1] < 1e-6 * np.sqrt(np.mean(truth**2))


def convolutions_and_products(jitted, *inputs, platform="cpu"):
    """Numbers of convolutions and of matrix products in the lowered program."""
    text = jitted.trace(*inputs).lower(lowering_platforms=(platform,)).as_text()
    return text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")


SMALL_POLICY = Policy(
    product_channels=8,
    product_pixels=16,
    winograd_channels=4,
    winograd_tiles=18,
    winograd_flops=72 * 18 * 4 * 5,
)


@pytest.fixture
def small_policy():
    """The limits of real networks, for small ones."""
    with mock.patch.object(policy, "POLICY", SMALL_POLICY):
        yield


# Shape of the images, channels of the result, stride, number of matrix products on a CPU.
CHOICES = [
    ((3, 2, 2, 8), 9, 1, 1),
    ((2, 4, 4, 9), 8, 1, 1),
    ((2, 7, 6, 8), 12, 2, 1),
    ((2, 6, 6, 4), 5, 1, 16),
]


@pytest.mark.usefixtures("small_policy")
class TestConvolve:
    @pytest.mark.parametrize(("shape", "channels", "stride", "products"), CHOICES)
    def test_on_a_cpu_and_elsewhere(self, shape, channels, stride, products):
        results = (shape[0], -(-shape[1] // stride), -(-shape[2] // stride), channels)
        inputs = normal(1, shape, (3, 3, shape[-1], channels), results)
        function = jit(functools.partial(ours, stride=stride))
        assert convolutions_and_products(function, *inputs[:2]) == (0, products)
        assert convolutions_and_products(function, *inputs[:2], platform="tpu") == (1, 0)
        function = with_gradients(ours, stride=stride)
        assert convolutions_and_products(function, *inputs) == (0, 3 * products)
        assert convolutions_and_products(function, *inputs, platform="cuda") == (3, 0)
        found, expected = function(*inputs), with_gradients(library, stride=stride)(*inputs)
        for here, there in zip(found, expected, strict=True):
            np.testing.assert_allclose(here, there, rtol=0, atol=1e-5 * np.abs(there).max())

    @pytest.mark.parametrize(
        ("shape", "kernel", "stride", "padding"),
        [
            ((3, 2, 2, 8), (3, 3, 8, 7), 1, "SAME"),  # too few channels
            ((3, 5, 4, 8), (3, 3, 8, 8), 1, "SAME"),  # too many pixels, too few tiles
            ((4, 6, 6, 3), (3, 3, 3, 7), 1, "SAME"),
            ((2, 6, 6, 4), (3, 3, 4, 4), 1, "SAME"),  # too little work
            ((2, 4, 4, 8), (1, 1, 8, 8), 1, "SAME"),
            ((2, 4, 4, 8), (3, 3, 8, 8), 1, "VALID"),
            ((2, 4, 4, 8), (3, 3, 8, 8), 3, [(1, 1), (1, 1)]),
            # Padded at one side alone.
            ((2, 4, 4, 8), (3, 3, 8, 8), 2, "SAME"),
        ],
    )
    def test_xla_computes_the_rest(self, shape, kernel, stride, padding):
        inputs = normal(0, shape, kernel)
        function, original = (
            jit(functools.partial(f, stride=stride, padding=padding)) for f in (ours, library)
        )
        assert convolutions_and_products(function, *inputs) == (1, 0)
        np.testing.assert_array_equal(function(*inputs), original(*inputs))

    def test_xla_computes_bfloat16(self):
        inputs = [x.astype(jnp.bfloat16) for x in normal(0, (3, 2, 2, 8), (3, 3, 8, 8))]
        assert convolutions_and_products(jit(ours), *inputs) == (1, 0)

    @pytest.mark.parametrize(("shape", "channels", "stride", "products"), CHOICES)
    def test_gradient_of_a_gradient(self, shape, channels, stride, products):
        x, kernel = normal(2, shape, (3, 3, shape[-1], channels))
        kernel /= 9

        def penalty(function, x, kernel):
            gradient = jax.grad(lambda x: jnp.sum(jnp.sin(function(x, kernel, stride))))(x)
            return jnp.sum(gradient**2)

        found, expected = (
            jit(jax.grad(functools.partial(penalty, f), argnums=(0, 1)))(x, kernel)
            for f in (ours, library)
        )
        for here, there in zip(found, expected, strict=True):
            np.testing.assert_allclose(here, there, rtol=0, atol=1e-5 * np.abs(there).max())


PRODUCTS = Policy(product_channels=1, product_pixels=10**6)
WINOGRADS = Policy(winograd_channels=1, winograd_tiles=1, winograd_flops=0)


@pytest.mark.parametrize(
    ("network", "fast"),
    [
        (UNet(3, channels=8, multipliers=(1, 1), num_blocks=1, attention_levels=()), PRODUCTS),
        (AttentionUNet(3, channels=8, depth=2, norm="group", rematerialise=True), WINOGRADS),
        (Discriminator(channels=8, num_blocks=2), PRODUCTS),
    ],
    ids=["score", "generator", "discriminator"],
)
def test_networks_learn_the_same(network, fast):
    inputs = [normal(3, (4, 8, 6, 3))[0]]
    inputs += [jnp.linspace(0.0, 900.0, 4)] * isinstance(network, UNet)
    options = {"train": False} if isinstance(network, AttentionUNet) else {}
    shapes = jax.eval_shape(lambda key: network.init(key, *inputs, **options), jax.random.key(0))
    # No parameter is 0, as some are at initialisation.
    variables = jax.tree.map(lambda leaf: 0.1 + 0.1 * normal(4, leaf.shape)[0], shapes)

    def loss(variables):
        return jnp.mean(network.apply(variables, *inputs, **options) ** 2)

    def learn():
        gradient = jit(jax.grad(loss))
        return gradient(variables), convolutions_and_products(gradient, variables)[0]

    expected, convolutions = learn()
    with mock.patch.object(policy, "POLICY", fast):
        found, fewer = learn()
    assert fewer < convolutions
    for here, there in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-5 * np.abs(there).max() + 1e-7)


def test_flops_are_those_of_the_definition():
    inputs = normal(0, (8, 2, 2, 128), (3, 3, 128, 128))
    # Of the 9 pixels of a kernel, 4 lie on an image of 2x2, wherever it is centred.
    assert cost.flops(ours, *inputs) == 2 * 128 * 128 * 8 * 4 * 4
    assert jax.jit(ours).lower(*inputs).cost_analysis()["flops"] > 2 * 128 * 128 * 8 * 4 * 4
