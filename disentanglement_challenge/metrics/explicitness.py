"""Explicitness (Ridgeway and Mozer, "Learning Deep Disentangled Embeddings With the F-Statistic Loss", section 3).

https://arxiv.org/abs/1802.05312

disentanglement_lib computes it in one function with the modularity, from the same points. That function raises if a
latent does not vary or the test points lack a value of a factor. Here constant latents are left out, and only values
that occur in both the training and the test points count.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics.metric import Metric, Result
from disentanglement_challenge.metrics.modularity import METRIC as MODULARITY


def _compute(train: Points, test: Points) -> Result:
    codes, codes_test = _standardised(train.codes, test.codes)
    factors = tqdm(train.factors.T, desc="explicitness", unit="factor", delay=2, leave=False)
    areas = [
        _areas(codes, values, codes_test, values_test, factor)
        for factor, (values, values_test) in enumerate(zip(factors, test.factors.T, strict=True))
    ]
    on_train, on_test = np.mean(areas, axis=0)
    return Result({"explicitness_score_train": float(on_train), "explicitness_score_test": float(on_test)})


def _standardised(codes: NDArray[Any], codes_test: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if codes.dtype == np.float64:
        # Scale if a variance underflows; a power of two changes no digit.
        exponents = -np.frexp(np.abs(codes).max(axis=0))[1]
        codes, codes_test = np.ldexp(codes, exponents), np.ldexp(codes_test, exponents)
    means, deviations = np.mean(codes, axis=0), np.std(codes, axis=0)
    return (codes - means) / deviations, (codes_test - means) / deviations


def _areas(
    codes: NDArray[Any],
    values: NDArray[np.int64],
    codes_test: NDArray[Any],
    values_test: NDArray[np.int64],
    factor: int,
) -> tuple[float, float]:
    """Return the mean area under the ROC curve of one factor's values, on the training and on the test points."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    tested = np.intersect1d(values, values_test)
    if (values_test == values_test[0]).all():
        raise DataError(f"factor {factor} has one value in all test points; a classifier needs at least two")
    if not len(tested):
        raise DataError(f"no value of factor {factor} is in both the training and the test points; draw more")
    # As in the library, even if it has not converged after 100 steps.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        model = LogisticRegression().fit(codes, values)
        probabilities, probabilities_test = model.predict_proba(codes), model.predict_proba(codes_test)
    column = {value: index for index, value in enumerate(model.classes_)}
    return (
        float(np.mean([roc_auc_score(values == v, probabilities[:, column[v]]) for v in model.classes_])),
        float(np.mean([roc_auc_score(values_test == v, probabilities_test[:, column[v]]) for v in tested])),
    )


METRIC = Metric(
    name="explicitness",
    key="explicitness_score_test",
    label="Explicitness",
    explanation="How well a linear classifier on all latents separates the values of a factor: the mean area under its "
    "ROC curves. 0.5 is chance.",
    compute=_compute,
    settings={name: setting for name, setting in MODULARITY.settings.items() if not name.startswith("discretizer")},
    draws=MODULARITY.draws,
    tolerance=1e-6,
    library=MODULARITY.library,
    gin_name=MODULARITY.gin_name,
    aliases=("explicitness_score_test",),
    collapsed=0.5,
)


def explicitness(
    codes: ArrayLike, factors: ArrayLike, codes_test: ArrayLike | None = None, factors_test: ArrayLike | None = None
) -> float:
    """Compute the explicitness of these points, without sampling; `score` samples.

    Args:
        codes, factors: the training points, [N, num_latent] and [N, num_factors].
        codes_test, factors_test: the test points; by default the training points, which overestimates.
    """
    test = (codes, factors) if codes_test is None or factors_test is None else (codes_test, factors_test)
    return float(METRIC.of_arrays(codes, factors, *test).values[METRIC.key])
