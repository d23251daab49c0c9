"""A new system is a class, its settings, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

import wmgm_jax
from experiments import comparison
from tests.tiny import get_config
from wmgm_jax import runs, systems, training
from wmgm_jax.config import base, registry, sibling
from wmgm_jax.config.checks import expect
from wmgm_jax.config.registry import SystemSettings
from wmgm_jax.config.sections import optimizer
from wmgm_jax.config.validation import validate
from wmgm_jax.core.errors import UserError
from wmgm_jax.core.random import normal
from wmgm_jax.evaluation.trained import evaluate_model
from wmgm_jax.systems import cost
from wmgm_jax.systems.interface import NetworkCall, Objective, Stage


def _sections():
    return {
        "toy": {
            "num_steps": 4,
            "batch_size": 8,
            "accumulate": 1,
            "ema_decay": 0.9,
            "grain": 0.1,
            "optimizer": optimizer(0.1, weight_decay=0.0),
        }
    }


SETTINGS = SystemSettings(
    label="Toy",
    sections=_sections,
    not_negative=("grain",),
    check=lambda config: expect(config.toy.grain < 9, "toy.grain", "below 9", config.toy.grain),
)


class Toy:
    """Draws the mean of the images and grain."""

    reconstruct = None

    def __init__(self, config, dtype):
        (height, width), channels = config.data.image_size, config.data.channels
        self.shape, self.settings = (height, width, channels), config.toy
        self.stages = {
            "toy": Stage(
                section="toy",
                settings=config.toy,
                init=lambda key: ({"toy": jnp.zeros(self.shape)}, {}),
                objectives={"toy": Objective(self.loss, config.toy.optimizer)},
                export=lambda params, batch_stats: params,
                generated_and_target=lambda params, keys, images: (self.draw(params, keys), images),
                is_paired=False,
            )
        }

    def compute_statistics(self, batches):
        return {"std": np.float32(np.std(next(iter(batches))))}

    def loss(self, params, batch_stats, batch):
        loss = jnp.mean((params["toy"] - batch.images) ** 2)
        return loss, ({"toy_loss": loss}, batch_stats)

    def draw(self, params, keys):
        return params["toy"] + self.settings.grain * normal(keys, (len(keys), *self.shape))

    def make_draw(self, sampling):
        return self.draw

    def network_calls(self, sampling):
        mean = jax.ShapeDtypeStruct(self.shape, jnp.float32)
        return [NetworkCall("mean", 1, lambda x: 2 * x, (mean,))]


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(registry, "SETTINGS", dict(registry.SETTINGS))
    monkeypatch.setattr(systems.registry, "SYSTEMS", dict(systems.registry.SYSTEMS))
    registry.register_settings("toy", SETTINGS)
    systems.register("toy")(Toy)


def test_a_new_system_takes_no_edit_elsewhere(toy, tmp_path):
    config = sibling(get_config(), "toy")
    config.evaluation.every = config.train.preview_every = 4
    validate(config)
    run = runs.open_run(config, tmp_path / "toy")
    training.train(run)
    model = wmgm_jax.load(run.workdir)
    evaluate_model(model, run.workdir, run.train, run.valid)
    assert model.step == {"toy": 4}
    images = wmgm_jax.make_sample_fn(config)(model.params, jax.random.key(0), 3)
    assert images.shape == (3, 16, 16, 3)
    assert (run.workdir / "report.html").exists()
    # Whatever looks systems up by name knows it.
    assert cost.summarise(config)["system"] == "toy"
    assert registry.labels()["toy"] == "Toy"
    assert comparison.budgeted(config, 1e-6).toy.num_steps > 0
    assert base("toy").toy.grain == 0.1
    config.toy.grain = 9.0
    with pytest.raises(UserError, match=r"toy\.grain must be below 9"):
        validate(config)
    config.toy.grain = -1.0
    with pytest.raises(UserError, match=r"toy\.grain must be at least 0"):
        validate(config)


def test_every_system_has_settings_and_a_class():
    assert set(registry.names()) == set(systems.registry.SYSTEMS)
    for name in registry.names():
        config = base(name)
        validate(config)
        assert sibling(base(), name).system == config.system == name
        assert systems.build(config).stages


@pytest.mark.parametrize("name", ["toys", ""])
def test_an_unknown_system_is_named(name):
    with pytest.raises(UserError, match="system must be one of sgm, wavediff, wmgm, wsgm, not"):
        base(name)


def test_no_file_lists_the_systems():
    """The names stand in the files of each system, in configs and in experiments, and where WMGM
    is the default."""
    own = {"wmgm.py", "sgm.py", "wsgm.py", "wavediff.py"}
    for path in (ROOT / "wmgm_jax").rglob("*.py"):
        text = path.read_text()
        assert path.name in own or ('"wsgm"' not in text and '"wavediff"' not in text), path
