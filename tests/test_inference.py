"""Networks prepared for sampling against the networks as they are trained."""

from unittest import mock

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from wmgm_jax.networks import (
    FNO,
    AttentionUNet,
    PlainUNet,
    UNet,
    inference,
    winograd,
)


def convolution(x, kernel):
    """In float64, channel by channel: no library's convolution of images."""
    result = np.zeros((*x.shape[:3], kernel.shape[3]))
    for b, c, d in np.ndindex(len(x), *kernel.shape[2:]):
        result[b, :, :, d] += scipy.signal.correlate2d(x[b, :, :, c], kernel[:, :, c, d], "same")
    return result


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    shape=st.tuples(*(st.integers(1, n) for n in (3, 9, 9, 3))),
    channels=st.integers(1, 3),
    bytes_at_once=st.sampled_from([1, 2**12, 2**24]),
    seed=st.integers(0, 2**31 - 1),
)
def test_winograd_is_the_convolution(shape, channels, bytes_at_once, seed):
    random = np.random.default_rng(seed)
    x, kernel = random.normal(size=shape), random.normal(size=(3, 3, shape[-1], channels))
    with mock.patch.object(winograd, "_BYTES_AT_ONCE", bytes_at_once):
        found = winograd.conv3x3(
            jnp.asarray(x, jnp.float32), winograd.transform_kernel(jnp.asarray(kernel, jnp.float32))
        )
    np.testing.assert_allclose(found, convolution(x, kernel), rtol=0, atol=2e-5)


def test_winograd_rounds_as_the_convolution_does():
    keys = jax.random.split(jax.random.key(0))
    x, kernel = (
        jax.random.normal(keys[0], (2, 8, 8, 256)),
        jax.random.normal(keys[1], (3, 3, 256, 8)),
    )
    exact = convolution(np.float64(x), np.float64(kernel))
    layout = ("NHWC", "HWIO", "NHWC")
    direct = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
    minimal = winograd.conv3x3(x, winograd.transform_kernel(kernel))
    errors = [np.sqrt(np.mean((np.float64(y) - exact) ** 2)) for y in (direct, minimal)]
    assert errors[1] < 4 * errors[0]
    assert errors[1] < 1e-6 * np.sqrt(np.mean(exact**2))


def random_variables(init):
    """Parameters and statistics of no special values, of the shapes that `init` makes."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        values = random.normal(size=leaf.shape) * 0.1
        is_variance = path[-1].key == "var"
        return jnp.asarray(1 + np.abs(values) if is_variance else values, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.key(0)))


def operations(jaxpr):
    """The names of all operations of a program."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from operations(inner)


class TestPrepared:
    @pytest.mark.parametrize(
        ("network", "channels"),
        [
            (AttentionUNet(9, channels=48, depth=3), 6),
            (AttentionUNet(9, channels=48, depth=2, rematerialise=True), 6),
            (AttentionUNet(9, channels=48, depth=2, norm="group"), 6),
            (PlainUNet(9, channels=48, depth=2), 6),
            (FNO(9, modes=(3, 3), channels=8, depth=2), 6),
        ],
        ids=["batch", "rematerialised", "group", "plain", "FNO"],
    )
    @pytest.mark.parametrize("images", [1, 64])
    def test_generators(self, network, channels, images):
        x = jax.random.normal(jax.random.key(1), (2, 20, 14, channels))
        variables = random_variables(lambda key: network.init(key, x, train=False))
        self.compare(network, variables, images, (x,), train=False)

    @pytest.mark.parametrize("images", [1, 64])
    def test_score_network(self, images):
        network = UNet(3, channels=48, multipliers=(1, 2), num_blocks=1, attention_levels=(1,))
        inputs = jax.random.normal(jax.random.key(1), (2, 10, 7, 3)), jnp.array([3.0, 700.0])
        variables = random_variables(lambda key: network.init(key, *inputs))
        self.compare(network, variables, images, inputs)

    def compare(self, network, variables, images, inputs, **flags):
        def program(variables, inputs):
            return inference.prepared(network, variables, images)(*inputs, **flags)

        expected = jax.jit(lambda variables: network.apply(variables, *inputs, **flags))(variables)
        found = jax.jit(program)(variables, inputs)
        assert found.dtype == expected.dtype
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
        # Neither is there for nothing.
        before, after = (
            list(operations(jax.make_jaxpr(f)(variables, inputs).jaxpr))
            for f in (lambda v, x: network.apply(v, *x, **flags), program)
        )
        convolutions = "conv_general_dilated"
        has_wide_ones = not isinstance(network, FNO | PlainUNet)
        assert (after.count(convolutions) < before.count(convolutions)) == (
            has_wide_ones and images == 64
        )


def test_folding_leaves_no_batch_norm():
    network = AttentionUNet(9, channels=8, depth=2)
    x = jnp.ones((1, 8, 8, 6))
    variables = random_variables(lambda key: network.init(key, x, train=False))
    params = inference.fold(variables["params"], variables["batch_stats"])
    names = {key.key for path, _ in jax.tree_util.tree_leaves_with_path(params) for key in path}
    assert "BatchNorm_0" not in names
    # What it was made from is as it was.
    assert "Norm_0" in variables["params"]["ConvBlock_0"]["NormalisedConv_0"]


def test_bfloat16_is_left_to_the_library():
    network = UNet(3, channels=48, multipliers=(1,), num_blocks=1, dtype=jnp.bfloat16)
    inputs = jnp.ones((2, 8, 8, 3)), jnp.ones(2)
    variables = random_variables(lambda key: network.init(key, *inputs))
    found = inference.prepared(network, variables, 64)(*inputs)
    np.testing.assert_array_equal(found, network.apply(variables, *inputs))
