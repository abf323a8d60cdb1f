"""A metric in one file of the user: from Python, the shell and a run, on the page and in the JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numpy.random import RandomState
from quick_scores import quick_scores

pytestmark = pytest.mark.processes
METRIC = '''
"""The share of latents whose strongest correlation is with a factor of its own."""

import numpy as np

from disentanglement_challenge.metrics.metric import Metric, Result, count


def _compute(points, power):
    latents = (points.codes - points.codes.mean(axis=0)).astype(float)
    factors = (points.factors - points.factors.mean(axis=0)).astype(float)
    scale = np.outer(np.linalg.norm(latents, axis=0), np.linalg.norm(factors, axis=0))
    correlation = np.abs(latents.T @ factors / scale) ** power
    return Result({"share": len(set(correlation.argmax(axis=1))) / len(correlation)}, correlation)


METRIC = Metric(
    name="own_factor",
    key="share",
    label="Own factor",
    explanation="The share of latents that correlate most with a factor of their own.",
    compute=_compute,
    settings={"own_factor.num_train": count(1000), "own_factor.power": count(1)},
    draws=("own_factor.num_train",),
    matrix_label="Correlation",
)
'''


def run(folder, *arguments, **environment):
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_metric.py").write_text(METRIC)
    factors = np.stack(np.unravel_index(np.arange(60), [5, 4, 3]), axis=1)
    np.save(tmp_path / "factors.npy", factors)
    np.save(tmp_path / "codes.npy", factors + 0.1 * RandomState(0).normal(size=factors.shape))
    return tmp_path


def test_by_the_call(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    import my_metric

    from disentanglement_challenge import score

    codes, factors = np.load(folder / "codes.npy"), np.load(folder / "factors.npy")
    scores = score(codes, factors, metrics=["mig", my_metric.METRIC])
    assert scores["own_factor"] == 1
    assert scores.matrices["own_factor"].shape == (3, 3)
    assert "Own factor" in scores._repr_html_()
    squared = score(codes, factors, [my_metric.METRIC], settings={"own_factor.power": 2})
    np.testing.assert_allclose(squared.matrices["own_factor"], scores.matrices["own_factor"] ** 2)
    assert squared.unofficial == {"own_factor.power": 2}


def test_by_the_shell_with_its_page(folder):
    flags = ["--metrics", "my_metric:METRIC", "mig", "--json", "scores.json", "--page", "scores.html"]
    out = run(folder, "-m", "disentanglement_challenge.score", "codes.npy", "--factors", "factors.npy", *flags)
    assert "own_factor" in out
    saved = json.loads((folder / "scores.json").read_text())
    assert saved["scores"]["own_factor"] == 1
    assert np.shape(saved["matrices"]["own_factor"]) == (3, 3)
    page = (folder / "scores.html").read_text()
    for text in ("Own factor", "Correlation", "a factor of their own"):
        assert text in page


def test_of_an_experiment_whose_page_is_drawn_again_without_it(folder, embedded_data_path):
    environment = {"AICROWD_OUTPUT_PATH": folder / "out", "DISENTANGLEMENT_LIB_DATA": embedded_data_path}
    bindings = ["model.training_steps = 1", "model.batch_size = 4", "own_factor.num_train = 50", *quick_scores(50)]
    flags = [word for binding in bindings for word in ("--gin_bindings", binding)]
    run(folder, ROOT / "run.py", "--experiment", "e", "--metrics", "my_metric:METRIC", *flags, **environment)
    experiment = folder / "out" / "e"
    assert not (experiment / "scores.json").exists()
    results = experiment / "metrics" / "own_factor" / "results" / "aggregate" / "evaluation.json"
    content = json.loads(results.read_text())
    assert 0 < content["evaluation_results.share"] <= 1
    assert content["evaluation_config.own_factor.num_train"] == "50"
    drawn = (experiment / "page.html").read_text()
    Path(folder / "my_metric.py").unlink()
    run(folder, "-m", "disentanglement_challenge.pages", "e", **environment)
    again = (experiment / "page.html").read_text()
    for page in (drawn, again):
        assert "Own factor" in page
        assert "own_factor.num_train = 50" in page
