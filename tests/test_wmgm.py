"""The system as pure functions: sampling, training and what both promise."""

import functools
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wmgm_jax
from tests.tiny import EVERY_PART, get_config
from wmgm_jax import runs, sampling, systems, wavelets
from wmgm_jax.config.validation import validate
from wmgm_jax.core.codec import IMAGES
from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.core.errors import UserError
from wmgm_jax.losses.energy_score import energy_score
from wmgm_jax.networks import PatchDiscriminator
from wmgm_jax.runs import untrained
from wmgm_jax.systems import scores
from wmgm_jax.systems.interface import Batch, Sampling
from wmgm_jax.systems.statistics import normalise_details
from wmgm_jax.training import parallel
from wmgm_jax.training import step as train_step
from wmgm_jax.training.optimizer import make_optimizer
from wmgm_jax.training.state import init_state


def tiny(**changes):
    config = get_config()
    config.update_from_flattened_dict(changes)
    return config


def random_images(count=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def random_params(config):
    """A model whose every parameter is random, so that no zero hides a path."""
    system = systems.build(config)
    params = {"statistics": system.compute_statistics([IMAGES.to_unit_range(random_images())])}
    for stage in system.stages.values():
        params |= stage.export(*untrained.parameters(stage))
    return params


@pytest.mark.parametrize("norm", ["batch", "renorm", "group"])
def test_an_image_does_not_depend_on_its_batch(norm):
    config = tiny(**EVERY_PART, **{"msal.generator.norm": norm})
    params, key = random_params(config), jax.random.key(5)
    sample_fn = wmgm_jax.make_sample_fn(config)
    many, one = sample_fn(params, key, 5), sample_fn(params, key, 1)
    assert many.shape == (5, 16, 16, 3)
    assert many.dtype == jnp.float32
    assert 0 <= many.min() < many.max() <= 1
    assert np.abs(many[0] - many[1]).max() > 0.05
    np.testing.assert_allclose(one[0], many[0], atol=2e-5)


def test_bfloat16_changes_little():
    params, key = random_params(tiny()), jax.random.key(5)
    images = {
        dtype: wmgm_jax.make_sample_fn(tiny(**{"sampling.dtype": dtype}))(params, key, 8)
        for dtype in ("", "float32", "bfloat16")
    }
    np.testing.assert_array_equal(images[""], images["float32"])
    difference = np.sqrt(np.mean((images["bfloat16"] - images["float32"]) ** 2))
    assert images["bfloat16"].dtype == jnp.float32
    # A level of 8 bits is 0.004.
    assert 1e-4 < difference < 0.01


def test_rebuilding_does_not_depend_on_the_batch():
    config = tiny()
    system, params = systems.build(config), random_params(config)
    images = IMAGES.to_unit_range(random_images(6))
    keys = jax.random.split(jax.random.key(0), 6)
    many = system.reconstruct(params, keys, images)
    alone = system.reconstruct(params, keys[3:4], images[3:4])
    np.testing.assert_allclose(alone[0], many[3], atol=2e-5)


def test_batches_spread_over_devices_hold_the_images_of_one_call():
    config = tiny()
    model = runs.Model(config, random_params(config), {})
    key = jax.random.key(1)
    batches = list(sampling.sample_batches(model, key, 19))
    assert [len(batch) for batch in batches] == [8, 8, 3]
    whole = wmgm_jax.make_sample_fn(config)(model.params, key, 19)
    np.testing.assert_allclose(np.concatenate(batches), whole, atol=2e-5)


def test_a_model_is_shown_in_one_line():
    model = runs.Model(tiny(), {"score": np.ones(10**6)}, {"score": 12})
    assert repr(model) == "Model(wmgm, 16x16x3, step={'score': 12})"


def test_wrong_arguments_are_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match="euler_maruyama"):
        wmgm_jax.make_sample_fn(tiny(), sampler="magic")
    with pytest.raises(ValueError, match="num_steps >= 1"):
        wmgm_jax.make_sample_fn(tiny(), num_steps=0)
    with pytest.raises(ValueError, match="spacing"):
        wmgm_jax.make_sample_fn(tiny(), spacing="cubic")


def test_a_sampler_brings_its_own_spacing(monkeypatch):
    asked = []
    nothing = functools.partial(lambda asked, sampling: asked.append(sampling), asked)
    system = types.SimpleNamespace(make_draw=nothing)
    monkeypatch.setattr(systems, "build", lambda config, dtype: system)
    config = tiny(**{"sampling.sampler": "ddim", "sampling.spacing": "quadratic"})
    for arguments in ({}, {"sampler": "ddim"}, {"sampler": "heun"}, {"spacing": "logsnr"}):
        wmgm_jax.make_sample_fn(config, 3, **arguments)
    assert [(s.sampler, s.spacing) for s in asked] == [
        ("ddim", "quadratic"),
        ("ddim", "quadratic"),
        ("heun", ""),
        ("ddim", "logsnr"),
    ]


def test_sample_fn_is_one_program():
    config = tiny()
    params, sample_fn = random_params(config), wmgm_jax.make_sample_fn(config)
    sample_fn(params, jax.random.key(0), 2)
    sample_fn(params, jax.random.key(1), 2)
    assert sample_fn._cache_size() == 1  # noqa: SLF001 - of JAX
    text = sample_fn.lower(params, jax.random.key(0), 2).as_text()
    assert "callback" not in text


def test_algorithm_2_by_hand():
    """One step, step by step: the coarsest band, then the details of scales 2 and 1."""
    settings = {
        "score.prediction": "noise",
        "sampling.num_steps": 1,
        "sampling.sampler": "euler_maruyama",
    }
    config = tiny(**EVERY_PART, **settings)
    params, key = random_params(config), jax.random.key(3)
    image = wmgm_jax.make_sample_fn(config)(params, key, 1)

    system = systems.build(config)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(1))
    fold = jax.vmap(jax.random.fold_in, (0, None))
    statistics = params["statistics"]
    model = system.coarsest.score
    process = model.process
    x = jax.random.normal(fold(fold(keys, 0), 2)[0], (4, 4, 3))[None]
    t = jnp.full(1, process.T)
    noise = model.network.apply({"params": params["score"]}, x, scores.noise_level(process, t))
    x = x + process.T * (x - 2 * noise / process.sigma(t))
    low = x * statistics["low_std"][2] + statistics["low_mean"][2]
    for k in (2, 1):
        z = jax.random.normal(fold(fold(keys, 1), k)[0], low.shape[1:])[None]
        normalised = (low - statistics["low_mean"][k]) / statistics["low_std"][k]
        output = system.msal.generator.network.apply(
            {"params": params["generator"], "batch_stats": params["batch_stats"][f"scale_{k}"]},
            jnp.concatenate([normalised, z], -1),
            False,
        )
        details = [output[..., 3 * i : 3 * i + 3] for i in range(3)]
        scaled = tuple(d * statistics["detail_std"][k - 1][i] for i, d in enumerate(details))
        low = wavelets.idwt2(low, scaled)
    np.testing.assert_allclose(image, jnp.clip((low + 1) / 2, 0, 1), atol=1e-5)


def test_details_leave_the_low_bands_as_they_are():
    config = tiny()
    params = random_params(config)
    images = IMAGES.to_unit_range(random_images(2))
    keys = jax.random.split(jax.random.key(0), 2)
    rebuilt = systems.build(config).reconstruct(params, keys, images)
    low, *_ = wavelets.wavedec2(images, 2)
    low_rebuilt, *_ = wavelets.wavedec2(rebuilt, 2)
    np.testing.assert_allclose(low_rebuilt, low, atol=1e-4)
    assert np.abs(rebuilt - images).max() > 0.1


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_the_score_of_white_data(prediction):
    """Under "velocity" a network of zeros is exact for N(0, I), whose score is -x."""
    config = tiny(**{"score.prediction": prediction})
    model = scores.build(config, "float32", "score", (4, 4, 3))
    score_fn = model.score_function(model.init(jax.random.key(0)))
    x, t = jax.random.normal(jax.random.key(1), (3, 4, 4, 3)), jnp.array([0.1, 1.0, 4.0])
    expected = -x if prediction == "velocity" else jnp.zeros_like(x)
    np.testing.assert_allclose(score_fn(x, t), expected, atol=1e-5)


def test_velocity_stands_for_the_noise():
    """With v = alpha eps - sigma x0 the score is that of the noise, whatever the schedule."""
    config = tiny(**{"score.prediction": "velocity", "process.schedule": "cosine"})
    process = scores.build(config, "float32", "score", (4, 4, 3)).process
    x0, noise = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 3))
    t = jnp.array([0.1, 0.4, 0.9])
    alpha, sigma = (f(t)[:, None, None, None] for f in (process.alpha, process.sigma))

    class Oracle:
        def apply(self, variables, x, level, dropout_keys=None):
            return alpha * noise - sigma * x0

    score_fn = scores.ScoreModel(Oracle(), process, "velocity", "paper", (4, 4, 3)).score_function(
        {}
    )
    np.testing.assert_allclose(score_fn(alpha * x0 + sigma * noise, t), -noise / sigma, atol=1e-5)


# --- training ------------------------------------------------------------------------------------


def train_steps(config, stage_name, count):
    """States before and after `count` steps on one device, and all metrics."""
    system = systems.build(config)
    stage = system.stages[stage_name]
    images = random_images(stage.settings.batch_size)
    statistics = system.compute_statistics([IMAGES.to_unit_range(images)])
    init = jax.jit(functools.partial(init_state, stage))
    first = init(statistics, jax.random.key(0))
    step_fns = {
        active: jax.pmap(train_step.make_train_step(stage, active), axis_name=BATCH_AXIS)
        for active in {train_step.active_terms(stage, step) for step in range(count)}
    }
    states, metrics = [parallel.replicate(first)], []
    for step in range(count):
        step_fn = step_fns[train_step.active_terms(stage, step)]
        state, values = step_fn(states[-1], images[None])
        states.append(state)
        metrics.append(values)
    return [jax.tree.map(lambda x: x[0], state) for state in states], metrics


def moved(before, after):
    return not jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before, after))


def test_each_objective_is_updated_when_it_is_active():
    config = tiny(**{"msal.loss": "paper", "msal.paper.discriminator_every": 2})
    states, metrics = train_steps(config, "msal", 3)
    for step, (before, after) in enumerate(itertools.pairwise(states)):
        assert moved(before.params["generator"], after.params["generator"])
        assert moved(before.params["discriminator"], after.params["discriminator"]) == (
            step % 2 == 0
        )
        assert ("discriminator_loss" in metrics[step]) == (step % 2 == 0)
    assert set(states[-1].ema[0]) == {"generator"}
    assert int(states[-1].step) == 3


@pytest.mark.parametrize(("learning", "shared"), [("standard", True), ("operator", False)])
def test_learning_without_a_discriminator(learning, shared):
    config = tiny(**{"msal.loss": "paper", "msal.learning": learning, "msal.shared": shared})
    (before, after), (metrics,) = train_steps(config, "msal", 1)
    assert set(after.params) == set(after.opt_state) == set(after.ema[0]) == {"generator"}
    assert moved(before.params["generator"], after.params["generator"])
    # Eq. 21 without its last term.
    expected = sum(
        20 * metrics[f"mse/scale_{k}"] + 0.5 * (1 - metrics[f"ssim/scale_{k}"]) for k in (1, 2)
    )
    np.testing.assert_allclose(metrics["generator_loss"], expected, rtol=1e-5)
    assert not any("critic" in name or "discriminator" in name for name in metrics)
    # Batch norm has statistics of its own at every scale; the Fourier neural operator has none.
    stats = after.batch_stats
    if learning == "standard":
        assert moved(stats["scale_1"], stats["scale_2"])
    else:
        assert stats == {"scale_1": {}, "scale_2": {}}

    # From the true low bands, and from a key alone.
    system = systems.build(config)
    params = system.stages["msal"].export(*after.ema) | {"statistics": after.statistics}
    images, keys = IMAGES.to_unit_range(random_images(3)), jax.random.split(jax.random.key(0), 3)
    rebuilt = jax.jit(system.reconstruct)(params, keys, images)
    np.testing.assert_allclose(wavelets.low(rebuilt, 2), wavelets.low(images, 2), atol=1e-4)
    assert np.abs(rebuilt - images).max() > 0.1
    calls = system.network_calls(Sampling.of(config))
    assert sum("generator" in call.network for call in calls) == 2
    params |= jax.eval_shape(system.stages["score"].init, keys[0])[0]
    sample_fn = wmgm_jax.make_sample_fn(config)
    drawn = jax.eval_shape(lambda params, key: sample_fn(params, key, 2), params, keys[0])
    assert drawn.shape == (2, 16, 16, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning": "magic"}, "msal.learning must be one of adversarial, standard, operator"),
        ({"fno.modes": (4, 8)}, r"msal.fno.modes must be .* below the sides \(8, 8\)"),
        ({"fno.modes": (0, 4)}, "msal.fno.modes must be two numbers of at least 1"),
        ({"fno.modes": (4,)}, "msal.fno.modes must be two numbers"),
        ({"unet.depth": 11}, "msal.unet.depth must be at most 10"),
    ],
)
def test_mistakes_of_learning_are_refused(changes, message):
    given = {"learning": "operator"} | changes
    with pytest.raises(UserError, match=message):
        validate(tiny(**{"msal.loss": "paper"}, **{f"msal.{k}": v for k, v in given.items()}))


def test_operator_learning_refuses_bands_of_odd_sides():
    sizes = {"data.image_size": (16, 12)}
    validate(tiny(**sizes))
    with pytest.raises(UserError, match=r"image_size must be divisible by .* = 8"):
        validate(tiny(**sizes, **{"msal.loss": "paper", "msal.learning": "operator"}))


def relativistic_step(**changes):
    """(losses, parameters by objective, batch-norm averages, a batch) of a small WMGM."""
    system = systems.build(tiny(**changes))
    images = IMAGES.to_unit_range(random_images(4))
    statistics = system.compute_statistics([images])
    batch = Batch(images, jax.random.split(jax.random.key(1), 4), statistics)
    return system.msal.losses, *system.stages["msal"].init(jax.random.key(0)), batch


def on_a_device(function):
    """Calls a function of no argument inside of the axis of the devices."""
    results = jax.vmap(lambda _: function(), axis_name=BATCH_AXIS)(jnp.zeros(1))
    return jax.tree.map(lambda x: x[0], results)


def test_relativistic_losses_of_a_step():
    """Both losses from the formulas in their docstring, of the logits that D gives."""
    losses, params, batch_stats, batch = relativistic_step(
        **EVERY_PART,
        **{"msal.relativistic.energy_weight": 3.0, "msal.relativistic.spread_weight": 5.0},
    )

    def of_device():
        logits = []
        for k, low, real, fake in losses.pairs(params, batch_stats, batch):
            critic = losses.critic(params, low, batch, k)
            logits.append((critic(real), critic(fake)))
        generator = losses.generator_loss(params, batch_stats, batch)
        return generator, losses.discriminator_loss(params, batch_stats, batch), logits

    (total, (terms, stats)), (d_total, _), logits = on_a_device(of_device)
    assert logits[0][0].shape == (4, 4, 4)  # [B, h, w] of 8x8 bands, two levels
    expected = sum(np.log1p(np.exp(np.float64(fake - real))).mean() for real, fake in logits)
    np.testing.assert_allclose(d_total, expected, rtol=1e-5)
    expected = sum(
        weight * terms[f"{name}/scale_{k}"]
        for name, weight in {"adversarial": 1, "energy_score": 3, "spread_error": 5}.items()
        for k in (1, 2)
    )
    assert min(terms[f"spread_error/scale_{k}"] for k in (1, 2)) > 1e-3
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert set(stats) == {"scale_1", "scale_2"}


def test_the_discriminator_sees_what_smooth_details_would_be():
    """Of an image that is a ramp, away from the borders, the details that it has."""
    system = systems.build(tiny())
    rows, columns = np.meshgrid(np.arange(16.0), np.arange(16.0), indexing="ij")
    image = np.stack([rows + 3 * columns, -2 * rows, columns], -1)[None].astype(np.float32)
    statistics = system.compute_statistics([IMAGES.to_unit_range(random_images(4))])
    for k in (1, 2):
        low, details = wavelets.pyramid(jnp.asarray(image), k)[-1]
        seen = system.msal.losses.condition(low, statistics, k)
        assert seen.shape == (1, 16 // 2**k, 16 // 2**k, 12)
        expected = np.concatenate(details, -1) / statistics["detail_std"][k - 1].reshape(-1)
        np.testing.assert_allclose(
            seen[:, 1:-1, 1:-1, 3:], expected[:, 1:-1, 1:-1], rtol=1e-4, atol=1e-3
        )
        expected = (low - statistics["low_mean"][k]) / statistics["low_std"][k]
        np.testing.assert_allclose(seen[..., :3], expected, rtol=1e-5)


def test_the_generator_is_judged_by_its_first_draw_against_the_truth(monkeypatch):
    """With draws and a discriminator that are known."""
    losses, params, batch_stats, batch = relativistic_step()
    first, second = {}, {}

    def draw(params, batch_stats, keys, low, statistics, k):
        assert len(keys) == len(low) == 8
        assert len(np.unique(jax.random.key_data(keys), axis=0)) == 8
        np.testing.assert_array_equal(low[:4], low[4:])
        shape = (4, *low.shape[1:3], 9)
        first[k], second[k] = (jax.random.normal(jax.random.key(i + k), shape) for i in (10, 20))
        return jnp.concatenate([first[k], second[k]]), {}

    monkeypatch.setattr(losses.generator, "draw", draw)
    monkeypatch.setattr(losses, "critic", lambda *args: lambda x: jnp.sum(x, axis=-1))
    _, (terms, _) = losses.generator_loss(params, batch_stats, batch)
    for k, (_, details) in losses.generator.pyramid(batch):
        real = normalise_details(details, batch.statistics, k)
        margin = np.sum(np.float64(real) - np.float64(first[k]), axis=-1)
        np.testing.assert_allclose(
            terms[f"adversarial/scale_{k}"], np.log1p(np.exp(margin)).mean(), rtol=1e-5
        )
        np.testing.assert_allclose(
            terms[f"energy_score/scale_{k}"], energy_score(first[k], second[k], real, 4), rtol=1e-5
        )
        np.testing.assert_allclose(
            terms[f"spread/scale_{k}"],
            np.var([first[k], second[k]], axis=0, ddof=1).mean(),
            rtol=1e-5,
        )


@pytest.mark.parametrize("every", [1, 4])
def test_penalties_are_of_true_and_of_generated_details(every, monkeypatch):
    """A discriminator that is |x|^2 / 2 a pixel has the gradient x. Lazy penalties count for the
    steps between them."""
    changes = {
        "msal.relativistic.penalty_every": every,
        "msal.relativistic.penalty_weight": 3.0,
    }
    losses, params, batch_stats, batch = relativistic_step(**changes)
    monkeypatch.setattr(losses, "critic", lambda *args: lambda x: jnp.sum(x**2, axis=-1) / 2)
    pairs = on_a_device(lambda: [pair[2:] for pair in losses.pairs(params, batch_stats, batch)])
    total, (metrics, _) = on_a_device(lambda: losses.penalties(params, batch_stats, batch))
    r1, r2 = (
        sum(np.mean(np.sum(np.float64(pair[i]) ** 2, axis=-1)) / 2 for pair in pairs)
        for i in (0, 1)
    )
    assert abs(r1 - r2) > 0.1 * r1
    np.testing.assert_allclose(metrics["r1"], r1, rtol=1e-4)
    np.testing.assert_allclose(metrics["r2"], r2, rtol=1e-4)
    np.testing.assert_allclose(total, 3 * every * (r1 + r2), rtol=1e-4)


def test_lazy_penalties_are_added_to_the_discriminator():
    stage = systems.build(tiny(**{"msal.relativistic.penalty_every": 2})).stages["msal"]
    regularizer = stage.regularizers["penalties"]
    assert (regularizer.objective, regularizer.every) == ("discriminator", 2)
    _, metrics = train_steps(tiny(**{"msal.relativistic.penalty_every": 2}), "msal", 3)
    assert ["r1" in step and "r2" in step for step in metrics] == [True, False, True]


def test_the_discriminator_of_details_sees_how_large_they_are():
    """It has no normalisation that would hide it, and judges every image by itself."""
    network = PatchDiscriminator(channels=4, num_levels=2)
    x = jax.random.normal(jax.random.key(0), (3, 7, 9, 5))
    variables = network.init(jax.random.key(1), x)
    logits = network.apply(variables, x)
    assert logits.shape == (3, 4, 5)
    np.testing.assert_allclose(network.apply(variables, x[1:2]), logits[1:2], atol=1e-5)
    assert np.abs(network.apply(variables, 2 * x) - 2 * logits).max() < 1e-4  # no bias yet
    assert np.abs(network.apply(variables, 2 * x) - logits).max() > 0.1


def test_noise_channels():
    one, two = tiny(), tiny(**{"msal.noise_per_channel": 2})
    shapes = [systems.build(config).msal.generator.example(1).shape for config in (one, two)]
    assert shapes == [(1, 8, 8, 6), (1, 8, 8, 9)]


def test_every_scale_has_batch_statistics_of_its_own():
    states, _ = train_steps(tiny(), "msal", 1)
    one, two = (states[-1].batch_stats[f"scale_{k}"] for k in (1, 2))
    assert moved(one, two)
    assert moved(states[0].batch_stats["scale_1"], one)


def test_one_generator_a_scale():
    """The paper's single-scale variant: twice the parameters, and scales that share none."""
    shared, single = tiny(), tiny(**{"msal.shared": False})

    def shapes(config):
        stage = systems.build(config).stages["msal"]
        return jax.eval_shape(stage.init, jax.random.key(0))[0]["generator"]

    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert size(shapes(single)) == 2 * size(shapes(shared))
    states, _ = train_steps(single, "msal", 1)
    assert moved(*(states[-1].params["generator"][f"scale_{k}"] for k in (1, 2)))


def test_the_moving_average():
    """decay = min(ema_decay, (1 + step) / (10 + step)), from the first parameters on."""
    states, _ = train_steps(tiny(), "score", 3)
    expected = states[0].params["score"]
    for step, state in enumerate(states[1:]):
        decay = (1 + step) / (10 + step)
        expected = jax.tree.map(
            lambda mean, new, decay=decay: decay * mean + (1 - decay) * new,
            expected,
            state.params["score"],
        )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-6),
        states[-1].ema[0]["score"],
        expected,
    )


def test_warmup_and_decay():
    settings = tiny().score.optimizer
    settings.update(
        {"warmup_steps": 4, "decay": "cosine", "learning_rate": 0.1, "clip_norm": 0.0, "b1": 0.0}
    )
    optimizer = make_optimizer(settings, num_steps=24)
    params = jnp.zeros(1)
    state, rates = optimizer.init(params), []
    for _ in range(24):
        # Adam's first moments aside, a constant gradient moves a parameter by the rate.
        update, state = optimizer.update(jnp.ones(1), state, params)
        rates.append(-float(update[0]))
    expected = [0.1 * (i + 1) / 4 for i in range(4)]
    expected += [0.05 * (1 + np.cos(np.pi * i / 20)) for i in range(20)]
    np.testing.assert_allclose(rates, expected, rtol=1e-3, atol=1e-6)


def test_clipping_bounds_the_gradient():
    settings = tiny().score.optimizer
    settings.update({"clip_norm": 1.0, "warmup_steps": 0, "eps": 1.0, "learning_rate": 1.0})
    optimizer = make_optimizer(settings, num_steps=10)
    params = jnp.zeros(2)
    update, _ = optimizer.update(jnp.array([300.0, 400.0]), optimizer.init(params), params)
    clipped = np.array([0.6, 0.8])
    np.testing.assert_allclose(update, -clipped / (clipped + 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("stage", "loss"), [("score", "paper"), ("score", "edm"), ("msal", "paper")]
)
def test_a_few_steps_lower_the_loss(stage, loss):
    """On one batch seen again and again."""
    config = tiny(
        **EVERY_PART,
        **{
            f"{stage}.loss": loss,
            "score.optimizer.learning_rate": 3e-3,
            "score.network.dropout": 0.0,
            "msal.paper.generator_optimizer.learning_rate": 3e-3,
            "msal.paper.adversarial_weight": 0.0,
            "msal.paper.discriminator_every": 1000,
        },
    )
    system = systems.build(config)
    built = system.stages[stage]
    images = np.broadcast_to(random_images(1), (8, 16, 16, 3))
    init = jax.jit(functools.partial(init_state, built))
    state = init(system.compute_statistics([IMAGES.to_unit_range(images)]), jax.random.key(0))
    state = parallel.replicate(state)
    objective = next(iter(built.objectives))
    step_fn = jax.pmap(train_step.make_train_step(built, (objective,)), axis_name=BATCH_AXIS)
    losses = []
    for _ in range(60):
        state, metrics = step_fn(state, images[None])
        losses.append(float(metrics[f"{objective}_loss"][0]))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
