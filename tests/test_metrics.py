"""What a run says of itself."""

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, TINY


def test_log_lines_tell_of_compiling_and_of_every_report(tmp_path):
    flags = (TINY, f"--workdir={tmp_path}", "--config.stages=score")
    process = subprocess.run(
        [sys.executable, "-m", "wmgm_jax.main", *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_LOG_COMPILES": "1"},
        capture_output=True,
        text=True,
    )
    log = process.stderr
    assert process.returncode == 0, log
    compiling = r"score: compiling program 1 of 1\n.*score: compiled in \d+ s\n.*score 2/12"
    assert re.search(compiling, log, re.S)
    # Pictures, measures and checkpoints have their programs from step 6 on.
    before, after = log.split("score 6: ")
    assert "Finished XLA compilation" in before
    assert "Compiling" not in after.split("score 12/12")[0].split("score 8/12")[1]


def test_tensorboard_holds_what_metrics_jsonl_holds(run, tmp_path):
    pytest.importorskip("clu")
    pytest.importorskip("tensorboard")
    tensorflow = pytest.importorskip("tensorflow")
    code, _, log = run(TINY, f"--workdir={tmp_path}", "--config.stages=score")
    assert code == 0, log
    (path,) = (tmp_path / "tensorboard" / "score").iterdir()
    events = {}
    for record in tensorflow.compat.v1.train.summary_iterator(str(path)):
        for value in record.summary.value:
            events[value.tag, record.step] = float(tensorflow.make_ndarray(value.tensor))
    written = {}
    for record in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()):
        step = record.pop("step")
        assert record.pop("stage") == "score"
        written |= {(name, step): value for name, value in record.items()}
    assert events == pytest.approx(written, rel=1e-6)
