"""The networks: size at paper scale, shapes, invariances, layers, and parameter paths."""

import collections
import functools
import itertools
import pathlib

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.networks import (
    FNO,
    AttentionUNet,
    DenoisingGenerator,
    Discriminator,
    PlainUNet,
    TimeDiscriminator,
    UNet,
)
from wmgm_jax.networks.attention_unet import AttentionGate
from wmgm_jax.networks.layers import (
    Dropout,
    Norm,
    SelfAttention,
    group_norm,
    max_pool,
    sinusoidal_embedding,
)
from wmgm_jax.networks.plain_unet import ConvBlock
from wmgm_jax.networks.unet_parts import upsample_bilinear

SMALL_UNET = UNet(
    out_channels=2, channels=16, multipliers=(1, 2), num_blocks=1, attention_levels=(1,)
)
SMALL_GENERATOR = AttentionUNet(out_channels=5, channels=8, depth=2)
SMALL_PLAIN_UNET = PlainUNet(out_channels=5, channels=8, depth=2)
SMALL_FNO = FNO(out_channels=5, modes=(4, 3), channels=8, depth=2)
SMALL_DISCRIMINATOR = Discriminator(channels=8, num_blocks=2)
NETWORKS = {
    "unet": SMALL_UNET,
    "generator, batch norm": SMALL_GENERATOR,
    "generator, group norm": SMALL_GENERATOR.clone(norm="group"),
    "plain U-Net": SMALL_PLAIN_UNET,
    "Fourier neural operator": SMALL_FNO,
    "discriminator": SMALL_DISCRIMINATOR,
}
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())

SHAPE = (4, 10, 6, 3)
LEVELS = jnp.linspace(0.0, 1000.0, 4)


# Here compiling takes longer than running does.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@functools.cache
def compiled(network):
    """`(variables, x [B, ...], level [B]) -> output` of any network, in inference.

    The level is for the U-Net alone.
    """
    if isinstance(network, UNet):
        return jit(network.apply)
    options = {} if isinstance(network, Discriminator) else {"train": False}
    return jit(lambda variables, x, level: network.apply(variables, x, **options))


def shapes_of(network, shape):
    """Abstract variables for images `[B, H, W, C]`."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    if isinstance(network, UNet):
        return jax.eval_shape(
            network.init, jax.random.key(0), x, jax.ShapeDtypeStruct(shape[:1], jnp.float32)
        )
    options = {} if isinstance(network, Discriminator) else {"train": False}
    return jax.eval_shape(functools.partial(network.init, **options), jax.random.key(0), x)


def random_variables(network, shape, seed=0):
    """Variables of which none is 0 or 1, as some are at initialisation, and all are of use."""
    generator = np.random.default_rng(seed)

    def draw(path, abstract):
        name, values = path[-1].key, generator.standard_normal(abstract.shape, np.float32)
        if name == "kernel":
            return values / np.sqrt(np.prod(abstract.shape[:-1]))
        return np.abs(1 + 0.2 * values) if name in ("scale", "var") else 0.2 * values

    return jax.tree_util.tree_map_with_path(draw, shapes_of(network, shape))


def parameter_count(network, shape):
    return sum(
        int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes_of(network, shape)["params"])
    )


# Size at paper scale


def test_parameters_of_wmgm():
    score = parameter_count(UNet(out_channels=3), (1, 32, 32, 3))
    generator = parameter_count(AttentionUNet(out_channels=9), (1, 32, 32, 6))
    assert score == 52_542_979
    assert generator == 36_471_600
    assert round((score + generator) / 1e6, 1) == 89.0
    assert parameter_count(Discriminator(), (1, 64, 64, 3)) == 42_632_257


def test_parameters_do_not_depend_on_the_norm():
    count = parameter_count(AttentionUNet(out_channels=9, norm="group"), (1, 32, 32, 6))
    assert count == 36_471_600


def test_parameters_of_table_2():
    """The paper counts 75,896,329 of its Fourier neural operator, and 36M of its U-Net."""
    assert parameter_count(FNO(out_channels=9), (1, 32, 32, 6)) == 75_896_329
    assert parameter_count(PlainUNet(out_channels=9), (1, 32, 32, 6)) == 36_294_921


def test_parameters_of_sgm():
    network = UNet(out_channels=3, multipliers=(1, 2, 2, 4, 4), attention_levels=(3, 4))
    assert round(parameter_count(network, (1, 128, 128, 3)) / 1e6, 1) == 160.3


def test_parameters_of_wsgm():
    shape = {"multipliers": (1, 2, 3, 4), "attention_levels": (3,)}
    low = parameter_count(UNet(out_channels=3, **shape), (1, 32, 32, 3))
    details = parameter_count(UNet(out_channels=9, **shape), (1, 32, 32, 12))
    assert low + 2 * details == pytest.approx(350.7e6, rel=5e-3)


def channels_last(*convolutions):
    """(out, in, side) of convolutions as shapes of Flax kernels."""
    return [(side, side, inputs, outputs) for outputs, inputs, side in convolutions]


def block_shapes(inputs, outputs):
    """A block: two normalised 3x3 convolutions by way of the mean number of channels, and a
    shortcut."""
    middle = (inputs + outputs) // 2
    kernels = channels_last((middle, inputs, 3), (outputs, middle, 3), (outputs, inputs, 1))
    # The bias of a convolution, the scale and the bias of its norm.
    return kernels + 3 * [(middle,), (outputs,)]


def gate_shapes(channels):
    half = channels // 2
    kernels = channels_last((half, channels, 1), (half, channels, 1), (1, half, 1))
    return kernels + 3 * [(half,), (half,), (1,)]


@pytest.mark.parametrize("norm", ["batch", "renorm", "group"])
def test_generator_has_the_authors_shapes(norm):
    expected = [(1, 1, 32, 9), (9,), *block_shapes(2 * 64, 32)]
    for inputs, outputs in ((6, 64), (64, 128), (128, 256), (256, 512), (512, 1024)):
        expected += block_shapes(inputs, outputs)
    # Up from the bottom, or from a gated skip beside a decoder of as many channels.
    for inputs, outputs in ((1024, 512), (2 * 512, 256), (2 * 256, 128), (2 * 128, 64)):
        expected += block_shapes(inputs, outputs) + gate_shapes(outputs)

    variables = shapes_of(AttentionUNet(out_channels=9, norm=norm), (1, 32, 32, 6))
    shapes = [leaf.shape for leaf in jax.tree.leaves(variables["params"])]
    assert collections.Counter(shapes) == collections.Counter(expected)


def test_plain_unet_has_the_layers_of_appendix_h():
    expected = [(1, 1, 64, 9), (9,)]
    # The encoder; then every decoder block takes as many channels from below as from the skip.
    levels = [(6, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    for inputs, outputs in levels + [(2 * c, c) for c in (64, 128, 256, 512)]:
        expected += [(2, 2, inputs, outputs), (4, 4, outputs, outputs), *6 * [(outputs,)]]
    for channels in (64, 128, 256, 512):
        expected += [(2, 2, 2 * channels, channels), (channels,)]
    variables = shapes_of(PlainUNet(out_channels=9), (1, 32, 32, 6))
    shapes = [leaf.shape for leaf in jax.tree.leaves(variables["params"])]
    assert collections.Counter(shapes) == collections.Counter(expected)


# Shapes


@pytest.mark.parametrize("size", [(10, 6), (5, 7), (1, 1)])
@pytest.mark.parametrize(
    "network",
    [
        SMALL_UNET,
        UNet(2, channels=16, multipliers=(1, 1, 2, 2), num_blocks=2, attention_levels=()),
        SMALL_GENERATOR,
        SMALL_GENERATOR.clone(depth=5, norm="group"),
        SMALL_PLAIN_UNET.clone(depth=5),
        SMALL_DISCRIMINATOR,
        SMALL_DISCRIMINATOR.clone(num_blocks=5),
    ],
)
def test_any_size_passes(network, size):
    shape = (2, *size, 3)
    variables = shapes_of(network, shape)
    x, level = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (shape, shape[:1]))
    output = jax.eval_shape(compiled(network), variables, x, level)
    assert output.dtype == jnp.float32
    if isinstance(network, Discriminator):
        assert output.shape == (2,)
    else:
        assert output.shape == (2, *size, network.out_channels)


# Invariances


@each_network
def test_an_image_does_not_see_its_batch(network):
    x, variables, run = normal(SHAPE), random_variables(network, SHAPE), compiled(network)
    together = run(variables, x, LEVELS)
    assert np.std(together) > 1e-2
    for i in range(len(x)):
        alone = run(variables, x[i : i + 1], LEVELS[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "network", [SMALL_UNET, SMALL_GENERATOR, SMALL_PLAIN_UNET, SMALL_FNO, SMALL_DISCRIMINATOR]
)
def test_bfloat16_computes_near_float32(network):
    x, variables = normal(SHAPE), random_variables(network, SHAPE)
    coarse = network.clone(dtype=jnp.bfloat16)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(shapes_of(coarse, SHAPE))}
    assert dtypes == {jnp.dtype("float32")}

    exact, rounded = (compiled(n)(variables, x, LEVELS) for n in (network, coarse))
    assert rounded.dtype == jnp.float32
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    # A bfloat16 number is off by 0.2% or so. More than nothing: it must have been used.
    assert 1e-3 < error < 0.03


def test_unet_predicts_zero_at_first():
    network = SMALL_UNET.clone(multipliers=(1,))

    # Of the whole initialisation, only what is asked for is compiled: the last layer.
    @jit
    def last_layer(key):
        params = network.init(key, normal(SHAPE), LEVELS)["params"]
        return params[max(name for name in params if name.startswith("Conv_"))]

    layer = last_layer(jax.random.key(0))
    assert layer["kernel"].shape == (3, 3, 16, 2)
    assert not np.any(layer["kernel"])
    assert not np.any(layer["bias"])


def test_unet_knows_the_noise_level():
    x = jnp.broadcast_to(normal((1, *SHAPE[1:])), SHAPE)
    output = compiled(SMALL_UNET)(random_variables(SMALL_UNET, SHAPE), x, LEVELS)
    output = np.reshape(output, (4, -1))
    for i, j in itertools.combinations(range(4), 2):
        assert np.linalg.norm(output[i] - output[j]) > 0.05 * np.linalg.norm(output[i])


def test_unet_attends_to_every_pixel():
    # At one level, convolutions alone would not reach from one corner to the other.
    network = SMALL_UNET.clone(multipliers=(1,), attention_levels=())
    x = normal((1, 24, 24, 3))
    variables = random_variables(network, x.shape)
    output, changed = (
        compiled(network)(variables, image, LEVELS[:1]) for image in (x, x.at[0, 0, 0].add(10.0))
    )
    assert np.all(output[0, -1, -1] != changed[0, -1, -1])


@pytest.mark.parametrize(
    "network",
    [SMALL_UNET, SMALL_GENERATOR, SMALL_PLAIN_UNET, SMALL_FNO],
    ids=["unet", "generator", "plain U-Net", "Fourier neural operator"],
)
def test_rematerialising_keeps_the_parameters(network):
    # A model is sampled without it whether or not it was trained with it.
    assert shapes_of(network.clone(rematerialise=True), SHAPE) == shapes_of(network, SHAPE)


def assert_same_with_and_without_rematerialisation(loss, variables):
    results = []
    for rematerialise in (False, True):
        value_and_grad = jax.value_and_grad(functools.partial(loss, rematerialise=rematerialise))
        assert ("remat" in str(jax.make_jaxpr(value_and_grad)(variables))) == rematerialise
        results.append(jit(value_and_grad)(variables))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), *results)


def test_unet_rematerialised_is_the_same():
    network = SMALL_UNET.clone(multipliers=(1,), num_blocks=0, dropout=0.2)
    x, keys = normal((2, 8, 8, 3)), jax.random.split(jax.random.key(1), 2)

    def loss(variables, rematerialise):
        apply = network.clone(rematerialise=rematerialise).apply
        return jnp.mean(apply(variables, x, LEVELS[:2], keys) ** 2)

    assert_same_with_and_without_rematerialisation(loss, random_variables(network, x.shape))


@pytest.mark.parametrize(
    "network",
    [SMALL_GENERATOR.clone(depth=1), SMALL_PLAIN_UNET.clone(depth=1), SMALL_FNO.clone(depth=1)],
    ids=["generator", "plain U-Net", "Fourier neural operator"],
)
def test_generator_rematerialised_is_the_same(network):
    x = normal((1, 2, 8, 8, 3))

    def loss(variables, rematerialise):
        apply = functools.partial(
            network.clone(rematerialise=rematerialise).apply,
            train=True,
            mutable=["batch_stats"],
        )
        output, updates = jax.vmap(apply, in_axes=(None, 0), axis_name=BATCH_AXIS)(variables, x)
        return jnp.mean(output**2) + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates))

    assert_same_with_and_without_rematerialisation(loss, random_variables(network, x.shape[1:]))


def test_blocks_of_the_plain_unet():
    """Even kernels shift an image by half a pixel each, the one up and the other down."""
    x = normal((2, 5, 6, 2))
    block = ConvBlock(3, jnp.float32)
    variables = random_variables(block, x.shape)
    actual = jit(functools.partial(block.apply, train=False))(variables, x)

    expected = np.float64(x)
    for i in range(2):
        params, statistics = (
            jax.tree.map(np.float64, variables[name][f"NormalisedConv_{i}"])
            for name in ("params", "batch_stats")
        )
        padded = np.pad(expected, ((0, 0), (1, 1), (1, 1), (0, 0)))
        kernel = params["Conv_0"]["kernel"]
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
        h = np.einsum("bhwcij,ijcd->bhwd", windows, kernel) + params["bias"]
        (norm,) = params["Norm_0"].values()
        (running,) = statistics["Norm_0"].values()
        h = (h - running["mean"]) / np.sqrt(running["var"] + 1e-5)
        expected = np.maximum(h * norm["scale"] + norm["bias"], 0)
    assert expected.shape == (2, 5, 6, 3)
    assert np.mean(expected > 0) > 0.2
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_plain_unet_layer_by_layer():
    network = SMALL_PLAIN_UNET
    x = normal((2, 5, 6, 3))
    variables = random_variables(network, x.shape)

    def block(h, i):
        of_block = {name: tree[f"ConvBlock_{i}"] for name, tree in variables.items()}
        channels = of_block["params"]["NormalisedConv_0"]["bias"].shape[0]
        return np.array(ConvBlock(channels, jnp.float32).apply(of_block, h, train=False))

    skip = block(x, 0)
    # Five rows halve to three, of which the last is alone.
    padded = np.pad(skip, ((0, 0), (0, 1), (0, 0), (0, 0)), mode="edge")
    low = block(padded.reshape(2, 3, 2, 3, 2, 8).max((2, 4)), 1)
    up = variables["params"]["ConvTranspose_0"]
    # Each pixel becomes four, by a matrix for each; Flax lists them from the last.
    high = np.einsum("bhwc,ijcd->bhiwjd", low, up["kernel"][::-1, ::-1]) + up["bias"]
    h = block(np.concatenate([skip, high.reshape(2, 6, 6, 8)[:, :5]], axis=-1), 2)
    out = variables["params"]["Conv_0"]
    expected = h @ out["kernel"][0, 0] + out["bias"]
    np.testing.assert_allclose(
        compiled(network)(variables, x, LEVELS), expected, rtol=1e-4, atol=1e-5
    )


# Dropout


def test_dropout_keeps_the_mean():
    x, keys = jnp.full((4, 50, 50, 8), 3.0), jax.random.split(jax.random.key(0), 4)
    y = np.array(Dropout(0.25).apply({}, x, keys))
    assert set(np.unique(y)) == {0.0, 4.0}
    deviation = np.sqrt(0.25 * 0.75 / y[0].size)
    np.testing.assert_allclose(np.mean(y == 0, axis=(1, 2, 3)), 0.25, atol=5 * deviation)
    np.testing.assert_array_equal(Dropout(0.25).apply({}, x, None), x)


@pytest.mark.parametrize(
    "network",
    [SMALL_UNET.clone(num_blocks=0, dropout=0.3), SMALL_DISCRIMINATOR],
    ids=["unet", "discriminator"],
)
def test_dropout_of_an_image_depends_on_its_own_key(network):
    x, variables = normal(SHAPE), random_variables(network, SHAPE)
    inputs = (variables, x, LEVELS) if isinstance(network, UNet) else (variables, x)
    run = jit(functools.partial(network.apply, *inputs))
    one, other = (jax.random.split(jax.random.key(seed), 4) for seed in (0, 1))
    first, mixed = run(one), run(jnp.concatenate([one[:1], other[1:2], one[2:]]))
    others = np.array([0, 2, 3])
    np.testing.assert_array_equal(mixed[others], first[others])
    assert np.all(mixed[1] != first[1])
    assert np.all(first != compiled(network)(variables, x, LEVELS))


def test_dropout_masks_differ_between_blocks():
    network = SMALL_UNET.clone(num_blocks=0, dropout=0.3)
    variables, keys = random_variables(network, SHAPE), jax.random.split(jax.random.key(0), 4)
    seen = []

    def record(next_method, arguments, options, context):
        if isinstance(context.module, Dropout):
            _, keys_of_block = arguments
            jax.debug.callback(seen.append, jax.random.key_data(keys_of_block))
        return next_method(*arguments, **options)

    with nn.intercept_methods(record):
        jit(network.apply)(variables, normal(SHAPE), LEVELS, keys)
    jax.effects_barrier()
    # Two blocks in the middle and two up, for each of four images.
    seen = np.concatenate(seen)
    assert seen.shape[0] == 4 * 4
    assert len(np.unique(seen, axis=0)) == len(seen)


# Layers


def test_sinusoidal_embedding():
    level = np.array([0.0, 0.3, 17.0, 999.0])
    embedding = sinusoidal_embedding(jnp.asarray(level, jnp.float32), 10)
    frequencies = 10000.0 ** (-np.arange(5) / 5)
    angles = level[:, None] * frequencies
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    # Angles of a thousand are known to 6e-5 in float32.
    np.testing.assert_allclose(embedding, expected, atol=2e-4)


def test_self_attention():
    x, heads = normal((2, 3, 4, 8)), 2
    network = SelfAttention(heads, jnp.float32)
    abstract = jax.eval_shape(network.init, jax.random.key(0), x)
    generator = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape, np.float32), abstract)
    actual = network.apply(params, x)

    norm, project, out = (params["params"][name] for name in ("GroupNorm_0", "Dense_0", "Dense_1"))
    # 8 channels are two groups of four.
    h = np.float64(x).reshape(2, 12, 2, 4)
    h = (h - h.mean((1, 3), keepdims=True)) / np.sqrt(h.var((1, 3), keepdims=True) + 1e-5)
    h = h.reshape(2, 12, 8) * norm["scale"] + norm["bias"]
    query, key, value = np.moveaxis(
        (h @ project["kernel"] + project["bias"]).reshape(2, 12, 3, heads, 4), 2, 0
    )
    logits = np.einsum("bihc,bjhc->bhij", query, key) / np.sqrt(4)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    h = np.einsum("bhij,bjhc->bihc", weights, value).reshape(2, 12, 8)
    expected = x + (h @ out["kernel"] + out["bias"]).reshape(2, 3, 4, 8)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "channels, groups", [(1, 1), (3, 1), (6, 1), (8, 2), (35, 7), (64, 16), (128, 32), (512, 32)]
)
def test_group_norm_has_groups_of_at_least_four_channels(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_batch_norm_averages_over_devices():
    x = 2.0 + 3.0 * normal((6, 4, 4, 3))
    norm = Norm("batch")
    variables = norm.init(jax.random.key(0), x, train=False)
    apply = functools.partial(norm.apply, variables, train=True, mutable=["batch_stats"])
    # Three devices of two images each, or one of all six.
    parallel = jit(jax.vmap(apply, axis_name=BATCH_AXIS))
    split, split_updates = parallel(x.reshape(3, 2, 4, 4, 3))
    whole, whole_updates = parallel(x[None])
    np.testing.assert_allclose(split.reshape(x.shape), whole[0], atol=1e-5)
    np.testing.assert_allclose(np.mean(whole, (0, 1, 2, 3)), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.var(whole, (0, 1, 2, 3)), 1.0, atol=1e-4)
    # 0.9 of what they were, 0.1 of the batch.
    expected = {
        "mean": 0.1 * np.mean(x, (0, 1, 2)),
        "var": 0.9 + 0.1 * np.var(np.float64(x), (0, 1, 2)),
    }
    for updates in (split_updates, whole_updates):
        (statistics,) = updates["batch_stats"].values()
        for name, value in expected.items():
            for device in statistics[name]:
                np.testing.assert_allclose(device, value, rtol=1e-4)


def renormalised(x, mean, var, devices=1):
    """Batch renorm in training, with running statistics, on `devices` devices; and its updates."""
    norm = Norm("renorm")
    variables = norm.init(jax.random.key(0), x, train=False)
    statistics = {"BatchNorm_0": {"mean": jnp.asarray(mean), "var": jnp.asarray(var)}}
    variables = {"params": variables["params"], "batch_stats": statistics}
    apply = functools.partial(norm.apply, train=True, mutable=["batch_stats"])
    parallel = jax.vmap(apply, axis_name=BATCH_AXIS, in_axes=(None, 0))
    y, updates = parallel(variables, x.reshape(devices, -1, *x.shape[1:]))
    sampled = norm.apply(variables, x, train=False)
    return y.reshape(x.shape), sampled, updates["batch_stats"]["BatchNorm_0"]


@pytest.mark.parametrize("devices", [1, 3])
def test_batch_renorm_trains_the_function_that_samples(devices):
    x = 2.0 + 3.0 * normal((6, 4, 4, 3))
    mean, var = np.float32([1.0, 2.5, 2.0]), np.float32([4.0, 9.0, 25.0])
    trained, sampled, updates = renormalised(x, mean, var, devices)
    np.testing.assert_allclose(sampled, (x - mean) / np.sqrt(var + 1e-5), atol=1e-5)
    np.testing.assert_allclose(trained, sampled, atol=1e-4)
    for name, old, new in (
        ("mean", mean, np.mean(x, (0, 1, 2))),
        ("var", var, np.var(np.float64(x), (0, 1, 2))),
    ):
        for device in updates[name]:
            np.testing.assert_allclose(device, 0.99 * old + 0.01 * new, rtol=1e-4)


def test_batch_renorm_limits_how_far_the_batch_may_be_off():
    x = 100.0 + 50.0 * normal((6, 4, 4, 3))
    trained, sampled, _ = renormalised(x, np.zeros(3, np.float32), np.ones(3, np.float32))
    np.testing.assert_allclose(np.mean(trained, (0, 1, 2)), 5.0, rtol=1e-4)
    np.testing.assert_allclose(np.std(trained, (0, 1, 2)), 3.0, rtol=1e-4)
    assert np.mean(sampled) > 90


def test_batch_renorm_has_the_gradient_of_batch_norm():
    """Which is that of the normalised batch, times r."""
    x, weights = 2.0 + 3.0 * normal((6, 4, 4, 3)), normal((6, 4, 4, 3), seed=1)
    var = np.float32([4.0, 9.0, 25.0])

    def through(normalise):
        return jax.grad(lambda x: jnp.sum(weights * normalise(x)))(x)

    batch = through(lambda x: (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5))
    r = np.sqrt(np.var(np.float64(x), (0, 1, 2)) / var)
    given = through(lambda x: renormalised(x, np.full(3, 2, np.float32), var)[0])
    np.testing.assert_allclose(given, batch * r, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "renorm", "group"])
def test_attention_gate_weighs_each_pixel_between_0_and_1(norm):
    decoder, skip = normal((2, 5, 6, 8), seed=1), normal((2, 5, 6, 8), seed=2)
    gate = AttentionGate(norm, jnp.float32)
    variables = jit(functools.partial(gate.init, train=False))(jax.random.key(0), decoder, skip)
    apply = jit(functools.partial(gate.apply, variables, train=False))
    gated = apply(decoder, skip)
    psi = np.array(gated / skip)
    assert np.all((psi > 0) & (psi < 1))
    assert np.std(psi[..., 0]) > 0.05
    # One number a pixel, for all its channels.
    np.testing.assert_allclose(psi, np.broadcast_to(psi[..., :1], psi.shape), rtol=1e-4)
    # That both the decoder and the skip decide.
    for other in ((decoder[::-1], skip), (decoder, skip[::-1])):
        assert np.all(np.std(apply(*other) / other[1] - psi) > 0.01)


def test_upsample_is_bilinear_between_pixel_centres():
    # New centres lie a quarter of a pixel from the old ones; the border repeats.
    line = upsample_bilinear(jnp.array([0.0, 4.0, 8.0]).reshape(1, 1, 3, 1))
    for row in line[0, :, :, 0]:
        np.testing.assert_allclose(row, [0.0, 1.0, 3.0, 5.0, 7.0, 8.0])
    x = normal((2, 5, 7, 3))
    expected = scipy.ndimage.zoom(
        np.float64(x), (1, 2, 2, 1), order=1, mode="nearest", grid_mode=True
    )
    np.testing.assert_allclose(upsample_bilinear(x), expected, atol=1e-6)


def test_max_pool_rounds_up():
    x = -jnp.arange(1.0, 16.0).reshape(1, 3, 5, 1)
    # The last row and column stand alone: nothing outside the image counts, not even a 0.
    np.testing.assert_array_equal(max_pool(x)[0, :, :, 0], [[-1, -3, -5], [-11, -13, -15]])


# Checkpoints

SMALL_DENOISER = DenoisingGenerator(
    4, channels=8, multipliers=(1, 2), num_blocks=1, attention_levels=(1,), mapping_layers=1
)
SMALL_TIME_DISCRIMINATOR = TimeDiscriminator(channels=8, num_blocks=2, embedding_size=8)


def test_parameters_keep_their_paths_and_shapes():
    """A network with other paths or shapes would not load the checkpoints that exist."""
    images, numbers = jnp.zeros((2, 16, 8, 4)), jnp.zeros(2)
    latents = jnp.zeros((2, 6))
    cases = {
        "unet": (SMALL_UNET, images, numbers),
        "generator, batch norm": (SMALL_GENERATOR, images, False),
        "generator, group norm": (SMALL_GENERATOR.clone(norm="group"), images, False),
        "plain U-Net": (SMALL_PLAIN_UNET, images, False),
        "Fourier neural operator": (SMALL_FNO, images, False),
        "discriminator": (SMALL_DISCRIMINATOR, images),
        "denoising generator": (SMALL_DENOISER, images, latents, numbers),
        "time discriminator": (SMALL_TIME_DISCRIMINATOR, images, images, numbers),
    }
    lines = []
    for name, (network, *inputs) in cases.items():
        init = functools.partial(network.init, jax.random.key(0))
        shapes = jax.eval_shape(lambda init=init, inputs=inputs: init(*inputs))
        for path, leaf in flax.traverse_util.flatten_dict(shapes, sep="/").items():
            lines.append(f"{name}: {path} {list(leaf.shape)}")
    stored = pathlib.Path(__file__).with_name("parameter_paths.txt").read_text().splitlines()
    assert sorted(lines) == stored
