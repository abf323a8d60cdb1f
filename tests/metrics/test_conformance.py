"""docs/reference_scores.json: its recipe makes its codes, and our metrics reproduce its values."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from disentanglement_challenge.errors import DataError, RepresentationError
from disentanglement_challenge.metrics import RECORDS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = json.loads((ROOT / "docs" / "reference_scores.json").read_text())
OTHER_KEYS = {"dci completeness": ("dci", "completeness"), "dci informativeness": ("dci", "informativeness_test")}


def _arrays(entry):
    factors = REFERENCE["grid"] if entry["factors"] == "grid" else entry["factors"]
    return np.array(entry["codes"]) / entry["denominator"], np.array(factors)


@pytest.mark.parametrize("entry", REFERENCE["codes"], ids=lambda entry: entry["name"])
def test_our_metrics_reproduce_the_reference_scores(entry):
    codes, factors = _arrays(entry)
    results = {}
    for name, reference in entry["scores"].items():
        metric, key = OTHER_KEYS.get(name, (name, RECORDS.get(name) and RECORDS[name].key))
        record = RECORDS[metric]
        if metric not in results:
            try:
                arrays = (codes, factors) * len(record.draws)
                results[metric] = record.of_arrays(*arrays).values
            except (DataError, RepresentationError):
                results[metric] = {}
        value = results[metric].get(key)
        if reference["value"] is None:
            assert value is None, name
        else:
            assert value == pytest.approx(reference["value"], abs=reference["tolerance"], rel=0), name


@pytest.fixture(scope="module")
def recipe():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import make_reference_scores

        yield make_reference_scores
    finally:
        sys.path.remove(str(ROOT / "docs"))


def test_the_files_codes_are_its_recipes(recipe):
    made = list(recipe.codes())
    assert [name for name, *_ in made] == [entry["name"] for entry in REFERENCE["codes"]]
    for (name, _, integers, denominator, factors), entry in zip(made, REFERENCE["codes"], strict=True):
        codes, expected_factors = _arrays(entry)
        np.testing.assert_array_equal(np.asarray(integers) / denominator, codes, err_msg=name)
        np.testing.assert_array_equal(factors, expected_factors, err_msg=name)


@pytest.mark.parametrize("name", ["hadamard", "noise 256", "one latent", "outlier", "correlated"])
def test_the_files_values_are_its_recipes(recipe, name):
    entry = next(entry for entry in REFERENCE["codes"] if entry["name"] == name)
    for metric, value in recipe.by_formula(*_arrays(entry)).items():
        expected = entry["scores"][metric]["value"]
        assert value == pytest.approx(expected, abs=1e-9) if expected is not None else value is None


def test_it_covers_every_metric_that_is_a_function_of_arrays():
    of_arrays = {record.name for record in RECORDS.values() if record.draws} - {"activity"}
    for entry in REFERENCE["codes"]:
        assert set(entry["scores"]) - set(OTHER_KEYS) == of_arrays
