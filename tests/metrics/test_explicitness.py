import numpy as np
import pytest
from hand_made import grid, noisy_codes, softmax_regression
from library_scores import library_results, our_results
from numpy.random import RandomState
from small_data import codes_of_every_kind, network, representation_of, small_ground_truth_data

from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics import RECORDS, explicitness

METRIC = RECORDS["explicitness"]
SETTINGS = {**METRIC.official(), "modularity_explicitness.num_train": 1000, "modularity_explicitness.num_test": 500}
DISCRETIZER = {"discretizer.discretizer_fn": "@histogram_discretizer", "discretizer.num_bins": 20}


@pytest.mark.parametrize(
    "representation_function",
    [network, representation_of(codes_of_every_kind()[:, :-2]), representation_of(codes_of_every_kind(float)[:, :-2])],
    ids=["network", "every kind", "float64"],
)
def test_the_scores_are_the_librarys(representation_function):
    data = small_ground_truth_data()
    ours = our_results(METRIC, data, representation_function, SETTINGS).values
    expected = library_results(METRIC, data, representation_function, {**SETTINGS, **DISCRETIZER})
    for key in ("explicitness_score_train", "explicitness_score_test"):
        assert ours[key] == pytest.approx(expected[key], abs=1e-9, rel=0)


def test_latents_that_do_not_vary_are_left_out():
    data = small_ground_truth_data()
    codes = codes_of_every_kind()
    with_them, without = (our_results(METRIC, data, representation_of(c), SETTINGS) for c in (codes, codes[:, :-2]))
    assert with_them.values == without.values


def _area(positive, score):
    """Compute the probability that a point of the class ranks above one of another, by comparing all pairs."""
    above = score[positive][:, None] - score[~positive][None]
    return np.mean(above > 0) + np.mean(above == 0) / 2


def test_it_is_the_mean_area_under_the_roc_curves_of_a_regularised_regression():
    codes, factors = noisy_codes(500)
    train, test = slice(0, 300), slice(300, None)
    standardised = (codes - codes[train].mean(axis=0)) / codes[train].std(axis=0)
    areas = []
    for labels in factors.T:
        # The regression's probabilities at the test points; the fit uses all training points.
        weights = _weights(standardised[train], labels[train])
        logits = np.column_stack([standardised[test], np.ones(200)]) @ weights
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        areas.append(np.mean([_area(labels[test] == k, probabilities[:, k]) for k in range(probabilities.shape[1])]))
    score = explicitness(codes[train], factors[train], codes[test], factors[test])
    assert score == pytest.approx(np.mean(areas), abs=2e-4)


def _weights(features, labels):
    """Recover the weights of `softmax_regression` from its probabilities: logits are linear, up to a constant."""
    log = np.log(softmax_regression(features, labels, penalty=1.0))
    log -= log.mean(axis=1, keepdims=True)
    return np.linalg.lstsq(np.column_stack([features, np.ones(len(features))]), log, rcond=None)[0]


def test_codes_with_a_known_answer():
    factors = grid()
    assert explicitness(factors, factors) == pytest.approx(1, abs=1e-9)
    assert explicitness(np.full((len(factors), 2), 0.1), factors) == 0.5
    # Noise ranks points at random, except for the regression's overfitting.
    noise = RandomState(0).normal(size=(6000, 1))
    many = np.tile(factors, (50, 1))
    assert explicitness(noise, many) == pytest.approx(0.5, abs=0.02)


def test_a_value_that_the_test_points_lack_does_not_count():
    codes, factors = noisy_codes(300)
    lacks = factors[:, 2] != 4
    score = explicitness(codes, factors, codes[lacks], factors[lacks])
    assert 0.5 < score < 1
    # The other factors have all their points, so each factor's area is the same when it is scored alone.
    alone = [explicitness(codes, factors[:, [j]], codes[lacks], factors[lacks][:, [j]]) for j in range(3)]
    assert score == pytest.approx(np.mean(alone), abs=1e-12)


def test_test_points_of_one_value_are_refused():
    codes, factors = noisy_codes(100)
    with pytest.raises(DataError, match=r"factor 0.*one value.*test points"):
        explicitness(codes, factors, codes[factors[:, 0] == 1], factors[factors[:, 0] == 1])
