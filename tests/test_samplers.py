"""The samplers against the Gaussian case, where what they must return is known exactly.

For data N(0, diag(lambda)) the score is -x / (alpha^2 lambda + sigma^2), every sampler is linear,
and the variance of every coordinate of its result follows a recursion of its own, here in float64:
`experiments/linear_samplers.py`, and for Euler-Maruyama, whose steps depend on the schedule, below.
"""

import functools
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import linear_samplers
from experiments.followed_paths import second_order_weights
from wmgm_jax.diffusion import samplers
from wmgm_jax.diffusion.process import SPACINGS, OUProcess

# Condition number 1e5.
EIGENVALUES = np.geomspace(1e-3, 1e2, 64)

# Of the coarsest band of real faces.
MEASURED = np.load(
    Path(__file__).parents[1] / "experiments/results/few_steps/spectra.npz", allow_pickle=False
)["faces128, scale 2"]

each_schedule = pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
each_sampler = pytest.mark.parametrize("name", samplers.SAMPLERS)


def spacings(num_steps):
    """Those that have a grid of so many steps."""
    searched = num_steps in samplers.SAMPLERS["multistep"].num_steps
    return [spacing for spacing in SPACINGS if spacing != "multistep" or searched]


def steps_of(name, wanted):
    """As many steps as wanted, or what the sampler can take."""
    return (samplers.SAMPLERS[name].num_steps or (wanted,))[0]


stochastic = pytest.mark.parametrize("name", ["euler_maruyama", "ancestral"])


def alpha_and_g_squared(schedule, t):
    if schedule == "constant":
        return np.exp(-t), 1.0
    if schedule == "linear":
        return np.exp(-(0.1 * t + 19.9 * t**2 / 2) / 2), (0.1 + 19.9 * t) / 2
    rate = np.pi / 2 / 1.008
    angle = rate * (t + 0.008)
    return np.cos(angle) / np.cos(rate * 0.008), rate * np.tan(angle)


def euler_maruyama_variance(schedule, times, eigenvalues=EIGENVALUES):
    """Of each coordinate of the result, from x_T ~ N(0, I)."""
    times = np.float64(times)
    variance = np.ones_like(eigenvalues)
    for i, (t, dt) in enumerate(zip(times[:-1], times[:-1] - times[1:], strict=True)):
        alpha, g_squared = alpha_and_g_squared(schedule, t)
        marginal = alpha**2 * eigenvalues + (1 - alpha**2)
        variance = (1 + g_squared * dt * (1 - 2 / marginal)) ** 2 * variance
        if i < len(times) - 2:
            variance += 2 * dt * g_squared
    return variance


def expected_variance(name, schedule, times):
    if name == "euler_maruyama":
        return euler_maruyama_variance(schedule, times)
    alpha = [alpha_and_g_squared(schedule, np.float64(t))[0] for t in times]
    return linear_samplers.SAMPLERS[name](-np.log(alpha), EIGENVALUES)


def gaussian_score(process, eigenvalues=EIGENVALUES):
    eigenvalues = jnp.asarray(eigenvalues, jnp.float32)

    def score_fn(x, t):
        alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
        return -x / (alpha**2 * eigenvalues + sigma**2)

    return score_fn


@functools.partial(jax.jit, static_argnames=("name", "process", "count"))
def draw(name, process, times, key, count):
    """`[count, len(EIGENVALUES)]` samples."""
    shape = (count, len(EIGENVALUES))
    return samplers.sample(name, gaussian_score(process), process, times, key, shape)


@pytest.fixture
def exact_variance(monkeypatch):
    """The variance of a linear sampler's result from its responses to impulses, free of chance.

    The result is a sum of the normal draws, each times a coefficient. Where draw number j (the
    start is one of them) is 1 in image j and 0 in all others, image j is the coefficient of draw
    j, and the variance is the sum of the squares.
    """

    def impulse(index, shape):
        at_index = jnp.arange(shape[0]) == index
        return jnp.broadcast_to(jnp.where(at_index, 1.0, 0.0)[:, None], shape)

    monkeypatch.setattr(samplers, "fold_in", lambda key, data: data)
    monkeypatch.setattr(samplers, "normal", impulse)

    @functools.partial(jax.jit, static_argnames=("name", "process", "size"))
    def responses(name, process, times, eigenvalues, size):
        score_fn = gaussian_score(process, eigenvalues)
        shape = (len(times) + 1, size)
        return samplers.sample(name, score_fn, process, times, jax.random.key(0), shape)

    def variance(name, process, times, eigenvalues=EIGENVALUES):
        drawn = responses(name, process, times, eigenvalues, len(eigenvalues))
        return np.sum(np.float64(drawn) ** 2, axis=0)

    return variance


def test_recursion_has_the_closed_form_of_white_data():
    # The oracle's own check. White data have marginal 1 at every time, so that with g = 1 a step
    # is v <- (1 - dt)^2 v + 2 dt: a geometric approach to 1 / (1 - dt / 2).
    num_steps, T = 10, 5.0
    dt = T / num_steps
    times = np.linspace(T, 0, num_steps + 1)
    limit = 1 / (1 - dt / 2)
    before_last = limit + (1 - limit) * (1 - dt) ** (2 * (num_steps - 1))
    variance = euler_maruyama_variance("constant", times, np.ones(1))
    assert variance[0] == pytest.approx((1 - dt) ** 2 * before_last, rel=1e-12)


@each_schedule
@pytest.mark.parametrize(
    ("name", "num_steps"),
    [
        (name, num_steps)
        for name, sampler in samplers.SAMPLERS.items()
        for num_steps in sampler.num_steps or (1, 2, 4, 5, 32)
    ],
)
def test_variance_is_exact(exact_variance, name, schedule, num_steps):
    process = OUProcess(schedule)
    for spacing in spacings(num_steps):
        times = process.times(num_steps, spacing)
        expected = np.sqrt(expected_variance(name, schedule, times))
        found = np.sqrt(exact_variance(name, process, times))
        # At T little of x is data, and float32 knows the data to some 1e-5 of the largest.
        np.testing.assert_allclose(found, expected, rtol=3e-4, atol=5e-5 * expected.max())


# The relative squared Wasserstein-2 error that each is known to reach: `linear-beta` is a grid
# uniform in the time of the linear schedule, for the papers' process.
KNOWN_ERRORS = [
    ("euler_maruyama", "uniform", {4: 0.674, 8: 0.210, 16: 0.085, 32: 0.031, 256: 0.0017}),
    ("euler_maruyama", "linear-beta", {4: 0.196, 8: 0.105, 16: 0.043, 32: 0.015, 256: 0.0003}),
    ("ancestral", "linear-beta", {4: 0.213, 8: 0.094, 16: 0.033, 32: 0.011, 256: 0.0003}),
    ("ddim", "quadratic", {4: 0.135, 8: 0.045, 16: 0.014, 32: 0.004, 256: 0.0001}),
    ("dpmpp_2m", "logsnr", {4: 0.024, 6: 0.0014, 8: 0.0008}),
    ("dpmpp_2m", "optimal", {4: 0.0197, 5: 0.0061, 6: 0.00044, 8: 0.00011, 16: 0.0004}),
    ("multistep", "multistep", {4: 0.0008}),
]


@pytest.mark.parametrize(("name", "spacing", "known"), KNOWN_ERRORS)
def test_few_steps_reach_the_known_errors(exact_variance, name, spacing, known):
    process = OUProcess(T=4.0 if spacing == "logsnr" else 5.0)
    for num_steps, bound in known.items():
        if spacing == "linear-beta":
            linear = OUProcess("linear")
            times = np.append(linear.integral(linear.times(num_steps)[:-1]), 0.0)
        else:
            # The last noise level before 0: B = 0.03 of four steps, 0.003 of more.
            sigma_min = np.sqrt(-np.expm1(-2 * (0.03 if num_steps == 4 else 0.003)))
            times = process.times(num_steps, spacing, sigma_min)
        variance = exact_variance(name, process, times, MEASURED)
        error = linear_samplers.relative_error(variance, MEASURED)
        # The bounds are rounded, and of another estimate of the same spectrum.
        assert error < 1.03 * bound + 5e-5, (num_steps, error)
        assert error > 0.5 * bound or spacing in ("optimal", "multistep"), (num_steps, error)


def test_four_evaluations_pass_sixteen_of_euler_maruyama_and_six_256(exact_variance):
    process = OUProcess("constant", T=5.0)

    def error(name, num_steps, spacing):
        variance = exact_variance(name, process, process.times(num_steps, spacing), MEASURED)
        return linear_samplers.relative_error(variance, MEASURED)

    for name, few, many, ratio in (
        ("dpmpp_2m", 4, 16, 0.25),
        ("dpmpp_2m", 6, 256, 1.0),
        ("multistep", 4, 256, 1.0),
    ):
        bound = ratio * error("euler_maruyama", many, "uniform")
        assert error(name, few, samplers.SAMPLERS[name].spacing) < bound


ONLY_POINT = np.linspace(-2, 2, 5, dtype=np.float32)


# One program for all examples.
@functools.partial(jax.jit, static_argnames="name")
def draw_without_variance(name, times, key):
    """Where all data are m, the score is -(x - alpha m) / sigma^2 and every denoised x is m."""
    process = OUProcess()

    def score_fn(x, t):
        alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
        return -(x - alpha * ONLY_POINT) / sigma**2

    return samplers.sample(name, score_fn, process, times, key, (3, 5))


@pytest.mark.parametrize("name", [n for n in samplers.SAMPLERS if n != "euler_maruyama"])
@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(
    grid=st.lists(st.floats(0.0625, 5.0, width=32), min_size=4, max_size=4, unique=True),
    seed=st.integers(0, 2**31 - 1),
)
def test_data_without_variance_are_found_on_any_grid(name, grid, seed):
    times = np.array([*sorted(grid, reverse=True), 0.0], np.float32)
    hypothesis.assume(np.all(times[:-2] / times[1:-1] > 1.01))
    x = draw_without_variance(name, times, jax.random.key(seed))
    # float32 sees alpha m beside sigma eps.
    expected = np.broadcast_to(ONLY_POINT, (3, 5))
    np.testing.assert_allclose(x, expected, atol=1e-6 * np.exp(times[0]) + 1e-5)


@each_schedule
def test_error_falls_with_the_square_of_the_step(exact_variance, schedule):
    # Late enough an end that what x_T lacks of the data does not show beside the steps' error.
    process = OUProcess(schedule, T={"constant": 5.0, "linear": 1.0, "cosine": 0.98}[schedule])
    errors = [
        linear_samplers.relative_error(
            exact_variance("euler_maruyama", process, process.times(num_steps)), EIGENVALUES
        )
        for num_steps in (16, 64, 256)
    ]
    # A first-order method: a quarter of the step leaves a quarter of the error in the standard
    # deviation, in the limit, and a sixteenth of its square.
    assert errors[1] < errors[0] / 10
    assert errors[2] < errors[1] / 12


@pytest.mark.parametrize(
    ("name", "schedule", "spacing"),
    [
        ("euler_maruyama", "constant", "logsnr"),
        ("euler_maruyama", "linear", "uniform"),
        ("euler_maruyama", "cosine", "uniform"),
        ("ancestral", "cosine", "logsnr"),
        ("dpmpp_2m", "linear", "optimal"),
    ],
)
def test_samples_have_that_variance(name, schedule, spacing):
    process, count = OUProcess(schedule), 8192
    times = process.times(16, spacing)
    x = np.float64(draw(name, process, times, jax.random.key(0), count))
    variance = expected_variance(name, schedule, times)
    means = x.mean(0) / np.sqrt(variance / count)
    variances = (np.mean(x**2, 0) / variance - 1) / np.sqrt(2 / count)
    # In standard errors: each coordinate, and all of them together.
    for errors in (means, variances):
        assert np.max(np.abs(errors)) < 5, errors
        assert np.abs(np.sum(errors)) < 4 * np.sqrt(len(errors)), errors


@each_schedule
def test_last_step_adds_no_noise(schedule):
    process = OUProcess(schedule)
    score_fn = gaussian_score(process)
    x = jax.random.normal(jax.random.key(3), (5, len(EIGENVALUES)))

    @functools.partial(jax.jit, static_argnames="num_steps")
    def run(num_steps, seed):
        times, key = process.times(num_steps), jax.random.key(seed)
        return samplers.euler_maruyama(score_fn, process, times, key, x)

    # From T to 0 in one step, the first and the last: x + g^2 T (x + 2 s), whatever the key.
    alpha, g_squared = alpha_and_g_squared(schedule, process.T)
    marginal = alpha**2 * EIGENVALUES + 1 - alpha**2
    expected = x + g_squared * process.T * (x - 2 * x / marginal)
    np.testing.assert_allclose(run(1, seed=4), expected, rtol=1e-4)
    np.testing.assert_array_equal(run(1, seed=4), run(1, seed=5))
    # The step before it does add noise.
    assert np.all(run(2, seed=4) != run(2, seed=5))


def test_the_last_ancestral_step_adds_no_noise():
    process = OUProcess("linear")
    x = jax.random.normal(jax.random.key(3), (5, len(EIGENVALUES)))

    @functools.partial(jax.jit, static_argnames="num_steps")
    def run(num_steps, seed):
        times, key = process.times(num_steps), jax.random.key(seed)
        return samplers.ancestral(gaussian_score(process), process, times, key, x)

    np.testing.assert_array_equal(run(1, seed=4), run(1, seed=5))
    assert np.all(run(2, seed=4) != run(2, seed=5))


def test_linear_multistep_has_ddim_and_dpmpp_2m_as_cases():
    process = OUProcess("linear")
    times = jnp.asarray(process.times(4, "logsnr"))
    B = np.float64(process.integral(times))[:-1]
    h = -np.diff(np.log(np.sqrt(np.expm1(2 * B))))
    second_order = np.zeros((4, 4), np.float32)
    second_order[1, 0], second_order[2, 1] = h[1:] / (2 * h[:-1])
    found = second_order_weights(np.append(B, 0.0))
    np.testing.assert_allclose(found, second_order, rtol=1e-5)
    x = jax.random.normal(jax.random.key(3), (5, len(EIGENVALUES)))
    score_fn = gaussian_score(process)
    for sampler, weights in (
        (samplers.ddim, np.zeros((4, 4), np.float32)),
        (samplers.dpmpp_2m, second_order),
    ):
        found = samplers.linear_multistep(score_fn, process, times, jnp.asarray(weights), x)
        expected = sampler(score_fn, process, times, jax.random.key(0), x)
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-4)


@stochastic
def test_an_image_depends_on_its_own_key_alone(name):
    process = OUProcess("linear")
    keys = jax.random.split(jax.random.key(5), 6)

    @jax.jit
    def run(keys):
        shape = (len(keys), 4, 4, 3)
        return samplers.sample(
            name, lambda x, t: -jnp.tanh(x), process, process.times(5), keys, shape
        )

    together = run(keys)
    assert together.shape == (6, 4, 4, 3)
    assert together.dtype == jnp.float32
    for i in range(len(keys)):
        np.testing.assert_allclose(run(keys[i : i + 1])[0], together[i], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(run(keys[::-1])[::-1], together, rtol=1e-6, atol=1e-6)
    # And every image, and every pixel, is another.
    assert len(np.unique(together)) == together.size


def test_images_and_pixels_are_independent():
    process = OUProcess("linear")
    one_key = jax.random.key(6)
    for key in (one_key, jax.random.split(one_key, 4096)):
        x = np.float64(draw("euler_maruyama", process, process.times(8), key, 4096))
        # One row a pixel of an even or of an odd image.
        x = np.concatenate([x[::2], x[1::2]], axis=1).T
        correlations = np.corrcoef(x) - np.eye(len(x))
        assert np.max(np.abs(correlations)) < 5 / np.sqrt(2048)


@each_sampler
def test_the_key_decides(name):
    process = OUProcess()
    one, again, other = (
        draw(name, process, process.times(4), jax.random.key(seed), 2) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(one, again)
    assert np.all(one != other)


@each_sampler
def test_score_is_traced_once_for_all_steps_and_calls(name):
    process, traces = OUProcess("cosine"), 0

    def score_fn(x, t):
        nonlocal traces
        traces += 1
        assert x.shape == (4, 8, 8, 3)
        assert t.shape == (4,)
        return -x

    @jax.jit
    def run(times, key):
        return samplers.sample(name, score_fn, process, times, key, (4, 8, 8, 3))

    num_steps = steps_of(name, 64)
    for seed in range(2):
        run(process.times(num_steps), jax.random.key(seed))
    run(process.times(num_steps, "quadratic"), jax.random.key(2))
    assert traces == 1


@each_sampler
def test_when_the_score_is_evaluated(name):
    process, seen = OUProcess("constant"), []

    def score_fn(x, t):
        jax.debug.callback(lambda t: seen.append(np.array(t)), t, ordered=True)
        return -x

    num_steps = steps_of(name, 5)
    times = process.times(num_steps, "quadratic")
    jax.block_until_ready(
        samplers.sample(name, score_fn, process, times, jax.random.key(0), (3, 2))
    )
    jax.effects_barrier()
    # At the start of every step; by Heun's method at the end, too, where that is above 0.
    at = [times[0], *np.repeat(times[1:-1], 2)] if name == "heun" else times[:-1]
    np.testing.assert_array_equal(np.array(seen), np.repeat(np.array(at)[:, None], 3, axis=1))
    assert len(seen) == samplers.SAMPLERS[name].num_function_evaluations(num_steps)


def test_only_the_searched_grids_belong_to_a_sampler():
    own = {name: samplers.SAMPLERS[name].spacing for name in samplers.SAMPLERS}
    assert (own.pop("dpmpp_2m"), own.pop("multistep")) == ("optimal", "multistep")
    assert set(own.values()) == {"uniform"}


def test_unknown_sampler():
    with pytest.raises(ValueError, match=r"sampler is one of euler_maruyama.*got 'euler'"):
        samplers.sample("euler", lambda x, t: x, OUProcess(), [1.0, 0.0], jax.random.key(0), (1, 1))


@each_sampler
def test_whether_a_sampler_draws_noise_after_its_start(name, monkeypatch):
    draws = []
    monkeypatch.setattr(
        samplers, "normal", lambda key, shape: draws.append(shape) or jnp.ones(shape)
    )
    times = OUProcess().times(4)
    samplers.SAMPLERS[name](
        lambda x, t: -x, OUProcess(), times, jax.random.key(0), jnp.ones((2, 3))
    )
    assert bool(draws) == samplers.SAMPLERS[name].is_stochastic


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp_2m"])
def test_the_order_of_a_deterministic_sampler(name):
    """The error of the flow of a Gaussian, against its closed form x_t / std(x_t) = x_T / std(x_T),
    falls with that power of the step."""
    process, sampler = OUProcess("constant", T=3.0), samplers.SAMPLERS[name]

    def variance(t):
        return np.exp(-2 * t) * EIGENVALUES + 1 - np.exp(-2 * t)

    def error(num_steps):
        # Not to 0: every sampler takes a step of first order there.
        times = np.geomspace(3.0, 0.5, num_steps + 1)
        with jax.enable_x64(True):
            score_fn = gaussian_score(process, jnp.asarray(EIGENVALUES))
            x = jnp.ones((1, len(EIGENVALUES)))
            x = sampler(score_fn, process, jnp.asarray(times), jax.random.key(0), x)
        # Heun's method follows x / alpha, and alpha is 1 where it usually ends.
        end = np.asarray(x)[0] * (np.exp(-0.5) if name == "heun" else 1)
        return np.abs(end - np.sqrt(variance(0.5) / variance(3.0))).max()

    assert np.log2(error(64) / error(128)) == pytest.approx(sampler.order, abs=0.15)


def test_multistep_takes_the_steps_that_it_has_weights_for():
    draw = lambda n: samplers.sample(  # noqa: E731
        "multistep",
        lambda x, t: -x,
        OUProcess(),
        np.linspace(1, 0, n + 1),
        jax.random.key(0),
        (1, 1),
    )
    draw(4)
    with pytest.raises(ValueError, match="multistep takes 4 steps; got 6"):
        draw(6)
    with pytest.raises(ValueError, match="multistep takes 4 steps; got 5"):
        OUProcess().times(5, "multistep")
