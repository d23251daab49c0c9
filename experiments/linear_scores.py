"""Scores that are linear in their parameters, fitted in closed form: no gradient training.

At every time t of a grid, of noisy coefficients x_t given known ones y,

    s_theta(x_t, t | y) = K_t (x_t, y) + sum_m theta_m(t) P v_m(R(x_t, y)),

where K_t is a convolution (a small matrix for every frequency of the periodic grid), R rebuilds
pixel values in their standard deviations, v_m is a fixed family of odd piecewise linear functions
and P the adjoint of R. Both terms are gradients of an energy: of stationary quadratic terms and
of a scalar potential sum_u V_t(R(x_t, y)_u), V_t' = sum_m theta_m(t) v_m.

    SGM     x is the field with unit variance, y nothing, R and P identities
    WSGM    x are the normalised details x_H^j of one scale (Eq. 14 of WSGM), y is the low band
            x_L^j, R the inverse wavelet transform to x_L^(j-1), P its transpose: G-bar V'(x_(j-1));
            the coarsest band is an SGM

Denoising score matching, E|s_theta + z / sigma|^2, is linear least squares in (K, theta). The
quadratic part of its normal equations is averaged over noisy copies of the training fields. In the
linear part the noise is integrated out (Stein's identity, E<f(x_t), z> / sigma = E div f(x_t)):
the minimum is the same, and the variance does not grow as 1 / sigma^2 at small times.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pywt

from wmgm_jax.diffusion import samplers
from wmgm_jax.diffusion.process import OUProcess

# Knots of the potential's derivative, in standard deviations of the pixels: SPACING, 2 SPACING, ...
# V' is 0 at the first, for the family would else contain x, which K has already. The last interval
# must hold pixels enough to fix the slope of the tails: too steep, and the sampler diverges there.
SPACING = 0.3
NUM_KNOTS = 7

# Of the potential's normal equations, relative to the mean of their diagonal: knots that hardly a
# pixel reaches are left at 0.
RIDGE = 1e-3

# Noisy copies that the equations of one time are averaged over, and how many pixels they may have.
MAX_COPIES = 2**13
MAX_PIXELS = 2**20


def potential_slopes(x: jax.Array) -> list[jax.Array]:
    """The family v_m(x), each of x's shape: 1 at +knot m, -1 at -knot m, 0 at the other knots,
    linear between knots and, as in the last interval, beyond the last."""
    r = jnp.abs(x) / SPACING
    rises = [jnp.maximum(1 - jnp.abs(r - m), 0) for m in range(2, NUM_KNOTS - 1)]
    rises.append(jnp.minimum(jnp.maximum(r - (NUM_KNOTS - 2), 0), NUM_KNOTS - r))
    rises.append(jnp.maximum(r - (NUM_KNOTS - 1), 0))
    return [jnp.sign(x) * rise for rise in rises]


def potential_curvatures(x: jax.Array) -> list[jax.Array]:
    """The derivatives v_m'(x), each of x's shape."""
    interval = jnp.clip(jnp.floor(jnp.abs(x) / SPACING), 0, NUM_KNOTS - 1)
    return [
        ((interval == m - 1) * 1.0 - (interval == m)) / SPACING for m in range(2, NUM_KNOTS + 1)
    ]


class Whole(NamedTuple):
    """A band `[N, s, s, 1]` that is diffused by itself, `scale` its standard deviation."""

    scale: jax.Array

    def rebuild(self, noisy: jax.Array, known: jax.Array) -> jax.Array:
        return noisy[..., 0]

    def project(self, pixels: jax.Array) -> jax.Array:
        return pixels[..., None]

    def shares(self, size: int) -> jax.Array:
        """The diagonal of R P as seen by the noisy coefficients, a constant or `[s, s]`."""
        return jnp.ones(())


class Details(NamedTuple):
    """The details `[N, s/2, s/2, 3]` of a band `[N, s, s]` given its low band.

    Attributes:
        matrix: `[s, s]`, the one-dimensional periodised wavelet transform, low-pass rows first.
        scale, low_scale, band_scale: root mean squares of the details (gamma_j), of the low band
            and of the band that they rebuild, in the orthonormal transform.
    """

    matrix: jax.Array
    scale: jax.Array
    low_scale: jax.Array
    band_scale: jax.Array

    def rebuild(self, noisy: jax.Array, known: jax.Array) -> jax.Array:
        low, details = known[..., 0] * self.low_scale, noisy * self.scale
        return join(self.matrix, low, details) / self.band_scale

    def project(self, pixels: jax.Array) -> jax.Array:
        return split(self.matrix, pixels)[1] * (self.scale / self.band_scale)

    def shares(self, size: int) -> jax.Array:
        low = jnp.sum(self.matrix[: size // 2] ** 2, axis=0)
        return (1 - low[:, None] * low) * (self.scale / self.band_scale) ** 2


class LinearScore(NamedTuple):
    """`kernels` complex `[N, s, s // 2 + 1, outputs, inputs]` and `slopes` `[N, M]`, at the times
    T k / N, k = 1..N; `band`, a `Whole` or `Details`."""

    band: Whole | Details
    kernels: jax.Array
    slopes: jax.Array


def wavelet_matrix(size: int, wavelet: str) -> np.ndarray:
    """The orthonormal transform of periodic signals of even `size`, `[size, size]`.

    Row n < size / 2 holds the low-pass filter of an orthogonal wavelet at 2n, wrapped round as
    often as need be; row size / 2 + n the high-pass.
    """
    low = np.array(pywt.Wavelet(wavelet).rec_lo)
    high = low[::-1] * (-1.0) ** np.arange(len(low))
    matrix = np.zeros((size, size))
    for n in range(size // 2):
        places = (2 * n + np.arange(len(low))) % size
        np.add.at(matrix[n], places, low)
        np.add.at(matrix[size // 2 + n], places, high)
    return matrix


def split(matrix: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Fields `[N, s, s]` to the low band `[N, s/2, s/2]` and the details `[N, s/2, s/2, 3]`."""
    y = matrix @ x @ matrix.T
    half = x.shape[1] // 2
    low, lh = y[:, :half, :half], y[:, half:, :half]
    hl, hh = y[:, :half, half:], y[:, half:, half:]
    return low, jnp.stack([lh, hl, hh], axis=-1)


def join(matrix: jax.Array, low: jax.Array, details: jax.Array) -> jax.Array:
    """The inverse of `split`."""
    lh, hl, hh = jnp.moveaxis(details, -1, 0)
    top, bottom = jnp.concatenate([low, hl], axis=2), jnp.concatenate([lh, hh], axis=2)
    return matrix.T @ jnp.concatenate([top, bottom], axis=1) @ matrix


def fit(
    band: Whole | Details,
    clean: jax.Array,
    known: jax.Array,
    process: OUProcess,
    num_times: int,
    key: jax.Array,
) -> LinearScore:
    """The score at the times T k / num_times, k = 1..num_times.

    Args:
        clean: `[N, s, s, outputs]`, of unit scale.
        known: `[N, s, s, C]`, C may be 0.
    """
    pixels = band.rebuild(clean[:1], known[:1]).size
    copies = min(MAX_COPIES, max(1, MAX_PIXELS // pixels))
    kernels, slopes = [], []
    times, keys = process.times(num_times)[-2::-1], jax.random.split(key, num_times)
    for t, time_key in zip(times, keys, strict=True):
        sums = moments(band, clean, known, process.alpha(t), process.sigma(t), time_key, copies)
        kernel, slope = solve(*(np.asarray(x) for x in sums), clean.shape[2])
        kernels.append(kernel.astype(np.complex64))
        slopes.append(slope.astype(np.float32))
    return LinearScore(band, jnp.asarray(np.stack(kernels)), jnp.asarray(np.stack(slopes)))


@functools.partial(jax.jit, static_argnums=6)
def moments(
    band: Whole | Details,
    clean: jax.Array,
    known: jax.Array,
    alpha: jax.Array,
    sigma: jax.Array,
    key: jax.Array,
    copies: int,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What the normal equations of one time need, averaged over noisy copies of random examples.

    Returns:
        `gram` `[s, s // 2 + 1, inputs, inputs]`, E x x^H of the inputs by frequency;
        `cross` `[M, s, s // 2 + 1, outputs, inputs]`, E P v_m x^H;
        `square` `[M, M]`, E <P v_m, P v_n>; `divergence` `[M]`, E div P v_m.
    """
    index_key, noise_key = jax.random.split(key)
    chosen = jax.random.randint(index_key, (copies,), 0, len(clean))
    noisy, known = clean[chosen], known[chosen]
    noisy = alpha * noisy + sigma * jax.random.normal(noise_key, noisy.shape)
    inputs = _spectrum(jnp.concatenate([noisy, known], axis=-1))
    pixels = band.rebuild(noisy, known)
    slopes = [band.project(v) for v in potential_slopes(pixels)]
    gram = jnp.einsum("nhwi,nhwj->hwij", inputs, inputs.conj()) / copies
    cross = [jnp.einsum("nhwo,nhwi->hwoi", _spectrum(v), inputs.conj()) / copies for v in slopes]
    flat = jnp.stack(slopes).reshape(len(slopes), -1)
    shares = band.shares(pixels.shape[1])
    divergence = [jnp.sum(v * shares) / copies for v in potential_curvatures(pixels)]
    return gram, jnp.stack(cross), flat @ flat.T / copies, jnp.stack(divergence)


def solve(
    gram: np.ndarray, cross: np.ndarray, square: np.ndarray, divergence: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and the slopes that minimise E |s|^2 / 2 + div s, from `moments`.

    For given theta the kernel of every frequency is K = -(I + sum_m theta_m cross_m) gram^-1, I
    selecting the noisy inputs; with it the equations of theta are a Schur complement.
    """
    gram, cross, square, divergence = (
        np.asarray(x, np.result_type(x, np.float64)) for x in (gram, cross, square, divergence)
    )
    inverse = np.linalg.inv(gram)
    identity = np.eye(cross.shape[-2], cross.shape[-1])
    # A real field has every frequency but those of the first and last column twice.
    columns = cross.shape[2]
    weights = np.full(columns, 2.0)
    weights[0] = weights[columns - 1 if size % 2 == 0 else 0] = 1.0
    whitened = np.einsum("w,mhwoi,hwij->mhwoj", weights, cross, inverse)
    schur = square - np.einsum("mhwoi,nhwoi->mn", whitened, cross.conj()).real
    ridge = RIDGE * np.trace(square) / len(square) * np.eye(len(square))
    target = np.einsum("mhwoi,oi->m", whitened, identity).real - divergence
    slopes = np.linalg.solve(schur + ridge, target)
    kernel = -(identity + np.einsum("m,mhwoi->hwoi", slopes, cross)) @ inverse
    return kernel, slopes


def score(
    model: LinearScore, process: OUProcess, known: jax.Array
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`score_fn(x [N, s, s, outputs], t [N])`, all t equal, at the nearest time of the fit."""
    num_times = len(model.slopes)

    def score_fn(x, t):
        index = jnp.clip(jnp.rint(t[0] / process.T * num_times).astype(int), 1, num_times) - 1
        inputs = _spectrum(jnp.concatenate([x, known], axis=-1))
        linear = jnp.einsum("hwoi,nhwi->nhwo", model.kernels[index], inputs)
        pixels = model.band.rebuild(x, known)
        potential = zip(model.slopes[index], potential_slopes(pixels), strict=True)
        slope = sum(theta * v for theta, v in potential)
        return _field(linear, x.shape[2]) + model.band.project(slope)

    return score_fn


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def draw(
    model: LinearScore, known: jax.Array, process: OUProcess, num_steps: int, outputs: int, key
) -> jax.Array:
    """Coefficients `[N, s, s, outputs]` given `known`, by the papers' sampler on uniform times."""
    score_fn = score(model, process, known)
    shape = (*known.shape[:3], outputs)
    return samplers.sample(
        "euler_maruyama", score_fn, process, process.times(num_steps), key, shape
    )


def fit_sgm(fields: np.ndarray, process: OUProcess, num_times: int, key: jax.Array) -> LinearScore:
    """The score of fields `[N, L, L]` of mean 0, on fields divided by their standard deviation."""
    scale = jnp.sqrt(jnp.mean(jnp.asarray(fields) ** 2))
    clean = jnp.asarray(fields)[..., None] / scale
    return fit(Whole(scale), clean, clean[..., :0], process, num_times, key)


def draw_sgm(
    model: LinearScore, num: int, process: OUProcess, num_steps: int, key: jax.Array
) -> jax.Array:
    """Fields `[num, L, L]`."""
    size = model.kernels.shape[1]
    nothing = jnp.zeros((num, size, size, 0))
    return draw(model, nothing, process, num_steps, 1, key)[..., 0] * model.band.scale


def fit_wsgm(
    fields: np.ndarray, wavelet: str, process: OUProcess, num_times: int, key: jax.Array
) -> list[LinearScore]:
    """The scores of the bands of fields `[N, L, L]`, L a power of 2, coarsest first: the mean, then
    the details of every scale given the low band."""
    models, low = [], jnp.asarray(fields)
    while low.shape[1] > 1:
        key, scale_key = jax.random.split(key)
        matrix = jnp.asarray(wavelet_matrix(low.shape[1], wavelet), jnp.float32)
        band_scale = _root_mean_square(low)
        low, details = split(matrix, low)
        band = Details(matrix, _root_mean_square(details), _root_mean_square(low), band_scale)
        clean, known = details / band.scale, low[..., None] / band.low_scale
        models.append(fit(band, clean, known, process, num_times, scale_key))
    return [fit_sgm(low, process, num_times, key), *reversed(models)]


def draw_wsgm(
    models: list[LinearScore], num: int, process: OUProcess, num_steps: int, key: jax.Array
) -> jax.Array:
    """Fields `[num, L, L]`, with `num_steps` at every scale (Eq. 16-18 of WSGM)."""
    coarsest, *finer = models
    keys = jax.random.split(key, len(models))
    low = draw_sgm(coarsest, num, process, num_steps, keys[0])
    for model, scale_key in zip(finer, keys[1:], strict=True):
        band, known = model.band, low[..., None] / model.band.low_scale
        details = draw(model, known, process, num_steps, 3, scale_key)
        low = join(band.matrix, low, details * band.scale)
    return low


def _root_mean_square(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(x**2))


def _spectrum(x: jax.Array) -> jax.Array:
    return jnp.fft.rfft2(x, axes=(1, 2), norm="ortho")


def _field(spectrum: jax.Array, size: int) -> jax.Array:
    return jnp.fft.irfft2(spectrum, s=(size, size), axes=(1, 2), norm="ortho")
