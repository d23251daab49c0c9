"""The samplers against the Gaussian case, where what they must return is known exactly.

For data N(0, diag(lambda)) the score is -x / (alpha^2 lambda + sigma^2), a step of Euler-Maruyama
is linear, and the variance of every coordinate follows a recursion of its own. Here it runs in
float64 and knows nothing of the package.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wmgm_jax import samplers
from wmgm_jax.sde import OUProcess

# Condition number 1e5.
EIGENVALUES = np.geomspace(1e-3, 1e2, 64)

each_schedule = pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])


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


def wasserstein_error(variance):
    """Squared Wasserstein-2 distance of N(0, diag(variance)) to the data, relative to its power."""
    return np.sum((np.sqrt(variance) - np.sqrt(EIGENVALUES)) ** 2) / np.sum(EIGENVALUES)


def gaussian_score(process):
    eigenvalues = jnp.asarray(EIGENVALUES, jnp.float32)

    def score_fn(x, t):
        alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
        return -x / (alpha**2 * eigenvalues + sigma**2)

    return score_fn


@functools.partial(jax.jit, static_argnames=("process", "count"))
def draw(process, times, key, count):
    """`[count, len(EIGENVALUES)]` samples."""
    shape = (count, len(EIGENVALUES))
    return samplers.sample("euler_maruyama", gaussian_score(process), process, times, key, shape)


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

    @functools.partial(jax.jit, static_argnames="process")
    def responses(process, times):
        shape = (len(times) + 1, len(EIGENVALUES))
        return samplers.sample(
            "euler_maruyama", gaussian_score(process), process, times, jax.random.key(0), shape
        )

    return lambda process, times: np.sum(np.float64(responses(process, times)) ** 2, axis=0)


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
@pytest.mark.parametrize("num_steps", [1, 4, 16, 64])
def test_variance_is_exact(exact_variance, schedule, num_steps):
    process = OUProcess(schedule)
    for spacing in ("uniform", "quadratic", "logsnr"):
        times = process.times(num_steps, spacing)
        expected = euler_maruyama_variance(schedule, times)
        # Where the factor of a step all but vanishes, the rounding of its terms is what remains.
        np.testing.assert_allclose(exact_variance(process, times), expected, rtol=5e-4)


@each_schedule
def test_error_falls_with_the_square_of_the_step(exact_variance, schedule):
    # Late enough an end that what x_T lacks of the data does not show beside the steps' error.
    process = OUProcess(schedule, T={"constant": 5.0, "linear": 1.0, "cosine": 0.98}[schedule])
    errors = [
        wasserstein_error(exact_variance(process, process.times(num_steps)))
        for num_steps in (16, 64, 256)
    ]
    # A first-order method: a quarter of the step leaves a quarter of the error in the standard
    # deviation, in the limit, and a sixteenth of its square.
    assert errors[1] < errors[0] / 10
    assert errors[2] < errors[1] / 12


@each_schedule
@pytest.mark.parametrize("spacing", ["uniform", "logsnr"])
def test_samples_have_that_variance(schedule, spacing):
    process, count = OUProcess(schedule), 8192
    times = process.times(16, spacing)
    x = np.float64(draw(process, times, jax.random.key(0), count))
    variance = euler_maruyama_variance(schedule, times)
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


def test_an_image_depends_on_its_own_key_alone():
    process = OUProcess("linear")
    keys = jax.random.split(jax.random.key(5), 6)

    @jax.jit
    def run(keys):
        shape = (len(keys), 4, 4, 3)
        return samplers.sample(
            "euler_maruyama", lambda x, t: -jnp.tanh(x), process, process.times(5), keys, shape
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
        x = np.float64(draw(process, process.times(8), key, 4096))
        # One row a pixel of an even or of an odd image.
        x = np.concatenate([x[::2], x[1::2]], axis=1).T
        correlations = np.corrcoef(x) - np.eye(len(x))
        assert np.max(np.abs(correlations)) < 5 / np.sqrt(2048)


def test_the_key_decides():
    process = OUProcess()
    one, again, other = (
        draw(process, process.times(4), jax.random.key(seed), 2) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(one, again)
    assert np.all(one != other)


def test_score_is_traced_once_for_all_steps_and_calls():
    process, traces = OUProcess("cosine"), 0

    def score_fn(x, t):
        nonlocal traces
        traces += 1
        assert x.shape == (4, 8, 8, 3)
        assert t.shape == (4,)
        return -x

    @jax.jit
    def run(times, key):
        return samplers.sample("euler_maruyama", score_fn, process, times, key, (4, 8, 8, 3))

    for seed in range(2):
        run(process.times(64), jax.random.key(seed))
    run(process.times(64, "quadratic"), jax.random.key(2))
    assert traces == 1


def test_score_is_evaluated_at_the_start_of_every_step():
    process, seen = OUProcess("constant"), []

    def score_fn(x, t):
        jax.debug.callback(lambda t: seen.append(np.array(t)), t, ordered=True)
        return -x

    times = process.times(7, "quadratic")
    jax.block_until_ready(
        samplers.sample("euler_maruyama", score_fn, process, times, jax.random.key(0), (3, 2))
    )
    jax.effects_barrier()
    np.testing.assert_array_equal(np.array(seen), np.repeat(times[:-1, None], 3, axis=1))


def test_unknown_sampler():
    with pytest.raises(ValueError, match=r"sampler is one of euler_maruyama.*got 'euler'"):
        samplers.sample("euler", lambda x, t: x, OUProcess(), [1.0, 0.0], jax.random.key(0), (1, 1))
