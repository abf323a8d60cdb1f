import numpy as np
import pytest
from hand_made import softmax_regression
from library_scores import library_results, our_results
from numpy.random import RandomState
from small_data import (
    NUM_IMAGES,
    codes_of_every_kind,
    collapsed_codes,
    network,
    representation_of,
    small_ground_truth_data,
)

from disentanglement_challenge.data.sampling import GridSampler, RowSampler
from disentanglement_challenge.errors import ScoreError
from disentanglement_challenge.metrics import RECORDS

METRIC = RECORDS["beta_vae_sklearn"]
SETTINGS = {
    "beta_vae_sklearn.batch_size": 16,
    "beta_vae_sklearn.num_train": 400,
    "beta_vae_sklearn.num_eval": 300,
}


@pytest.mark.parametrize(
    "representation_function",
    [
        network,
        representation_of(codes_of_every_kind()),
        representation_of(codes_of_every_kind(float)),
        representation_of(collapsed_codes()),
    ],
    ids=["network", "every kind", "float64", "collapsed"],
)
def test_the_scores_are_the_librarys(representation_function):
    data = small_ground_truth_data()
    ours = our_results(METRIC, data, representation_function, SETTINGS).values
    expected = library_results(METRIC, data, representation_function, SETTINGS)
    assert ours == pytest.approx(expected, abs=1e-12)


def test_it_is_the_accuracy_of_a_regression_on_differences_of_pairs():
    """Draw the paper's pairs and fit its classifier independently."""
    data, codes = small_ground_truth_data(), codes_of_every_kind(float)[:, :8] / [1, 1, 1, 1, 1, 1, 1e-4, 1e3]
    random_state = RandomState(7)
    features, labels = [], []
    for _ in range(1500):
        shared = random_state.randint(4)
        one, other = (np.stack([random_state.randint(s, size=16) for s in (4, 3, 2, 5)], axis=1) for _ in range(2))
        other[:, shared] = one[:, shared]
        first, second = (codes[np.ravel_multi_index(tuple(f.T), (4, 3, 2, 5))] for f in (one, other))
        features.append(np.abs(first - second).mean(axis=0))
        labels.append(shared)
    probabilities = softmax_regression(np.array(features), np.array(labels), penalty=1.0)
    expected = np.mean(probabilities.argmax(axis=1) == labels)
    settings = {**SETTINGS, "beta_vae_sklearn.num_train": 1500, "beta_vae_sklearn.num_eval": 1500}
    scores = our_results(METRIC, data, representation_of(codes), settings).values
    assert scores["train_accuracy"] == pytest.approx(expected, abs=0.03)  # different draws
    assert scores["eval_accuracy"] == pytest.approx(expected, abs=0.03)


def test_codes_with_a_known_answer():
    data = small_ground_truth_data()
    perfect = data.index_to_factors(np.arange(NUM_IMAGES)).astype(float)
    # A latent does not differ between points that share its factor, so the classifier makes no errors.
    for codes in (perfect, np.hstack([perfect, perfect])):
        assert our_results(METRIC, data, representation_of(codes), SETTINGS).values["eval_accuracy"] == 1
    # Uninformative latents: the prediction is the most frequent factor of the training points.
    chance = our_results(METRIC, data, representation_of(collapsed_codes()), SETTINGS).values["eval_accuracy"]
    assert chance == pytest.approx(1 / 4, abs=0.06)


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 3e37), (np.float64, 1e300), (np.float64, 3e307)])
def test_differences_that_overflow_are_computed_of_smaller_codes(dtype, scale):
    data = small_ground_truth_data()
    perfect = (data.index_to_factors(np.arange(NUM_IMAGES)) * 2.0 - 4).astype(dtype) * dtype(scale)
    scores = our_results(METRIC, data, representation_of(perfect), SETTINGS).values
    if dtype == np.float64:
        assert scores["eval_accuracy"] == 1
    else:  # as the library scores them in float64
        expected = library_results(METRIC, data, representation_of(perfect.astype(np.float64)), SETTINGS)
        assert scores == pytest.approx(expected, abs=1e-12)


def test_rows_and_a_grid_of_them_score_alike():
    """Score one row for each combination as rows: the same method with different draws."""
    data, codes = small_ground_truth_data(), codes_of_every_kind()
    settings = {**SETTINGS, "beta_vae_sklearn.num_train": 1000, "beta_vae_sklearn.num_eval": 1000}
    rows = RowSampler(codes, data.index_to_factors(np.arange(NUM_IMAGES)), data.factor_names)
    of_rows = METRIC.results(rows, 0, settings).values["eval_accuracy"]
    of_grid = METRIC.results(GridSampler(data, representation_of(codes)), 0, settings).values["eval_accuracy"]
    assert of_rows == pytest.approx(of_grid, abs=0.05)


def test_one_factor_is_refused():
    rows = RowSampler(np.arange(6.0)[:, None], np.array([[0], [0], [0], [1], [1], [1]]), ["only"])
    with pytest.raises(ScoreError, match="one factor"):
        METRIC.results(rows, 0, SETTINGS)
