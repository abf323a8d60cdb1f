"""The classifiers that predict factors from codes (disentanglement_lib's `predictor.predictor_fn`).

boosting.py fits gradient boosting for all factors together, instead of one scikit-learn model for each. With few
points, many cuts are equally good and scikit-learn draws one of them, which decides the trees; then scikit-learn's own
models are fitted, which is fast.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.errors import DataError, lines_of
from disentanglement_challenge.metrics.boosting import N_STAGES, SortedFeatures, fit_boosting
from disentanglement_challenge.metrics.metric import Setting

BOOSTED_TREES = "@gradient_boosting_classifier"
LOGISTIC_REGRESSION = "@logistic_regression_cv"
PREDICTOR = {"predictor.predictor_fn": Setting(BOOSTED_TREES, choices=(BOOSTED_TREES, LOGISTIC_REGRESSION))}

Predictor = Callable[[NDArray[Any]], NDArray[np.int64]]
"""Maps codes [N, num_latent] to values of a factor [N]."""

# Up to this number scikit-learn's own boosting is fitted: two factors of 40 values at 100 points take 10 seconds.
_FEW_POINTS = 100
# Each of scikit-learn's trees draws a seed below this from the global generator (sklearn/tree/_splitter.pyx).
_SEEDS = 2**31 - 1


def fit_predictors(codes: NDArray[Any], factors: NDArray[np.int64], predictor_fn: str) -> list[Predictor]:
    """Fit a classifier to each factor.

    numpy's global generator ends in the same state as after disentanglement_lib's fits, which draw from it.

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
    """Advance numpy's global generator by the draws of fits to these factors [N, num_factors]."""
    if predictor_fn == LOGISTIC_REGRESSION:
        return
    for column in factors.T:
        num_values = len(np.unique(column))
        trees = {1: 0, 2: 1}.get(num_values, num_values)  # a stage has one tree per value; for two values, one tree
        for _ in range(N_STAGES * trees):
            np.random.randint(0, _SEEDS)


def _after(scale: Callable[[NDArray[Any]], NDArray[Any]], predictor: Predictor) -> Predictor:
    return lambda codes: predictor(scale(codes))


def _constant(value: int) -> Predictor:
    return lambda codes: np.full(len(codes), value)


def _scale(codes: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Scale latents that exceed float32, in which trees compare, into its range by powers of two.

    Codes to predict from that are still outside the range are moved to its end.
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

    # scikit-learn warns of changing defaults, and of stopping before convergence, which the library allows too.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return LogisticRegressionCV(Cs=10, cv=KFold(n_splits=5)).fit(codes, values).predict
        except ValueError as error:  # too few points, or a fold of one class
            reason = lines_of(error)[0]
            raise DataError(f"logistic regression cannot be fitted to {len(codes)} points ({reason})") from error
