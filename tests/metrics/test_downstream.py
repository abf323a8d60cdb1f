import numpy as np
import pytest
from library_scores import library_results, our_results
from small_data import (
    NUM_IMAGES,
    codes_of_every_kind,
    collapsed_codes,
    network,
    representation_of,
    small_ground_truth_data,
)

from disentanglement_challenge.data.sampling import RowSampler
from disentanglement_challenge.errors import ScoreError
from disentanglement_challenge.metrics import RECORDS

METRIC = RECORDS["downstream_task"]
SETTINGS = {**METRIC.official(), "downstream_task.num_train": [10, 500], "downstream_task.num_test": 300}


@pytest.mark.parametrize(
    ("representation_function", "predictor_fn"),
    [
        (network, "@gradient_boosting_classifier"),
        (representation_of(codes_of_every_kind()), "@gradient_boosting_classifier"),
        (network, "@logistic_regression_cv"),
    ],
    ids=["network", "every kind", "network, linear"],
)
def test_the_scores_are_the_librarys(representation_function, predictor_fn):
    data, settings = small_ground_truth_data(), {**SETTINGS, "predictor.predictor_fn": predictor_fn}
    ours = our_results(METRIC, data, representation_function, settings).values
    expected = library_results(METRIC, data, representation_function, settings)
    assert ours == pytest.approx(expected, abs=0.01)  # equally good cuts
    for key, value in expected.items():
        if key.startswith("10:"):  # scikit-learn's own models
            assert ours[key] == pytest.approx(value, abs=1e-12)


def test_codes_with_a_known_answer():
    data = small_ground_truth_data()
    factors = data.index_to_factors(np.arange(NUM_IMAGES))
    settings = {**SETTINGS, "downstream_task.num_train": [10000]}
    key = METRIC.key
    assert our_results(METRIC, data, representation_of(factors.astype(float)), settings).values[key] == 1
    rotated = factors @ np.array([[1, 1, 0, 0], [1, -1, 0, 0], [0, 0, 1, 1], [0, 0, 1, -1.0]])
    assert our_results(METRIC, data, representation_of(rotated), settings).values[key] == 1
    # Uninformative latents: the prediction is each factor's most frequent training value.
    chance = our_results(METRIC, data, representation_of(collapsed_codes()), settings).values
    assert chance[key] == pytest.approx(np.mean([1 / 4, 1 / 3, 1 / 2, 1 / 5]), abs=0.05)
    assert chance["10000:min_test_accuracy"] == pytest.approx(1 / 5, abs=0.06)


def test_rows():
    data, codes = small_ground_truth_data(), codes_of_every_kind()
    sampler = RowSampler(codes, data.index_to_factors(np.arange(NUM_IMAGES)), data.factor_names)
    of_rows = METRIC.results(sampler, 0, SETTINGS).values["500:mean_test_accuracy"]
    of_grid = our_results(METRIC, data, representation_of(codes), SETTINGS).values["500:mean_test_accuracy"]
    assert of_rows == pytest.approx(of_grid, abs=0.05)
    constant = RowSampler(codes, np.zeros((NUM_IMAGES, 1), dtype=np.int64), ["only"])
    with pytest.raises(ScoreError, match=r"'only'.*one value"):
        METRIC.results(constant, 0, SETTINGS)
