"""The notebook docs/tour.ipynb: what is committed, and that it runs from its first cell to its last."""

import json
import os
import re

import pytest
from conftest import ROOT

from disentanglement_challenge.metrics import METRICS

NOTEBOOK = ROOT / "docs" / "tour.ipynb"
LARGEST = 1_000_000  # bytes
# Folders of whoever ran it, and addresses.
OF_A_MACHINE = re.compile(
    r"/(?:home|root|tmp|work|Users|usr|opt|var|mnt)/|[A-Z]:\\|site-packages|\b\d+\.\d+\.\d+\.\d+\b"
)


@pytest.fixture(scope="module")
def cells():
    return json.loads(NOTEBOOK.read_text())["cells"]


def outputs_of(cells):
    return [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]


def test_it_is_small():
    assert NOTEBOOK.stat().st_size < LARGEST


def test_it_was_run_once_from_top_to_bottom_without_an_error(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = [output["output_type"] for output in outputs_of(cells)]
    assert "error" not in kinds
    assert not [output for output in outputs_of(cells) if output.get("name") == "stderr"], "progress bars"


def test_it_shows_pictures_and_the_table(cells):
    shown = [output.get("data", {}) for output in outputs_of(cells)]
    assert sum("image/png" in data for data in shown) == 5
    (table,) = ["".join(data["text/markdown"]) for data in shown if "text/markdown" in data]
    heading, _, *rows = table.split("\n")
    assert [name.strip() for name in heading.strip("|").split("|")[1:]] == list(METRICS)
    scores = [[float(score) for score in row.strip("|").split("|")[1:]] for row in rows]
    assert len(scores) == 3
    assert all(0 <= score <= 1 for row in scores for score in row)


def test_it_says_nothing_of_the_machine(cells):
    text = [*("".join(cell["source"]) for cell in cells)]
    for output in outputs_of(cells):
        data = {name: value for name, value in output.get("data", {}).items() if not name.startswith("image/")}
        text += ["".join(value) for value in [output.get("text", ""), *data.values()]]
    for part in text:
        without_pictures = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", part)
        assert not OF_A_MACHINE.search(without_pictures), OF_A_MACHINE.search(without_pictures)


@pytest.mark.slow
def test_it_runs(embedded_data_path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(embedded_data_path))
    monkeypatch.setenv("AICROWD_CUDA", "False")
    for name in [name for name in os.environ if name.startswith("AICROWD_") and name != "AICROWD_CUDA"]:
        monkeypatch.delenv(name)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=3000, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()  # raises what a cell raises
    (table,) = [
        output["data"]["text/markdown"]
        for output in outputs_of(notebook["cells"])
        if "text/markdown" in output.get("data", {})
    ]
    assert table.count("\n") == 4
    scores = [float(score) for score in re.findall(r"\d\.\d{4}", table)]
    assert len(scores) == 15
    assert all(0 <= score <= 1 for score in scores)
