"""Intervals, features, neighbours and the report that gathers them."""

import hashlib
import json
from html.parser import HTMLParser

import flax.linen as nn
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import scipy.stats
import skimage.data

from wmgm_jax import data
from wmgm_jax.config import base
from wmgm_jax.core.moments import Moments
from wmgm_jax.evaluation import ImageSets, evaluate, features, intervals
from wmgm_jax.evaluation.inception import load as inception_load
from wmgm_jax.evaluation.inception.load import inception_network
from wmgm_jax.evaluation.measures.frechet import frechet_distance
from wmgm_jax.evaluation.neighbours import neighbours
from wmgm_jax.evaluation.report.write import Subject, write_evaluation


@pytest.fixture(scope="module")
def crops():
    image = skimage.data.immunohistochemistry()
    random = np.random.default_rng(0)
    corners = random.integers(0, 512 - 32, (240, 2))
    return np.stack([image[top : top + 32, left : left + 32] for top, left in corners])


class Pooled(nn.Module):
    """In the place of Inception, which takes minutes: means and deviations of blocks."""

    @nn.compact
    def __call__(self, images):
        blocks = images.reshape(len(images), 4, 8, 4, 8, 3)
        return jnp.concatenate(
            [x.reshape(len(images), -1) for x in (blocks.mean((2, 4)), blocks.std((2, 4)))], axis=1
        )


@pytest.fixture
def inception(monkeypatch):
    monkeypatch.setattr(inception_load, "InceptionV3", Pooled)
    return inception_network({}, "0123", batch_size=16)


def test_the_interval_of_a_mean_is_students():
    """For the mean of independent values the interval is known, and covers the truth 95 times in
    100."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        values = random.normal(3, 2, 200)
        measure = intervals.measured(lambda x: {"mean": x.mean()}, values)["mean"]
        low, high = measure["interval"]
        assert measure["value"] == values.mean()
        assert low + high == pytest.approx(2 * values.mean())
        covered += low <= 3 <= high
    # 400 trials at 0.95: the binomial's own spread is 4.4.
    assert abs(covered - 380) < 15
    subsets = values.reshape(20, 10).mean(0)
    width = scipy.stats.t.interval(0.95, 9, scale=scipy.stats.sem(subsets))[1]
    assert high - low == pytest.approx(2 * width)


def test_few_images_have_no_interval():
    assert intervals.measured(lambda x: {"n": len(x)}, np.zeros(20))["n"]["interval"] is None


def test_subsets_are_disjoint_and_cover_all():
    parts = intervals.subsets(123)
    assert sorted(np.concatenate(parts)) == list(range(123))


def test_features_of_a_stream_are_those_of_its_images(inception, crops, tmp_path):
    """In batches that do not divide the set, by subset or not, from the cache or not."""
    images = crops[:85]
    rows = inception.features(images)
    assert rows.shape == (85, 96)
    np.testing.assert_allclose(inception.features(images[7:9]), rows[7:9], rtol=1e-4, atol=1e-5)
    source = data.from_array(images)
    whole = inception.feature_set(source, by_subset=True)
    assert len(whole.moments) == intervals.SUBSETS
    np.testing.assert_array_equal(whole.kept, rows)
    np.testing.assert_allclose(whole.whole.mean, rows.mean(0, np.float64), rtol=1e-6)
    np.testing.assert_allclose(
        whole.moments[3].covariance, np.cov(rows[3::10].T.astype(np.float64)), atol=1e-9
    )
    first = inception.cached_feature_set(source, tmp_path)
    assert first.whole.count == 85
    (file,) = tmp_path.iterdir()
    changed = file.stat().st_mtime_ns
    again = inception.cached_feature_set(source, tmp_path)
    assert file.stat().st_mtime_ns == changed
    np.testing.assert_array_equal(again.whole.scatter, first.whole.scatter)
    np.testing.assert_array_equal(again.kept, first.kept)
    # Another image, another key; a damaged file is made anew.
    inception.cached_feature_set(data.from_array(crops[1:86]), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    file.write_bytes(file.read_bytes()[:1000])
    np.testing.assert_array_equal(inception.cached_feature_set(source, tmp_path).kept, rows)


def test_of_a_large_set_few_features_are_kept(inception, crops, monkeypatch):
    monkeypatch.setattr(features, "KEPT", 7)
    kept = inception.feature_set(data.from_array(crops[:20]), by_subset=False).kept
    np.testing.assert_allclose(
        kept, inception.features(crops[np.linspace(0, 19, 7).astype(int)]), rtol=1e-4, atol=1e-5
    )


def test_neighbours_find_the_copies(crops, inception, tmp_path):
    training, others = crops[:64], crops[64:72]
    copies = np.clip(training[[5, 9, 40, 2]].astype(int) + 2, 0, 255).astype(np.uint8)
    sets = [data.from_array(x) for x in (copies, others, training)]
    for network in (None, inception):
        found = neighbours(*sets, network, tmp_path)
        assert found.nearest_distance < 0.3 * found.nearest_distance_of_reference
        columns = [found.picture[:, 2 + 130 * k : 130 * (k + 1)] for k in range(2)]
        difference = columns[0][2:130].astype(int) - columns[1][2:130]
        assert np.abs(difference).max() <= 2


@pytest.fixture(scope="module")
def sets(crops):
    noisy = np.clip(crops[:90] + np.random.default_rng(0).normal(0, 30, (90, 32, 32, 3)), 0, 255)
    return ImageSets(
        data.from_array(noisy.astype(np.uint8)),
        data.from_array(crops[90:170]),
        data.from_array(crops[170:]),
    )


def test_evaluate(sets, inception, crops, tmp_path):
    tree = evaluate(sets, 2, inception, tmp_path)
    measures = tree["measures"]
    assert {"fid", "kid", "precision", "recall", "spectrum_error"} <= measures.keys()
    generated, reference = (
        Moments.of(inception.features(data.spread(x, 1000)))
        for x in (sets.generated, sets.reference)
    )
    expected = frechet_distance(generated, reference)
    assert measures["fid"]["value"] == pytest.approx(expected, rel=1e-3)
    # Noise is worse than what training images reach, beyond the interval; not so in the low band.
    for name in (
        "fid",
        "kid",
        "spectrum_error",
        "sliced_wasserstein/32",
        "marginal_wasserstein/scale_1/HH",
    ):
        assert measures[name]["interval"][0] > measures[name]["training"], name
    low = measures["marginal_wasserstein/scale_2/LL"]
    assert low["interval"][0] < 2 * low["training"]
    assert measures["fid"]["images"] == [90, 80]
    assert tree["method"]["weights_sha256"] == "0123"
    noisy, clean = (tree["bands"][name]["sparsity"] for name in ("generated", "reference"))
    assert np.all(np.array(noisy["by_scale"])[0, 1:4] < np.array(clean["by_scale"])[0, 1:4])


def test_fid_takes_more_than_a_few_images(crops, inception, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("wmgm_jax.evaluation.report.write.load_inception", lambda *_: inception)
    few, many = data.from_array(crops[:3]), data.from_array(crops[10:20])
    subject = Subject("few", ImageSets(few, many), 2)
    write_evaluation(subject, tmp_path, ml_collections.ConfigDict(base().evaluation), str(tmp_path))
    tree = json.loads((tmp_path / "evaluation.json").read_text())
    assert "sliced_wasserstein/mean" in tree["measures"]
    assert "fid" not in tree["measures"]
    assert "fewer than 4 images" in caplog.text


class Page(HTMLParser):
    """What a page refers to, and whether its elements are closed."""

    def __init__(self):
        super().__init__()
        self.references, self.headings, self.open = [], [], []
        self.images = 0

    def handle_starttag(self, tag, attributes):
        if tag not in ("img", "meta", "br", "link"):
            self.open.append(tag)
        self.images += tag == "img"
        self.references += [v for k, v in attributes if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "h2":
            self.headings.append(text)


def test_the_report_is_one_page_that_needs_nothing_else(sets, tmp_path, monkeypatch):
    monkeypatch.setattr("wmgm_jax.evaluation.learned.training.BATCH_SIZE", 4)
    settings = ml_collections.ConfigDict(base().evaluation)
    settings.inception_weights = "none"
    settings.feature_steps = 2
    records = [
        {"stage": "score", "step": step, "score_loss": 1 / step, "sliced_wasserstein": 0.1}
        for step in range(1, 5)
    ]
    subject = Subject('<script>alert("x")</script>', sets, 2, {"step": 3}, {}, records)
    write_evaluation(subject, tmp_path, settings, str(tmp_path / "cache"))
    tree = json.loads((tmp_path / "evaluation.json").read_text())
    assert tree["step"] == 3
    assert tree["method"]["weights_sha256"] is None
    assert tree["nearest_training_image"]["median_distance"] > 0
    assert tree["nearest_training_image"]["space"] == "learned features"
    network = (tmp_path / "feature_network.npz").read_bytes()
    assert tree["method"]["feature_network"]["sha256"] == hashlib.sha256(network).hexdigest()
    for name in ("frechet", "precision", "recall"):
        measure = tree["measures"][f"learned/{name}"]
        assert measure["interval"] and measure["training"] is not None
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.images == 3
    assert all(r.startswith(("data:image/png;base64,", "#")) for r in page.references)
    assert page.headings == [
        "Measures",
        "Generated images",
        "Reference images",
        "Nearest training images",
        "Training of stage score",
        "Power spectra",
        "Marginals of the Haar bands",
        "Sparsity of the detail bands",
        "Everything",
    ]
