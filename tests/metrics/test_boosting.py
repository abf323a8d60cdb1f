from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from messages import facts
from numpy.random import RandomState
from sklearn.ensemble import GradientBoostingClassifier

from disentanglement_challenge.errors import DataError, RepresentationError
from disentanglement_challenge.metrics.boosting import N_STAGES, SortedFeatures, fit_boosting
from disentanglement_challenge.metrics.boosting_screen import screen

CLASSES = (2, 3, 6, 40)
KINDS = ["learnt", "float32", "random", "collapsed", "quantised", "duplicated", "rectified"]


def factors_and_codes(num_points, classes=CLASSES, num_codes=8, noise=0.3, seed=0):
    """Return factors [num_factors, n], and latents [n, num_codes] that mix them like a trained encoder."""
    random_state = RandomState(seed)
    factors = np.stack([random_state.randint(k, size=num_points) for k in classes])
    mixed = np.tanh(factors.T / factors.max(axis=1)) @ random_state.normal(size=(len(classes), num_codes))
    return factors, mixed + noise * random_state.normal(size=mixed.shape)


def sklearn_models(x, labels, n_stages=N_STAGES, seed=0):
    return [
        GradientBoostingClassifier(n_estimators=n_stages, random_state=RandomState(seed)).fit(x, row) for row in labels
    ]


def codes_of_kind(kind, num_points):
    factors, codes = factors_and_codes(num_points)
    random_state = RandomState(1)
    if kind == "float32":
        codes = codes.astype(np.float32)
    elif kind == "random":
        codes = random_state.normal(size=codes.shape)
    elif kind == "collapsed":  # down to values that scikit-learn does not separate, and a constant
        codes[:, 3:] = random_state.normal(size=codes[:, 3:].shape) * [1e-2, 1e-5, 1e-6, 1e-8, 0]
    elif kind == "quantised":
        codes = np.round(codes * 8) / 8
    elif kind == "duplicated":
        codes[:, 4:] = codes[:, :4]
    elif kind == "rectified":
        codes = np.maximum(codes - 0.5, 0)
    return factors, codes


def tree_values(model, stage, tree, x):
    """Return the leaf value of every point x, float32 [n, num_codes], in one tree."""
    at = np.zeros(len(x), int)
    while at.max() < 7:
        right = x[np.arange(len(x)), model.split_columns[stage, tree, at]] > model.thresholds[stage, tree, at]
        at = 2 * at + 1 + right
    return model.leaf_values[stage, tree, at - 7]


def scores_where_they_part(model, reference, x, labels):
    """Return both cuts' scores in the first node whose cut differs from scikit-learn's; None if there is none.

    All earlier trees give every training point the same value. It needs at least three classes.
    """
    raw = np.repeat(model.prior[:, None], len(x), axis=1)
    for stage, trees in enumerate(reference.estimators_):
        probabilities = np.exp(raw) / np.exp(raw).sum(axis=0)
        residuals = (labels == model.classes[:, None]) - probabilities
        for tree, estimator in enumerate(trees):
            theirs = estimator.tree_
            values = tree_values(model, stage, tree, x)
            if not np.allclose(values, theirs.value[theirs.apply(x), 0, 0], rtol=1e-6):
                nodes = [(0, 0, np.arange(len(x)))]
                for node, at, points in nodes:
                    residual = residuals[tree, points]
                    # scikit-learn splits nodes of equal residuals if rounding makes them look different.
                    if at >= 7 or theirs.children_left[node] < 0 or residual.var() < 1e-12:
                        continue
                    their_left = x[points, theirs.feature[node]] <= theirs.threshold[node]
                    our_left = x[points, model.split_columns[stage, tree, at]] <= model.thresholds[stage, tree, at]
                    if (their_left != our_left).any():
                        cuts = their_left, our_left
                        return tuple(
                            sum(residual[side].sum() ** 2 / side.sum() if side.any() else 0 for side in (left, ~left))
                            for left in cuts
                        )
                    nodes.append((theirs.children_left[node], 2 * at + 1, points[our_left]))
                    nodes.append((theirs.children_right[node], 2 * at + 2, points[~our_left]))
                raise AssertionError(f"stage {stage} tree {tree}: other leaf values from the same cuts")
            raw[tree] += 0.1 * values
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("factor", "n_stages"), [(1, 100), (2, 100), (3, 3)])
def test_every_cut_is_sklearns_up_to_a_cut_of_the_same_score(kind, factor, n_stages):
    factors, codes = codes_of_kind(kind, 1500)
    labels = factors[factor]
    model = fit_boosting(SortedFeatures(codes), labels[None], n_stages=n_stages)[0]
    reference = sklearn_models(codes, labels[None], n_stages)[0]
    parting = scores_where_they_part(model, reference, codes.astype(np.float32), labels)
    if parting is not None:
        theirs, ours = parting
        assert ours == pytest.approx(theirs, rel=1e-12, abs=0)


@pytest.mark.parametrize("kind", ["learnt", "float32", "quantised"])
def test_importances_and_predictions_are_sklearns_where_no_ties_decide(kind):
    factors, codes = codes_of_kind(kind, 2500)
    train, test = slice(0, 2000), slice(2000, None)
    # Few stages and classes: nodes of later stages are so small that several latents separate the same points.
    fitted = fit_boosting(SortedFeatures(codes[train]), factors[:3, train], n_stages=20)
    expected = sklearn_models(codes[train], factors[:3, train], n_stages=20)
    for model, reference in zip(fitted, expected, strict=True):
        np.testing.assert_allclose(model.importances, reference.feature_importances_, atol=1e-3, rtol=0)
        assert np.mean(model.predict(codes[test]) == reference.predict(codes[test])) >= 0.999
        assert np.mean(model.train_labels == reference.predict(codes[train])) >= 0.999


def test_ties_move_the_importances_no_further_than_sklearns_own_random_state_does():
    factors, codes = codes_of_kind("duplicated", 1000)
    labels = factors[[0, 2]]
    fitted = fit_boosting(SortedFeatures(codes), labels)
    seeds = [sklearn_models(codes, labels, seed=seed) for seed in range(3)]
    for factor, model in enumerate(fitted):
        assert model.tied == pytest.approx(1)
        importances = np.stack([models[factor].feature_importances_ for models in seeds])
        spread = np.abs(importances[:, None] - importances).max()
        assert np.abs(model.importances - importances.mean(axis=0)).max() <= spread


def test_latents_that_are_equal_share_the_importance_of_one():
    factors, codes = factors_and_codes(600, classes=(4,), num_codes=3)
    alone = fit_boosting(SortedFeatures(codes), factors)[0].importances
    shared = fit_boosting(SortedFeatures(np.column_stack([codes, codes[:, 0], codes[:, 0]])), factors)[0].importances
    assert shared[0] == shared[3] == shared[4]
    assert shared[0] * 3 == pytest.approx(alone[0], abs=1e-2)
    assert shared.sum() == pytest.approx(1)


def test_factors_fitted_together_are_factors_fitted_alone():
    factors, codes = factors_and_codes(500)
    features = SortedFeatures(codes)
    together = fit_boosting(features, factors, n_stages=5)
    for model, row in zip(together, factors, strict=True):
        alone = fit_boosting(features, row[None], n_stages=5)[0]
        np.testing.assert_array_equal(model.importances, alone.importances)
        np.testing.assert_array_equal(model.leaf_values, alone.leaf_values)


@pytest.mark.parametrize("num_nodes", [1, 2, 4])
def test_a_bound_is_the_best_decrease_over_all_cuts(num_nodes):
    random_state = RandomState(num_nodes)
    num_points = 300
    order = np.stack([random_state.permutation(num_points) for _ in range(3)]).astype(np.uint16)
    nodes = random_state.randint(num_nodes, size=(2, num_points, 16)).astype(np.uint8)
    residuals = random_state.normal(size=(2, num_points, 16))
    sizes = np.zeros((2, num_nodes, 16))
    expected = np.empty((2, 3, num_nodes, 16))
    for t, j, lane in np.ndindex(2, num_nodes, 16):
        here = nodes[t, :, lane] == j
        sizes[t, j, lane] = here.sum()
        residuals[t, here, lane] -= residuals[t, here, lane].mean()
        for f in range(3):
            prefix = np.cumsum(residuals[t, order[f], lane][here[order[f]]])[:-1]
            left = np.arange(1, here.sum())
            expected[t, f, j, lane] = (prefix**2 / (left * (here.sum() - left))).max()
    with ThreadPoolExecutor(2) as pool:
        bounds = screen(pool, order, residuals.astype(np.float32), nodes, (sizes + 0.01).astype(np.float32))
    np.testing.assert_allclose(bounds, expected, rtol=0.011)


def test_constant_latents_are_never_split():
    factors, codes = factors_and_codes(200, classes=(3, 2))
    constant = np.full_like(codes, 0.7)
    for model, reference in zip(
        fit_boosting(SortedFeatures(constant), factors), sklearn_models(constant, factors), strict=True
    ):
        assert not model.importances.any()
        np.testing.assert_array_equal(model.predict(codes), reference.predict(codes))


def test_as_many_classes_as_points():
    codes = RandomState(0).normal(size=(12, 3))
    labels = RandomState(1).permutation(12)[None]
    model = fit_boosting(SortedFeatures(codes), labels)[0]
    reference = sklearn_models(codes, labels)[0]
    np.testing.assert_array_equal(model.predict(codes), reference.predict(codes))


def test_labels_need_not_count_from_zero():
    factors, codes = factors_and_codes(300, classes=(3,))
    plain = fit_boosting(SortedFeatures(codes), factors, n_stages=5)[0]
    shifted = fit_boosting(SortedFeatures(codes), factors * 7 - 3, n_stages=5)[0]
    np.testing.assert_array_equal(shifted.predict(codes), plain.predict(codes) * 7 - 3)


def test_more_points_than_a_short_index_can_count():
    num_points = 70_000
    codes = RandomState(0).normal(size=(num_points, 2)).astype(np.float32)
    labels = (codes[:, :1].T > 0.25).astype(int)
    model = fit_boosting(SortedFeatures(codes), labels, n_stages=2)[0]
    assert model.importances[0] > 0.999
    assert model.thresholds[0, 0, 0] == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_float32_cannot_hold_are_refused(value):
    codes = np.zeros((10, 4))
    codes[3, 2] = value
    with pytest.raises(RepresentationError, match=facts("latent 2")):
        SortedFeatures(codes)


def test_predicting_from_other_latents_is_refused():
    factors, codes = factors_and_codes(50, classes=(2,))
    model = fit_boosting(SortedFeatures(codes), factors, n_stages=1)[0]
    with pytest.raises(RepresentationError, match=facts("7 latents", 8)):
        model.predict(codes[:, 1:])


def test_a_factor_with_one_value_is_refused_by_name():
    factors, codes = factors_and_codes(50, classes=(2, 3))
    factors[1] = 2
    with pytest.raises(DataError, match=facts("factor 1", "value 2", "at least two")):
        fit_boosting(SortedFeatures(codes), factors)


def test_labels_of_other_points_are_refused():
    factors, codes = factors_and_codes(50, classes=(2, 3))
    with pytest.raises(DataError, match="50"):
        fit_boosting(SortedFeatures(codes), factors[:, 1:])
