"""The classifiers that predict factors from codes (disentanglement_lib's `predictor.predictor_fn`).

Gradient boosting is fitted by boosting.py, all factors together, in place of one scikit-learn model for each. Where
points are few, cuts that are equally good decide the trees, and scikit-learn draws one of them; there its own models
are fitted, which is quick.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.metrics.boosting import N_STAGES, SortedFeatures, fit_boosting
from disentanglement_challenge.metrics.metric import Setting

BOOSTED_TREES = "@gradient_boosting_classifier"
LOGISTIC_REGRESSION = "@logistic_regression_cv"
PREDICTOR = {"predictor.predictor_fn": Setting(BOOSTED_TREES, choices=(BOOSTED_TREES, LOGISTIC_REGRESSION))}

Predictor = Callable[[NDArray[Any]], NDArray[np.int64]]
"""Codes [N, num_latent] to values of a factor [N]."""

# Up to here scikit-learn's own boosting is fitted: two factors of 40 values at 100 points take 10 seconds.
_FEW_POINTS = 100
# scikit-learn's trees each draw a seed below this from the global generator (sklearn/tree/_splitter.pyx).
_SEEDS = 2**31 - 1


def fit_predictors(codes: NDArray[Any], factors: NDArray[np.int64], predictor_fn: str) -> list[Predictor]:
    """Fit a classifier to each factor.

    numpy's global generator is left as disentanglement_lib's fits leave it, which draw from it.

    Args:
        codes: [N, num_latent].
        factors: [N, num_factors]. A factor of one value is predicted to have that value; the library raises.
        predictor_fn: one of `PREDICTOR`'s choices.
    """
    scale = _scale(codes)
    codes = scale(codes)
    several = np.flatnonzero((factors != factors[0]).any(axis=0))
    constants = {int(j): _constant(int(factors[0, j])) for j in set(range(factors.shape[1])).difference(several)}
    if predictor_fn == LOGISTIC_REGRESSION:
        fitted = [_logistic_regression(codes, factors[:, j]) for j in several]
    elif len(codes) <= _FEW_POINTS:
        fitted = [_scikit_learns_boosting(codes, factors[:, j]) for j in several]
    else:
        fitted = []
        if len(several):
            models = fit_boosting(SortedFeatures(codes), factors.T[several])
            fitted = [model.predict for model in models]
        skip_fits(factors, predictor_fn)
    models_by_factor = {**constants, **dict(zip(map(int, several), fitted, strict=True))}
    return [_after(scale, models_by_factor[j]) for j in range(factors.shape[1])]


def skip_fits(factors: NDArray[np.int64], predictor_fn: str) -> None:
    """Draw from numpy's global generator what fits to these factors [N, num_factors] draw."""
    if predictor_fn == LOGISTIC_REGRESSION:
        return
    for column in factors.T:
        num_values = len(np.unique(column))
        trees = {1: 0, 2: 1}.get(num_values, num_values)  # a stage has a tree for each value, or one for two
        for _ in range(N_STAGES * trees):
            np.random.randint(0, _SEEDS)


def _after(scale: Callable[[NDArray[Any]], NDArray[Any]], predictor: Predictor) -> Predictor:
    return lambda codes: predictor(scale(codes))


def _constant(value: int) -> Predictor:
    return lambda codes: np.full(len(codes), value)


def _scale(codes: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Bring latents that float32, in which trees compare, cannot hold into its range, by powers of two.

    Codes to predict from that lie further out than this are moved to the end of the range.
    """
    codes = codes if codes.dtype == np.float32 else codes.astype(np.float64)
    largest = np.finfo(np.float32).max
    magnitude = np.abs(codes).max(axis=0)
    exponents = np.where(magnitude > largest, np.frexp(magnitude)[1], 0)

    def scale(points: NDArray[Any]) -> NDArray[Any]:
        points = points.astype(codes.dtype, copy=False)
        if not exponents.any() and (codes.dtype == np.float32 or np.abs(points).max() <= largest):
            return points
        return np.clip(np.ldexp(points, -exponents), -largest, largest)

    return scale


def _scikit_learns_boosting(codes: NDArray[Any], values: NDArray[np.int64]) -> Predictor:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier().fit(codes, values).predict


def _logistic_regression(codes: NDArray[Any], values: NDArray[np.int64]) -> Predictor:
    """Fit the library's `logistic_regression_cv`."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import KFold

    # scikit-learn announces other defaults, and says when it stops before it has converged, as in the library.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return LogisticRegressionCV(Cs=10, cv=KFold(n_splits=5)).fit(codes, values).predict
