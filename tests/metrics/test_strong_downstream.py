import numpy as np
import pytest
from library_scores import library_results, our_results
from small_data import (
    NUM_IMAGES,
    codes_of_every_kind,
    network,
    representation_of,
    small_ground_truth_data,
)

from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.sampling import GridSampler
from disentanglement_challenge.errors import ScoreError
from disentanglement_challenge.metrics import RECORDS

METRIC = RECORDS["strong_downstream_task"]
SETTINGS = {
    **METRIC.official(),
    "strong_downstream_task.num_train": [90, 300],
    "strong_downstream_task.num_test": 200,
    "strong_downstream_task.n_experiment": 1,
}


@pytest.mark.parametrize(
    ("codes", "predictor_fn"),
    [(None, "@gradient_boosting_classifier"), (6, "@gradient_boosting_classifier"), (None, "@logistic_regression_cv")],
    ids=["network", "some kinds", "network, linear"],
)
def test_the_scores_are_the_librarys(codes, predictor_fn):
    """All draws are the library's, including interventions from numpy's global generator, which trees advance."""
    representation_function = representation_of(codes_of_every_kind()[:, :codes]) if codes else network
    data, settings = small_ground_truth_data(), {**SETTINGS, "predictor.predictor_fn": predictor_fn}
    ours = our_results(METRIC, data, representation_function, settings).values
    expected = library_results(METRIC, data, representation_function, settings)
    for key, value in expected.items():
        tolerance = 1e-12 if key.startswith("90:") or predictor_fn == "@logistic_regression_cv" else 0.03
        assert ours[key] == pytest.approx(value, abs=tolerance), key


def _sums(size):
    """Return images of two factors of equal size, and the factors' sum modulo that size as their code."""
    images = np.zeros((size * size, 8, 8, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(size * size)
    data = IndexedGroundTruthData("sums", images, [size, size], ["a", "b"])
    return data, data.index_to_factors(np.arange(size * size)).sum(axis=1, keepdims=True) % size


def test_codes_with_a_known_answer():
    data = small_ground_truth_data()
    perfect = data.index_to_factors(np.arange(NUM_IMAGES)).astype(float)
    values = our_results(METRIC, data, representation_of(perfect), SETTINGS).values
    assert values["300:mean_strong_test_accuracy"] == values["300:mean_test_accuracy"] == 1
    assert values["300:strong_generalization_gap"] == 0
    # With one factor fixed, the sum determines the other; at any other value the prediction is always wrong.
    data, sums = _sums(5)
    values = our_results(METRIC, data, representation_of(sums.astype(float)), SETTINGS).values
    assert values["300:mean_strong_train_accuracy"] == 1
    assert values["300:mean_strong_test_accuracy"] == 0
    assert values["300:mean_test_accuracy"] == pytest.approx(1 / 5, abs=0.08)
    assert values["300:strong_generalization_gap"] == 1


@pytest.mark.parametrize("predictor_fn", METRIC.settings["predictor.predictor_fn"].choices)
def test_a_rehearsal_asks_for_the_same_images(predictor_fn):
    settings = {**SETTINGS, "predictor.predictor_fn": predictor_fn}
    asked = []

    def representation_function(observations):
        asked[-1].append(observations[:, 0, 0, 0])
        return network(observations)

    sampler = GridSampler(small_ground_truth_data(), representation_function)
    for call in (METRIC.draw_only, METRIC.results):
        asked.append([])
        state = np.random.get_state()[1].copy()
        call(sampler, 3, settings)
        np.testing.assert_array_equal(np.random.get_state()[1], state)  # the caller's generator is unchanged
    rehearsed, used = map(np.concatenate, asked)
    np.testing.assert_array_equal(rehearsed, used)


def test_one_factor_is_refused():
    images = np.zeros((3, 8, 8, 1), np.uint8)
    data = IndexedGroundTruthData("one", images, [3], ["a"])
    with pytest.raises(ScoreError, match="two factors"):
        our_results(METRIC, data, network, SETTINGS)
    assert not METRIC.on_rows
