"""Scores from the shell: `python -m disentanglement_challenge.score`."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from messages import assert_error_line, facts
from numpy.random import RandomState
from torch import nn

from disentanglement_challenge import score
from disentanglement_challenge.data import named
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import ChallengeError
from disentanglement_challenge.export.model_file import export_model
from disentanglement_challenge.score.__main__ import main, parse

FACTORS = np.stack(np.unravel_index(np.arange(24), [3, 2, 4]), axis=1)
CODES = (FACTORS + 0.1 * RandomState(0).normal(size=FACTORS.shape)).astype(np.float32)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("codes.npy", CODES)
    np.save("factors.npy", FACTORS)
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    words = [["red", "green", "blue"], ["small", "large"], ["1", "2", "3", "4"]]
    rows = [";".join(w[i] for w, i in zip(words, row, strict=True)) for row in FACTORS]
    lines = ["id;color;size;angle", *(f"{i};{row}" for i, row in enumerate(rows))]
    (tmp_path / "factors.csv").write_text("\n".join(lines))


def scores_of(*arguments):
    main(parse([*arguments, "--json", "out.json"]))
    with open("out.json") as file:
        return json.load(file)


def test_codes_and_factors(capsys):
    found = scores_of("codes.npy", "--factors", "factors.npy", "--metrics", "mig", "sap")
    assert found["scores"] == score(CODES, FACTORS, ["mig", "sap"]).as_dict()
    printed = capsys.readouterr().out
    assert f"{found['scores']['mig']:.4f}" in printed
    assert os.path.abspath("out.json") in printed


def test_codes_that_say_nothing_get_a_note():
    np.save("constant.npy", np.ones_like(CODES))
    found = scores_of("constant.npy", "--factors", "factors.npy", "--metrics", "mig")
    assert found["scores"]["mig"] == 0
    assert any("constant" in note for note in found["notes"])
    assert not scores_of("codes.npy", "--factors", "factors.npy", "--metrics", "mig")["notes"]


def test_a_table_without_its_ids():
    found = scores_of("codes.npy", "--factors", "factors.csv", "--leave_out", "id", "--metrics", "mig")
    # Words sort differently from the factors' numbers, so other rows are drawn; the grid is the same.
    assert found["data"]["factor_names"] == ["color", "size", "angle"]
    assert found["scores"]["mig"] == pytest.approx(score(CODES, FACTORS, "mig")["mig"], abs=0.02)


def test_codes_in_a_data_sets_order_and_a_model(monkeypatch):
    images = RandomState(0).randint(256, size=(24, 64, 64, 3)).astype(np.uint8)
    data = IndexedGroundTruthData("tiny", images, [3, 2, 4], ["a", "b", "c"])
    monkeypatch.setitem(named.LOADERS, "tiny", lambda name, path: data)
    assert (
        scores_of("codes.npy", "--dataset", "tiny", "--metrics", "mig")["scores"] == score(CODES, data, "mig").as_dict()
    )
    torch.manual_seed(0)
    export_model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4)), "model.pt")
    settings = ["--settings", "mig.num_train = 100"]
    found = scores_of("model.pt", "--dataset", "tiny", "--metrics", "mig", *settings)
    assert found["scores"] == score("model.pt", data, "mig", settings={"mig.num_train": 100}).as_dict()
    assert found["unofficial_settings"] == {"mig.num_train": 100}


def test_bins_of_a_continuous_factor():
    continuous = np.column_stack([np.repeat(FACTORS[:, 0], 10), RandomState(0).uniform(size=240)])
    np.save("factors.npy", continuous)
    np.save("codes.npy", continuous + 0.0)
    with pytest.raises(ChallengeError, match="--bins"):
        scores_of("codes.npy", "--factors", "factors.npy")
    flags = ["codes.npy", "--factors", "factors.npy", "--metrics", "mig"]
    expected = score(continuous, continuous, "mig", bins=5)
    assert scores_of(*flags, "--bins", "5")["scores"] == expected.as_dict()
    assert scores_of(*flags, "--bins", "0", "5")["scores"] == expected.as_dict()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["codes.npy"], ["codes.npy", "--factors FILE", "--dataset NAME"]),
        (["model.pt"], ["model.pt", "--dataset"]),
        (["codes.npy", "--factors", "nowhere.csv"], ["no file", "nowhere.csv"]),
        (["broken.npz", "--factors", "factors.npy"], ["broken.npz", ".npy", ".npz", "table"]),
        (["codes.npy", "--factors", "factors.csv"], ["'id'", "every row"]),
        (["codes.npy", "--factors", "factors.csv", "--leave_out", "idd"], ["'idd'", "did you mean 'id'"]),
        (["codes.npy", "--factors", "factors.npy", "--metrics", "migg"], ["'migg'", "did you mean 'mig'"]),
        (["codes.npy", "--factors", "factors.npy", "--metrics", "nowhere:METRIC"], ["'nowhere:METRIC'", "import"]),
        (["codes.npy", "--factors", "factors.npy", "--metrics", "json:dumps"], ["'json:dumps'", "function", "Metric"]),
        (
            ["codes.npy", "--factors", "factors.npy", "--settings", "mig.num_train"],
            ["'mig.num_train'", "'dci.num_train = 2000'"],
        ),
        (["codes.npy", "--factors", "factors.npy", "--engine", "exact"], ["'exact'", "'fast'"]),
        (["codes.npy", "--factors", "factors.npy", "--page", "factors.npy"], ["--page", "factors.npy", ".html"]),
        (["codes.npy", "--factors", "factors.npy", "--json", "codes.npy"], ["--json", "codes.npy", ".json"]),
        (["codes.npy", "--dataset", "mpi3d_embedded", "--leave_out", "object_color"], ["--leave_out", "--factors"]),
        (["codes.npy", "--dataset", "mpi3d_embedded", "--bins", "5"], ["--bins", "--factors"]),
    ],
)
def test_mistakes_are_one_line(arguments, said):
    with pytest.raises(ChallengeError, match=facts(*said)) as raised:
        main(parse(arguments))
    assert "\n" not in str(raised.value)


def test_a_mistake_in_flags_is_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        parse(["codes.npy", "--metric", "mig"])
    assert end.value.code == 2
    assert_error_line(capsys.readouterr().err, "--metric", "did you mean '--metrics'")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom disentanglement_challenge.score.__main__ import parse\n"
        "try:\n    parse(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'numpy', 'torch', 'numba'} & sys.modules.keys()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert result.returncode == 0, result.stderr
    assert "codes.npy --factors" in result.stdout


def _environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}
