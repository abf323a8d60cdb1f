import numpy as np
import pytest
from hand_made import noisy_codes
from messages import facts
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import KFold

from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics.predictors import BOOSTED_TREES, LOGISTIC_REGRESSION, fit_predictors, skip_fits

MODELS = {
    BOOSTED_TREES: GradientBoostingClassifier,
    LOGISTIC_REGRESSION: lambda: LogisticRegressionCV(Cs=10, cv=KFold(n_splits=5)),
}


@pytest.mark.filterwarnings("ignore")  # scikit-learn warns of its defaults and of convergence
@pytest.mark.parametrize("predictor_fn", MODELS)
@pytest.mark.parametrize("num_points", [60, 400])
def test_predictions_and_draws_are_those_of_scikit_learns_models(predictor_fn, num_points):
    codes, factors = noisy_codes(num_points)
    factors = np.column_stack([factors, factors[:, 0] > 1])  # one of two values, which has one tree per stage
    np.random.seed(5)
    predictors = fit_predictors(codes, factors, predictor_fn)
    drawn = np.random.randint(2**31 - 1)
    np.random.seed(5)
    for predict, labels in zip(predictors, factors.T, strict=True):
        expected = MODELS[predictor_fn]().fit(codes, labels)
        np.testing.assert_array_equal(predict(codes), expected.predict(codes))
    assert np.random.randint(2**31 - 1) == drawn
    np.random.seed(5)
    skip_fits(factors, predictor_fn)
    assert np.random.randint(2**31 - 1) == drawn


def test_boosted_trees_agree_with_scikit_learns_as_two_of_its_own_do():
    """scikit-learn draws one of equally good cuts, so its own fits differ too."""
    codes, factors = noisy_codes(1000)
    more = noisy_codes(2000, seed=0)[0][1000:]
    for predict, labels in zip(fit_predictors(codes, factors, BOOSTED_TREES), factors.T, strict=True):
        one, other = (GradientBoostingClassifier(random_state=seed).fit(codes, labels).predict(more) for seed in (0, 1))
        assert np.mean(predict(more) == one) > np.mean(one == other) - 0.03


@pytest.mark.parametrize("predictor_fn", MODELS)
@pytest.mark.parametrize("num_points", [20, 200])
def test_a_factor_of_one_value_is_predicted_to_have_it(predictor_fn, num_points):
    codes, factors = noisy_codes(num_points)
    factors[:, 1] = 3
    predictors = fit_predictors(codes, factors, predictor_fn)
    assert (predictors[1](codes[:5]) == 3).all()
    assert len(np.unique(predictors[0](codes))) > 1


def test_points_too_few_for_cross_validation_are_said():
    codes, factors = noisy_codes(3)
    with pytest.raises(DataError, match=facts("logistic regression", "3 points")):
        fit_predictors(codes, factors, "@logistic_regression_cv")


def test_codes_that_float32_cannot_hold_are_told_apart_as_smaller_ones():
    codes, factors = noisy_codes(300)
    wide = codes.copy()
    wide[:, 0] *= 2.0**900
    expected = fit_predictors(codes, factors, BOOSTED_TREES)
    for ours, theirs in zip(fit_predictors(wide, factors, BOOSTED_TREES), expected, strict=True):
        np.testing.assert_array_equal(ours(wide), theirs(codes))
    # Points far outside the training range get the prediction at its end.
    further = wide[:50] * [2.0**100, 1, 1, 1, 1, 1]
    assert fit_predictors(wide, factors, BOOSTED_TREES)[0](further).shape == (50,)
