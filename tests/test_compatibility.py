"""Configs of runs: what may change when a run goes on, and files of before."""

import json

import pytest

from tests.tiny import get_config
from wmgm_jax import runs
from wmgm_jax.config import compatibility, leaves
from wmgm_jax.config.validation import validate
from wmgm_jax.core.errors import UserError


def flat(config):
    return dict(leaves(config))


def test_a_config_comes_back_as_it_was_written(tmp_path):
    config = get_config()
    run = runs.open_run(config, tmp_path)
    tree = json.loads((tmp_path / "config.json").read_text())
    assert tree["version"] == compatibility.VERSION
    assert flat(runs.read_config(tmp_path)) == flat(run.config)


@pytest.mark.parametrize("key", ["train.steps_per_call", "sampling.dtype", "msal.learning"])
@pytest.mark.parametrize("version", [None, 1])
def test_a_setting_that_a_run_lacks_gets_its_default(key, version, tmp_path):
    """The three were added in the project's history, and their defaults keep what was done."""
    tree = compatibility.to_json(get_config())
    tree.pop("version")
    if version is not None:
        tree["version"] = version
    section, name = key.split(".")
    default = tree[section].pop(name)
    (tmp_path / "config.json").write_text(json.dumps(tree))
    config = runs.read_config(tmp_path)
    assert config[section][name] == default
    assert flat(config) == flat(get_config())
    # The run goes on.
    runs.open_run(get_config(), tmp_path)


def test_runs_of_before_version_2_keep_the_losses_of_the_paper():
    tree = get_config().to_dict()
    paper = tree["msal"].pop("paper") | {"mse_weight": 7.0}
    tree["msal"] |= paper
    for section, names in {
        "msal": ("loss", "relativistic", "noise_per_channel"),
        "score": ("loss",),
    }.items():
        for name in names:
            del tree[section][name]
    config = compatibility.from_json({"version": 1, **tree})
    assert config.msal.loss == config.score.loss == "paper"
    assert config.msal.paper.to_dict() == paper
    assert set(dict(leaves(config))) == set(flat(get_config()))
    validate(config)


def test_a_whole_section_may_be_missing():
    tree = get_config().to_dict()
    fno = tree["msal"].pop("fno")
    config = compatibility.from_json(tree)
    assert set(config.msal.fno) == set(fno)


def test_a_setting_may_keep_what_was_done_before_it(monkeypatch):
    monkeypatch.setitem(compatibility.BEFORE, "score.prediction", "noise")
    tree = get_config().to_dict()
    assert compatibility.from_json(tree).score.prediction == "velocity"
    del tree["score"]["prediction"]
    assert compatibility.from_json(tree).score.prediction == "noise"


@pytest.mark.parametrize(
    ("version", "steps", "expected"),
    [
        (0, 6, ("dpmpp_2m", "optimal")),
        (0, 4, ("multistep", "multistep")),
        (1, 6, ("multistep", "multistep")),
        (2, 6, ("multistep", "multistep")),
    ],
)
def test_multistep_was_another_sampler_for_other_steps(version, steps, expected):
    tree = get_config().to_dict() | {"version": version}
    tree["sampling"] |= {"sampler": "multistep", "spacing": "multistep", "num_steps": steps}
    sampling = compatibility.from_json(tree).sampling
    assert (sampling.sampler, sampling.spacing) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "of version 99, and this program knows versions up to 2: install"),
        ({"version": "one"}, "of version 'one'"),
        ({"system": "pixelcnn"}, "system must be one of"),
        ({"sampling": 3}, "'sampling' must be a section of settings, not 3"),
        ({"colour": 3}, "config.colour is not a setting"),
    ],
)
def test_damaged_configs_are_told_in_one_line(change, message, tmp_path):
    tree = compatibility.to_json(get_config()) | change
    (tmp_path / "config.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match=message) as error:
        runs.read_config(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", [None, 1])
def test_a_run_with_other_networks_is_refused_in_one_line(version, tmp_path):
    """The networks of WaveDiff changed with version 2; those of others did not."""
    trees = {system: compatibility.to_json(get_config(system)) for system in ("wavediff", "sgm")}
    for tree in trees.values():
        tree["version"] = version
        if version is None:
            tree.pop("version")
    (tmp_path / "config.json").write_text(json.dumps(trees["wavediff"]))
    expected = r"config.json cannot be used: its run was trained when the networks of WaveDiff were"
    for use in (runs.read_config, lambda path: runs.open_run(get_config("wavediff"), path)):
        with pytest.raises(UserError, match=expected) as error:
            use(tmp_path)
        assert "\n" not in str(error.value)
    assert compatibility.from_json(trees["sgm"]).system == "sgm"


def test_what_may_change_when_a_run_goes_on():
    config = get_config()
    for key, value, stays in [
        ("sampling.num_steps", 8, True),
        ("train.keep", 9, True),
        ("score.num_steps", 24, True),
        ("score.batch_size", 16, False),
        ("train.dtype", "bfloat16", False),
    ]:
        other = config.copy_and_resolve_references()
        other.update_from_flattened_dict({key: value})
        assert compatibility.different(config, other) == ([] if stays else [key])
    # The learning rate follows the length of the run.
    config.score.optimizer.decay = "cosine"
    other = config.copy_and_resolve_references()
    other.score.num_steps = 24
    assert compatibility.different(config, other) == ["score.num_steps"]
