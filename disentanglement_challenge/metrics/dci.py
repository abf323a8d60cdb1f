"""The DCI scores.

Eastwood and Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations" (2018),
https://openreview.net/forum?id=By-7dz-AZ

disentanglement_lib fits one scikit-learn GradientBoostingClassifier per factor and computes the scores from the
latents' importances. Here boosting.py fits the same models, all together; it describes what can differ, and why.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from tqdm import tqdm

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.boosting import N_STAGES, SortedFeatures, fit_boosting
from disentanglement_challenge.metrics.codes import usable
from disentanglement_challenge.metrics.metric import Metric, Result, count


def _compute(train: Points, test: Points) -> Result:
    left, (codes, codes_test) = usable(train.codes, test.codes)
    if not left.any():  # without a varying latent no tree can split
        codes, codes_test = (np.zeros((len(points.codes), 1)) for points in (train, test))
    fitted, train_accuracy, test_accuracy = compute_importance(codes, train.factors, codes_test, test.factors)
    importances = np.zeros((len(left), train.factors.shape[1]))
    importances[left] = fitted[: left.sum()]
    values = {
        "informativeness_train": train_accuracy,
        "informativeness_test": test_accuracy,
        "disentanglement": disentanglement(importances),
        "completeness": disentanglement(importances.T),
    }
    return Result(values, importances)


def compute_importance(
    codes: NDArray[Any], factors: NDArray[np.int64], codes_test: NDArray[Any], factors_test: NDArray[np.int64]
) -> tuple[NDArray[np.float64], float, float]:
    """Fit the classifiers (disentanglement_lib's `compute_importance_gbt`).

    Args:
        codes: for training, float [num_train, num_latent].
        factors: for training, [num_train, num_factors].
        codes_test: float [num_test, num_latent].
        factors_test: [num_test, num_factors].

    Returns:
        Importances, float64 [num_latent, num_factors], whose columns sum to one (or zero if nothing could be split),
        and the mean accuracies over factors on the training and on the test points.
    """
    codes, codes_test = _in_float32(codes, codes_test)
    features = SortedFeatures(codes)
    with tqdm(total=N_STAGES, desc="dci", unit="stage", delay=2, leave=False) as bar:
        models = fit_boosting(features, factors.T, lambda: bar.update(1))
    importances = np.stack([model.importances for model in models], axis=1)
    train = [np.mean(model.train_labels == y) for model, y in zip(models, factors.T, strict=True)]
    test = [np.mean(model.predict(codes_test) == y) for model, y in zip(models, factors_test.T, strict=True)]
    return importances, float(np.mean(train)), float(np.mean(test))


def _in_float32(codes: NDArray[Any], codes_test: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale latents that exceed float32, in which scikit-learn's trees compare; this changes no cut."""
    largest = np.maximum(np.abs(codes).max(axis=0), np.abs(codes_test).max(axis=0))
    over = largest > np.finfo(np.float32).max
    if not over.any():
        return codes, codes_test
    exponents = np.where(over, np.frexp(largest)[1], 0)
    return np.ldexp(codes, -exponents), np.ldexp(codes_test, -exponents)


def disentanglement(importances: NDArray[np.float64]) -> float:
    """Compute the disentanglement from importances [num_latent, num_factors]; from their transpose, the completeness.

    It is one minus the entropy of a latent's importances over factors, averaged with the latents' importances.
    """
    num_factors, total = importances.shape[1], importances.sum()
    if num_factors == 1:  # a latent can matter to no other factor
        return float(total > 0)
    # disentanglement_lib adds 1e-11, so that a latent without importance has a distribution too.
    shares = importances.T + 1e-11
    entropies = np.sum(entr(shares / shares.sum(axis=0, keepdims=True)), axis=0)
    per_latent = 1.0 - entropies / np.log(num_factors)
    weights = importances.sum(axis=1) / total if total > 0 else np.full(len(importances), 1 / len(importances))
    return float(np.sum(per_latent * weights))


METRIC = Metric(
    name="dci",
    key="disentanglement",
    label="DCI",
    explanation="The importance of a latent to the gradient boosted trees that predict a factor. Disentanglement is "
    "high if each latent matters to only one factor.",
    compute=_compute,
    settings={"dci.num_train": count(10000), "dci.num_test": count(5000), "dci.batch_size": count(16)},
    draws=("dci.num_train", "dci.num_test"),
    column=3,
    tolerance=2e-3,
    library="dci.compute_dci",
    gin_name="dci",
    aliases=("dci_disentanglement",),
    every_latent=True,  # the completeness also counts constant latents
    missing=0.0,
    matrix_label="DCI importance",
    beside={
        "completeness": "DCI completeness",
        "informativeness_test": "DCI informativeness",
        "informativeness_train": "DCI informativeness, training points",
    },
)


def dci(
    codes: ArrayLike, factors: ArrayLike, codes_test: ArrayLike | None = None, factors_test: ArrayLike | None = None
) -> dict[str, float]:
    """Compute the DCI scores of these points, without sampling; `score` samples as the challenge does.

    Args:
        codes, factors: the training points, [N, num_latent] and [N, num_factors].
        codes_test, factors_test: the test points; by default the training points.

    Returns:
        disentanglement, completeness, informativeness_train and informativeness_test, all in [0, 1].
    """
    test = (codes, factors) if codes_test is None or factors_test is None else (codes_test, factors_test)
    return METRIC.of_arrays(codes, factors, *test).values
