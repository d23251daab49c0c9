"""Distances between sets of feature vectors against closed forms, SciPy and plain loops."""

import functools
import operator

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from wmgm_jax.core.moments import Moments
from wmgm_jax.evaluation.measures.frechet import frechet_distance
from wmgm_jax.evaluation.measures.kernel_distance import kernel_distance
from wmgm_jax.evaluation.measures.precision_recall import precision_recall
from wmgm_jax.evaluation.neighbours import nearest

properties = settings(max_examples=30, deadline=None, derandomize=True)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def gaussian(mean, covariance):
    """The moments of two vectors: their scatter is their covariance."""
    return Moments(2, np.asarray(mean, float), np.asarray(covariance, float))


# --- Moments ----------------------------------------------------------------------------------


@properties
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 5), st.randoms())
def test_moments_of_any_split_are_numpys(sizes, dimension, random):
    """Blocks of any sizes merged in any order, about a mean far from 0."""
    x = 1e4 + np.concatenate([normal((size, dimension), seed=size) for size in [2, *sizes]])
    blocks = [Moments.of(block) for block in np.split(x, np.cumsum([2, *sizes])[:-1])]
    random.shuffle(blocks)
    merged = functools.reduce(operator.add, blocks)
    assert merged.count == len(x)
    np.testing.assert_allclose(merged.mean, x.mean(0), rtol=1e-14)
    expected = np.cov(x, rowvar=False).reshape(dimension, dimension)
    np.testing.assert_allclose(merged.covariance, expected, rtol=1e-9, atol=1e-10)


def test_moments_are_float64_and_leave_the_features_alone():
    """Features of a network are float32, whose sums of squares would keep seven digits."""
    features = (1000 + normal((500, 3))).astype(np.float32)
    before = features.copy()
    moments = Moments.of(features)
    np.testing.assert_array_equal(features, before)
    expected = np.cov(features.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(moments.covariance, expected, rtol=1e-10, atol=1e-12)


def test_moments_refuse_what_has_none():
    with pytest.raises(ValueError, match=r"\(0, 3\)"):
        Moments.of(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        Moments.of(np.zeros(3))
    with pytest.raises(ValueError, match="two vectors"):
        _ = Moments.of(np.zeros((1, 3))).covariance
    for dimension in (1, 4):
        for combine in (operator.add, frechet_distance):
            with pytest.raises(ValueError, match="unequal dimensions"):
                combine(Moments.of(normal((5, 3))), Moments.of(normal((5, dimension))))


# --- Frechet distance -------------------------------------------------------------------------


def test_frechet_distance_is_that_of_scipys_square_root():
    mixing = normal((20, 20), seed=1) / 5
    x, y = normal((500, 20)) @ (np.eye(20) + mixing), 0.3 + 2 * normal((400, 20), seed=2)
    A, B = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(A @ B)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(A + B - 2 * root)
    a, b = Moments.of(x), Moments.of(y)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_with_fewer_vectors_than_dimensions():
    """The centred vectors are factors of the covariances; numpy has the norm of their product."""
    x, y = normal((8, 200)), 0.5 + 3 * normal((11, 200), seed=1)
    factors = [(z - z.mean(0)) / np.sqrt(len(z) - 1) for z in (x, y)]
    squares = np.sum((x.mean(0) - y.mean(0)) ** 2) + sum(np.sum(f**2) for f in factors)
    expected = squares - 2 * np.linalg.norm(factors[0] @ factors[1].T, "nuc")
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_within_a_subspace():
    """Three dimensions, turned into a subspace of forty."""
    turn = np.linalg.qr(normal((40, 3)))[0]
    A, B = (np.cov(normal((50, 3), seed) * [1, 2, 5], rowvar=False) for seed in (1, 2))
    mean = np.array([1.0, -2.0, 0.5])
    expected = mean @ mean + np.trace(A + B - 2 * scipy.linalg.sqrtm(A @ B))
    turned = frechet_distance(
        gaussian(turn @ mean, turn @ A @ turn.T), gaussian(np.zeros(40), turn @ B @ turn.T)
    )
    assert turned == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_of_commuting_covariances():
    """Sum of (sqrt a - sqrt b)^2 over the common eigenvectors, some of which only one set has."""
    turn = np.linalg.qr(normal((6, 6)))[0]
    a, b = np.array([1e4, 9, 4, 0, 0, 1e-4]), np.array([1.0, 25, 0, 16, 0, 9e-4])
    expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    distance = frechet_distance(
        gaussian(np.zeros(6), turn * a @ turn.T), gaussian(np.zeros(6), turn * b @ turn.T)
    )
    assert distance == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_of_rank_one_covariances():
    """|v|^2 + |w|^2 - 2 |v . w|."""
    v, w = normal(30), normal(30, seed=1)
    distance = frechet_distance(gaussian(v, np.outer(v, v)), gaussian(w, np.outer(w, w)))
    expected = np.sum((v - w) ** 2) + v @ v + w @ w - 2 * abs(v @ w)
    assert distance == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_of_points():
    """No variance at all on one side: nothing can overlap."""
    point = Moments.of(np.full((4, 3), 2.0))
    assert frechet_distance(point, gaussian(np.zeros(3), np.eye(3))) == pytest.approx(12 + 3)
    assert frechet_distance(point, point) == 0


@pytest.mark.parametrize("count", [5, 200])
@pytest.mark.parametrize("seed", range(5))
def test_frechet_distance_of_a_set_to_itself_is_zero(count, seed):
    """And not below, whichever way the rounding errors fall."""
    moments = Moments.of(100 * normal((count, 50), seed))
    trace = np.trace(moments.covariance)
    assert 0 <= frechet_distance(moments, moments) < 1e-12 * trace
    shifted = Moments(count, moments.mean + 0.01, moments.scatter)
    assert frechet_distance(moments, shifted) == pytest.approx(50e-4, abs=1e-12 * trace)


@pytest.mark.parametrize("where", [(4, 1), 4])
def test_frechet_distance_refuses_what_is_not_finite(where):
    broken = normal((10, 3))
    broken[where] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance(Moments.of(broken), Moments.of(normal((10, 3))))


# --- Kernel distance --------------------------------------------------------------------------


def looped_discrepancy(x, y):
    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def others(z):
        return [kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]

    between = [kernel(a, b) for a in x for b in y]
    return np.mean(others(x)) + np.mean(others(y)) - 2 * np.mean(between)


def test_kernel_distance_of_whole_sets_is_a_loops():
    """Sets of the size of a subset: every subset is the set, for nothing is drawn twice."""
    x, y = normal((12, 5)), 0.5 + 2 * normal((12, 5), seed=1)
    mean, deviation = kernel_distance(x.astype(np.float32), y.astype(np.float32), num_subsets=7)
    assert mean == pytest.approx(
        looped_discrepancy(x.astype(np.float32).tolist(), y.astype(np.float32).tolist()), rel=1e-12
    )
    assert deviation < 1e-12


def test_kernel_distance_averages_over_pairs_of_subsets():
    """Pairs of three vectors and three: nine pairs of subsets, each as likely."""
    x, y = normal((3, 4)), 1 + normal((3, 4), seed=1)
    pairs = [[0, 1], [0, 2], [1, 2]]
    all_values = [looped_discrepancy(x[i], y[j]) for i in pairs for j in pairs]
    mean, deviation = kernel_distance(x, y, subset_size=2, num_subsets=4000)
    error = np.std(all_values) / np.sqrt(4000)
    assert mean == pytest.approx(np.mean(all_values), abs=4 * error)
    assert deviation == pytest.approx(np.std(all_values), rel=0.05)
    assert (mean, deviation) == kernel_distance(x, y, 2, 4000, seed=0)
    assert (mean, deviation) != kernel_distance(x, y, 2, 4000, seed=1)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_kernel_distance_is_unbiased(shift):
    """Two Gaussians N(0, I), N(m, I) from eight vectors each; with s = |m|^2 the expectation is
    3 s / D + 3 s^2 / D^2 + (s^3 + 6 s^2 + 3 s (D + 2)) / D^3.

    With vectors met by themselves it would be larger by 2 E[k(x, x) - k(x, x')] / 8, more than 2.
    """
    D, repetitions = 6, 2000
    random = np.random.default_rng(0)
    values = [
        kernel_distance(
            random.normal(size=(8, D)), shift + random.normal(size=(8, D)), num_subsets=1
        )[0]
        for _ in range(repetitions)
    ]
    s = D * shift**2
    expected = 3 * s / D + 3 * s**2 / D**2 + (s**3 + 6 * s**2 + 3 * s * (D + 2)) / D**3
    error = np.std(values) / np.sqrt(repetitions)
    assert error < 0.1
    assert np.mean(values) == pytest.approx(expected, abs=3 * error)


def test_kernel_distance_takes_the_size_of_the_smaller_set():
    x, y = normal((30, 4)), normal((9, 4), seed=1)
    assert kernel_distance(x, y, 1000, 20) == kernel_distance(x, y, 9, 20)


def test_kernel_distance_refuses_subsets_of_one():
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(normal((1, 4)), normal((9, 4)))
    with pytest.raises(ValueError, match="at least 1"):
        kernel_distance(normal((9, 4)), normal((9, 4)), num_subsets=0)


# --- Precision and recall ---------------------------------------------------------------------


def looped_precision_recall(generated, reference, k):
    def covered(points, centres):
        radii = [
            sorted(np.linalg.norm(c - o) for j, o in enumerate(centres) if j != i)[k - 1]
            for i, c in enumerate(centres)
        ]
        inside = [
            any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True))
            for p in points
        ]
        return sum(inside) / len(points)

    return covered(generated, reference), covered(reference, generated)


@properties
@given(st.integers(5, 25), st.integers(5, 25), st.integers(1, 4), st.integers(1, 3), st.integers())
def test_precision_recall_is_a_loops(n, m, k, dimension, seed):
    """On a small grid, where points coincide and lie on the borders of balls, in blocks of 7."""
    random = np.random.default_rng(abs(seed))
    generated = random.integers(0, 6, (n, dimension)).astype(np.float32)
    reference = random.integers(0, 6, (m, dimension)).astype(np.float32) + 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(precision_recall.__globals__, "_ROWS", 7)
        values = precision_recall(generated, reference, k)
    assert values == pytest.approx(looped_precision_recall(generated, reference, k), abs=1e-12)


def test_precision_recall_in_many_dimensions():
    """Off the grid, with a mean that would leave float32 no digits of the distances."""
    generated, reference = 1000 + normal((80, 40)), 1000.1 + 1.1 * normal((70, 40), seed=1)
    generated, reference = generated.astype(np.float32), reference.astype(np.float32)
    values = precision_recall(generated, reference)
    expected = looped_precision_recall(np.float64(generated), np.float64(reference), 3)
    assert values == pytest.approx(expected, abs=1e-12)
    assert 0.2 < min(values) < max(values) < 1


def test_precision_recall_of_a_set_and_itself():
    x = normal((50, 8))
    assert precision_recall(x, x[::-1]) == (1, 1)


def test_precision_recall_of_distant_sets():
    x = normal((50, 8))
    assert precision_recall(x, x + 100) == (0, 0)


def test_precision_recall_of_duplicates():
    """All radii are 0, and what is rounded differently is still the same vector."""
    vectors = 1e3 + np.pi * normal((10, 300))
    x = np.repeat(vectors, 4, axis=0)
    assert precision_recall(vectors, x) == (1, 1)
    assert precision_recall(vectors + 1e-3, x)[0] == 0


def test_dropping_modes_costs_recall_and_bad_samples_cost_precision():
    modes = 100 * normal((4, 8))
    real, drawn = (
        np.concatenate([mode + normal((100, 8), seed + i) for i, mode in enumerate(modes)])
        for seed in (10, 20)
    )
    precision, recall = precision_recall(drawn, real)
    assert min(precision, recall) > 0.8
    fewer_precision, fewer_recall = precision_recall(drawn[:200], real)
    assert fewer_precision == pytest.approx(precision, abs=0.1)
    assert 0.4 < fewer_recall <= 0.5
    worse_precision, worse_recall = precision_recall(drawn, real[:200])
    assert 0.4 < worse_precision <= 0.5
    assert worse_recall == pytest.approx(recall, abs=0.1)


@pytest.mark.parametrize("k", [0, 5])
def test_precision_recall_refuses_more_neighbours_than_there_are(k):
    with pytest.raises(ValueError, match=f"k = {k} of 9 and 5"):
        precision_recall(normal((9, 2)), normal((5, 2)), k)


# --- Nearest ----------------------------------------------------------------------------------


@properties
@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.integers(1, 5), st.integers(1, 3))
def test_nearest_in_a_stream_is_scipys_in_the_whole(sizes, count, dimension):
    """On a small grid, where many are equally far."""
    stream = np.round(1.5 * normal((sum(sizes), dimension), seed=count)).astype(np.float32)
    queries = np.round(1.5 * normal((4, dimension), seed=count + 1))
    batches = iter(np.split(stream, np.cumsum(sizes)[:-1]))
    if sum(sizes) < count:
        with pytest.raises(ValueError, match=f"{count} neighbours wanted of {sum(sizes)}"):
            nearest(queries, batches, count)
        return
    distances, indices = nearest(queries, batches, count)
    whole = cdist(queries, stream)
    ordered = [sorted(range(len(stream)), key=lambda i: (row[i], i))[:count] for row in whole]
    np.testing.assert_array_equal(indices, ordered)
    np.testing.assert_array_equal(distances, np.take_along_axis(whole, np.array(ordered), 1))


def test_nearest_finds_a_copy():
    stream = normal((1000, 20)).astype(np.float32)
    distances, indices = nearest(stream[[700, 3]], np.split(stream, 10), 2)
    np.testing.assert_array_equal(indices[:, 0], [700, 3])
    np.testing.assert_array_equal(distances[:, 0], 0)
    assert (distances[:, 1] > 1).all()
