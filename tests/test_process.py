"""The process against closed forms in float64, and its loss against the Gaussian case."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from wmgm_jax.diffusion.process import SPACINGS, OUProcess, perturb
from wmgm_jax.losses.score_matching import NOISE_LEVELS, score_matching_loss

SCHEDULES = ("constant", "linear", "cosine")
HORIZONS = {"constant": 5.0, "linear": 1.0, "cosine": 0.97}

each_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def log_alpha(schedule, t):
    """-B(t) in float64, each from its paper."""
    t = np.float64(t)
    if schedule == "constant":
        return -t
    if schedule == "linear":
        # Song et al. 2021, Eq. 33: alpha = exp(-half of the integral of beta), 0.1 to 20.
        return -0.25 * t**2 * (20 - 0.1) - 0.5 * t * 0.1
    # Nichol & Dhariwal 2021, Eq. 17, where alpha_bar = alpha^2.
    angle, start = ((u + 0.008) / 1.008 * np.pi / 2 for u in (t, 0.0))
    return np.log(np.cos(angle)) - np.log(np.cos(start))


def g_squared(schedule, t):
    t = np.float64(t)
    if schedule == "constant":
        return np.ones_like(t)
    if schedule == "linear":
        return (0.1 + 19.9 * t) / 2
    return np.pi / 2 / 1.008 * np.tan((t + 0.008) / 1.008 * np.pi / 2)


def times_inside(schedule):
    """From 1/1000 of the horizon to all of it, as the float32 values that the process sees."""
    return np.linspace(1e-3, 1.0, 200, dtype=np.float32) * np.float32(HORIZONS[schedule])


@each_schedule
def test_alpha_sigma_and_g_equal_their_closed_forms(schedule):
    process, t = OUProcess(schedule), times_inside(schedule)
    alpha = np.exp(log_alpha(schedule, t))
    np.testing.assert_allclose(process.alpha(t), alpha, rtol=5e-6)
    np.testing.assert_allclose(process.sigma(t), np.sqrt(1 - alpha**2), rtol=2e-6)
    np.testing.assert_allclose(process.g(t), np.sqrt(g_squared(schedule, t)), rtol=2e-6)
    np.testing.assert_allclose(process.integral(t), -log_alpha(schedule, t), rtol=3e-6)


@each_schedule
def test_integral_is_that_of_g_squared(schedule):
    process = OUProcess(schedule)
    for t in (0.1, 0.5, 1.0):
        integral, _ = scipy.integrate.quad(
            lambda u: float(process.g(u)) ** 2, 0, t * process.T, epsabs=1e-5, epsrel=1e-5
        )
        np.testing.assert_allclose(process.alpha(t * process.T), np.exp(-integral), rtol=3e-5)


@each_schedule
def test_g_squared_is_the_decay_rate_of_alpha(schedule):
    process, t = OUProcess(schedule), times_inside(schedule)
    rate = jax.vmap(jax.grad(lambda t: -jnp.log(process.alpha(t))))(t)
    np.testing.assert_allclose(process.g(t) ** 2, rate, rtol=1e-5)


@each_schedule
def test_noise_vanishes_smoothly_at_time_0(schedule):
    process = OUProcess(schedule)
    assert process.alpha(0.0) == 1.0
    assert process.sigma(0.0) == 0.0
    # sigma^2 = 2 B to first order, far below where 1 - alpha^2 rounds to 0 in float32.
    t = np.float32([1e-9, 1e-7, 1e-5])
    integral = [scipy.integrate.quad(lambda u: g_squared(schedule, u), 0, end)[0] for end in t]
    np.testing.assert_allclose(process.sigma(t) ** 2, -np.expm1(-2 * np.array(integral)), rtol=1e-5)


@each_schedule
def test_process_keeps_the_variance_of_white_data(schedule):
    process, t = OUProcess(schedule), times_inside(schedule)
    np.testing.assert_allclose(process.alpha(t) ** 2 + process.sigma(t) ** 2, 1.0, atol=1e-6)


def test_linear_schedule_is_ddpm():
    betas = np.linspace(1e-4, 0.02, 1000)
    steps = np.arange(1, 1001)
    # A DDPM step multiplies by 1 - beta, the process by exp(-beta): the difference of their
    # logarithms is beta^2 / 2 and higher powers.
    log_alpha_bar = np.cumsum(np.log1p(-betas) + betas**2 / 2)
    process = OUProcess("linear")
    np.testing.assert_allclose(
        2 * np.log(process.alpha(steps / 1000)), log_alpha_bar, rtol=1e-4, atol=3.5e-3
    )


# "multistep" is of 4 steps alone.
@each_schedule
@pytest.mark.parametrize(
    ("spacing", "num_steps"),
    [
        *itertools.product([s for s in SPACINGS if s != "multistep"], [1, 2, 7, 1000]),
        ("multistep", 4),
    ],
)
def test_time_grid_falls_from_the_horizon_to_0(schedule, spacing, num_steps):
    process = OUProcess(schedule)
    times = process.times(num_steps, spacing)
    assert times.shape == (num_steps + 1,)
    assert times.dtype == np.float32
    horizon = np.float32(HORIZONS[schedule])
    is_searched = spacing in ("optimal", "multistep")
    assert times[0] <= horizon if is_searched else times[0] == horizon
    assert times[-1] == 0.0
    assert np.all(np.diff(times) < 0)


@pytest.mark.parametrize("T", [0.5, 3.0])
def test_time_grid_starts_at_the_given_horizon(T):
    for spacing in SPACINGS:
        times = OUProcess("linear", T=T).times(4 if spacing == "multistep" else 5, spacing)
        # Of a process that ends late, the best grids know the end.
        searched = {"optimal": 0.8, "multistep": 0.96}
        late = T == 3.0 and spacing in searched
        assert times[0] == (pytest.approx(searched[spacing], abs=0.05) if late else T)
        assert np.all(np.diff(times) < 0)


@pytest.mark.parametrize(
    ("num_steps", "spacing"),
    [(2, "optimal"), (4, "optimal"), (6, "optimal"), (16, "optimal"), (4, "multistep")],
)
def test_the_searched_grids_are_of_noise(num_steps, spacing):
    grids = [
        -log_alpha(schedule, OUProcess(schedule).times(num_steps, spacing))
        for schedule in SCHEDULES
    ]
    constant, linear, cosine = grids
    np.testing.assert_allclose(linear, constant, rtol=1e-4, atol=1e-8)
    # The cosine's noise ends earlier.
    share = min(1.0, -log_alpha("cosine", HORIZONS["cosine"]) / constant[0])
    assert (share < 1) == (num_steps > 4 or spacing == "multistep")
    np.testing.assert_allclose(cosine, share * constant, rtol=1e-4, atol=1e-8)


@each_schedule
def test_uniform_and_quadratic_grids(schedule):
    process = OUProcess(schedule)
    left = np.arange(6, -1, -1) / 6
    np.testing.assert_allclose(process.times(6), process.T * left, rtol=1e-6)
    np.testing.assert_allclose(process.times(6, "quadratic"), process.T * left**2, rtol=1e-6)


@each_schedule
@pytest.mark.parametrize("sigma_min", [0.003, 0.08])
def test_logsnr_grid_is_even_in_logsnr_down_to_sigma_min(schedule, sigma_min):
    times = OUProcess(schedule).times(9, "logsnr", sigma_min=sigma_min)[:-1]
    log_alphas = log_alpha(schedule, times)
    log_sigma_squared = np.log(-np.expm1(2 * log_alphas))
    assert np.exp(log_sigma_squared[-1] / 2) == pytest.approx(sigma_min, rel=1e-5)
    steps = np.diff(2 * log_alphas - log_sigma_squared)
    np.testing.assert_allclose(steps, np.mean(steps), rtol=1e-4)


@each_schedule
def test_perturb_draws_the_forward_marginal(schedule):
    process = OUProcess(schedule)
    count, mean, variance = 100_000, 1.5, 0.25
    t = process.T * np.array([0.01, 0.2, 1.0])
    x0 = mean + np.sqrt(variance) * jax.random.normal(jax.random.key(0), (3, count))
    noise = jax.random.normal(jax.random.key(1), (3, count))
    x = np.float64(perturb(process, x0, jnp.asarray(t), noise))

    # The moments solve dm = -g^2 m dt, dv = (2 g^2 - 2 g^2 v) dt.
    alpha = np.exp(log_alpha(schedule, t))
    true_mean, true_variance = alpha * mean, 1 + alpha**2 * (variance - 1)
    errors = (x.mean(1) - true_mean) / np.sqrt(true_variance / count)
    assert np.all(np.abs(errors) < 4), errors
    errors = (x.var(1) / true_variance - 1) / np.sqrt(2 / count)
    assert np.all(np.abs(errors) < 4), errors


@each_schedule
def test_marginal_is_that_of_the_sde(schedule):
    # One Euler-Maruyama step of dX = -g^2 X dt + sqrt2 g dB takes (mean, variance) to
    # ((1 - g^2 dt) mean, (1 - g^2 dt)^2 variance + 2 g^2 dt): no sample is needed.
    process = OUProcess(schedule, T=HORIZONS[schedule] / 2)
    num_steps, mean, variance = 5000, 1.0, 4.0
    dt = process.T / num_steps
    for g in np.float64(process.g((np.arange(num_steps) + 0.5) * dt)):
        mean, variance = (1 - g**2 * dt) * mean, (1 - g**2 * dt) ** 2 * variance + 2 * g**2 * dt
    alpha, sigma = float(process.alpha(process.T)), float(process.sigma(process.T))
    assert mean == pytest.approx(alpha, rel=3e-3)
    assert variance == pytest.approx(alpha**2 * 4.0 + sigma**2, rel=3e-3)


@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 4, 2, 2)])
def test_perturb_gives_each_image_its_own_time(shape):
    process, t = OUProcess("linear"), jnp.array([0.1, 0.5, 0.9])
    x0, noise = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
    alpha = np.exp(log_alpha("linear", t)).reshape(3, *[1] * (len(shape) - 1))
    expected = alpha * x0 + np.sqrt(1 - alpha**2) * noise
    np.testing.assert_allclose(perturb(process, x0, t, noise), expected, atol=1e-6)


# The loss is a quadratic form of (X_0, eps). Its mean over X_0 ~ N(0, lambda) and eps ~ N(0, 1) is
# therefore its mean over the signs of (+-sqrt(lambda), +-1), and needs no samples.
SIGNS = np.float32([[1, 1, -1, -1], [1, -1, 1, -1]])[..., None]


# Quantiles of N(-0.5, 1.2^2) at 10%, 50% and 90%.
LOG_NOISE = [-2.038, -0.5, 1.038]


def mean_loss(process, time, eigenvalues, factor=1.0):
    """That of `factor` times the exact score of N(0, diag(eigenvalues))."""

    def score_fn(x, t):
        alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
        return -factor * x / (alpha**2 * eigenvalues + sigma**2)

    eigenvalues = jnp.asarray(eigenvalues)
    x0, noise = SIGNS[0] * jnp.sqrt(eigenvalues), SIGNS[1] * jnp.ones_like(eigenvalues)
    return jnp.mean(score_matching_loss(score_fn, process, x0, jnp.full(4, time), noise))


@each_schedule
@pytest.mark.parametrize("eigenvalues", [[0.01], [1.0], [30.0], [0.01, 1.0, 30.0]])
def test_loss_of_the_exact_score(schedule, eigenvalues):
    # With V = alpha^2 lambda + sigma^2 and s = -X_t / V,
    #   sigma s + eps = (alpha^2 lambda eps - sigma alpha X_0) / V,
    # whose square has the mean (alpha^4 lambda^2 + sigma^2 alpha^2 lambda) / V^2
    # = alpha^2 lambda / V; the loss averages that over the pixels.
    process = OUProcess(schedule)
    for time in np.float32([0.01, 0.3, 0.8]) * np.float32(process.T):
        signal = np.exp(2 * log_alpha(schedule, time)) * np.array(eigenvalues)
        noise = 1 - np.exp(2 * log_alpha(schedule, time))
        expected = np.mean(signal / (signal + noise))
        np.testing.assert_allclose(mean_loss(process, time, eigenvalues), expected, rtol=3e-5)


@each_schedule
@pytest.mark.parametrize("eigenvalue", [0.01, 1.0, 30.0])
def test_loss_is_least_at_the_exact_score(schedule, eigenvalue):
    process = OUProcess(schedule)
    time = 0.3 * process.T
    slope = jax.grad(lambda factor: mean_loss(process, time, [eigenvalue], factor))
    np.testing.assert_allclose(slope(1.0), 0.0, atol=1e-5)
    # The loss is 1 - (2 factor - factor^2) sigma^2 / V.
    variance = process.alpha(time) ** 2 * eigenvalue + process.sigma(time) ** 2
    curvature = 2 * process.sigma(time) ** 2 / variance
    np.testing.assert_allclose(jax.grad(slope)(1.0), curvature, rtol=1e-4)


def test_loss_is_one_number_an_image():
    process = OUProcess("cosine")
    x0, noise = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 2), np.float32)
    t = jnp.array([0.1, 0.5, 0.9])

    def score_fn(x, t):
        return jnp.sin(x) * t[:, None, None, None]

    loss = score_matching_loss(score_fn, process, x0, t, noise)
    assert loss.shape == (3,)
    for i in range(3):
        alone = (value[i : i + 1] for value in (x0, t, noise))
        np.testing.assert_allclose(
            score_matching_loss(score_fn, process, *alone),
            loss[i : i + 1],
            rtol=1e-6,
        )
    # lambda(t) times the squared distance to the target score, as Eq. 14 has it.
    sigma = process.sigma(t)[:, None, None, None]
    score = score_fn(perturb(process, x0, t, noise), t)
    expected = jnp.mean(sigma**2 * (score + noise / sigma) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@each_schedule
def test_uniform_times_of_the_paper(schedule):
    process, levels = OUProcess(schedule), NOISE_LEVELS["paper"]
    t = levels.times(process, jax.random.split(jax.random.key(0), 4000))
    assert scipy.stats.kstest(t / process.T, "uniform").pvalue > 1e-3
    assert t.min() > 0
    np.testing.assert_array_equal(levels.weight(process, t), np.ones(4000))


@each_schedule
def test_lognormal_noise_of_edm(schedule):
    """log(sigma / alpha) is normal, but for the few beyond the ends of the process."""
    process, levels = OUProcess(schedule), NOISE_LEVELS["edm"]
    t = levels.times(process, jax.random.split(jax.random.key(0), 4000))
    assert t.min() > 0 and t.max() <= process.T
    log_noise = np.log(process.sigma(t) / process.alpha(t))
    np.testing.assert_allclose(np.quantile(log_noise, [0.1, 0.5, 0.9]), LOG_NOISE, atol=0.12)


@each_schedule
def test_the_weights_of_edm_are_those_of_the_velocity(schedule):
    """A score off by the velocity's error e has the loss e^2, whatever the time."""
    process = OUProcess(schedule)
    x0, noise, error = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    t = process.T * jnp.array([0.02, 0.1, 0.3, 0.5, 0.9])
    alpha, sigma = (f(t)[:, None] for f in (process.alpha, process.sigma))

    def score_fn(x, t):
        return -(noise + alpha * error) / sigma  # eps = sigma x + alpha v

    loss = score_matching_loss(score_fn, process, x0, t, noise)
    weighted = NOISE_LEVELS["edm"].weight(process, t) * loss
    np.testing.assert_allclose(weighted, (error**2).mean(1), rtol=2e-2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: OUProcess("quadratic"), "schedule is one of constant, linear, cosine"),
        (lambda: OUProcess("constant", T=0.0), "T of the constant schedule"),
        (lambda: OUProcess("linear", T=-1.0), "T of the linear schedule"),
        (lambda: OUProcess("constant", T=float("inf")), "T of the constant schedule"),
        (lambda: OUProcess("constant", T=float("nan")), "T of the constant schedule"),
        (lambda: OUProcess("cosine", T=1.0), "T of the cosine schedule"),
        (lambda: OUProcess().times(0), "num_steps >= 1, got 0"),
        (lambda: OUProcess().times(4, "even"), "spacing is one of uniform.*got 'even'"),
        (lambda: OUProcess().times(4, "logsnr", sigma_min=0.0), "sigma_min lies in"),
        (lambda: OUProcess(T=0.01).times(4, "logsnr", sigma_min=0.2), "sigma_min lies in"),
    ],
)
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
