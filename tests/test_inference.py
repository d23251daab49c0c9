"""Networks prepared for sampling, compared with the networks of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmgm_jax.networks import FNO, AttentionUNet, PlainUNet, UNet, inference
from wmgm_jax.networks.layers import fold_batch_norm


def random_variables(init):
    """Random parameters and statistics with the shapes that `init` makes."""
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
            (AttentionUNet(9, channels=48, depth=2, norm="renorm"), 6),
            (AttentionUNet(9, channels=48, depth=2, norm="group"), 6),
            (PlainUNet(9, channels=48, depth=2), 6),
            (FNO(9, modes=(3, 3), channels=8, depth=2), 6),
        ],
        ids=["batch", "rematerialised", "renorm", "group", "plain", "FNO"],
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
        # Winograd's algorithm replaces convolutions exactly where the policy says so.
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
    params = fold_batch_norm(variables["params"], variables["batch_stats"])
    names = {key.key for path, _ in jax.tree_util.tree_leaves_with_path(params) for key in path}
    assert "BatchNorm_0" not in names
    # The original parameters are unchanged.
    assert "Norm_0" in variables["params"]["ConvBlock_0"]["NormalisedConv_0"]


def test_xla_computes_bfloat16():
    network = UNet(3, channels=48, multipliers=(1,), num_blocks=1, dtype=jnp.bfloat16)
    inputs = jnp.ones((2, 8, 8, 3)), jnp.ones(2)
    variables = random_variables(lambda key: network.init(key, *inputs))
    found = inference.prepared(network, variables, 64)(*inputs)
    np.testing.assert_array_equal(found, network.apply(variables, *inputs))
