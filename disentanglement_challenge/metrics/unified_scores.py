"""Unified scores: each matrix of latents by factors that a metric computes, aggregated by each metric's formula.

disentanglement_lib's `unified_scores`. The matrices are the importances of DCI, the mutual information of MIG and
modularity, and the accuracies of SAP. Each is aggregated by the formulas of DCI, MIG, SAP and modularity, and by the
number of groups of latents and factors that a threshold separates. The library has no official sizes; these are DCI's
and SAP's.

The score is DCI's formula on the mutual information: it is not among the other metrics and needs no fitted model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.codes import usable
from disentanglement_challenge.metrics.dci import compute_importance, disentanglement
from disentanglement_challenge.metrics.metric import HISTOGRAM, Metric, Result, Setting, count
from disentanglement_challenge.metrics.modularity import modularity_per_latent
from disentanglement_challenge.metrics.mutual_information import discrete_entropy, discrete_mutual_information
from disentanglement_challenge.metrics.sap import svm_accuracies

_IMPORTANCE = "@importance_gbt_matrix"
_MUTUAL_INFORMATION = "@mutual_information_matrix"
_ACCURACY = "@accuracy_svm_matrix"


def _compute(train: Points, test: Points, matrix_fns: Sequence[str], num_bins: int) -> Result:
    left, (codes, codes_test) = usable(train.codes, test.codes)
    factors, factors_test = train.factors, test.factors
    matrices: dict[str, Callable[[], NDArray[np.float64]]] = {
        _IMPORTANCE: lambda: compute_importance(codes, factors, codes_test, factors_test)[0],
        _MUTUAL_INFORMATION: lambda: discrete_mutual_information(codes, factors, num_bins),
        _ACCURACY: lambda: svm_accuracies(codes, factors, codes_test, factors_test),
    }
    # A classifier on a constant latent predicts as one without input.
    silent = np.zeros((1, factors.shape[1]))
    if _ACCURACY in matrix_fns:
        ones = np.zeros((len(codes), 1)), np.zeros((len(codes_test), 1))
        silent = svm_accuracies(ones[0], factors, ones[1], factors_test)
    entropies = discrete_entropy(factors)
    values: dict[str, float] = {}
    shown = None
    for matrix_fn in matrix_fns:
        background = silent if matrix_fn == _ACCURACY else np.zeros_like(silent)
        matrix = np.repeat(background, len(left), axis=0)
        if left.any():
            matrix[left] = matrices[matrix_fn]()
        for name, value in _aggregate(matrix, entropies, background).items():
            values[f"{matrix_fn.removeprefix('@')}.{name}"] = value
        if matrix_fn == _MUTUAL_INFORMATION:
            shown = matrix
    return Result(values, shown)


def _aggregate(
    matrix: NDArray[np.float64], entropies: NDArray[np.float64], background: NDArray[np.float64]
) -> dict[str, float]:
    """Aggregate a matrix [num_latent, num_factors] by each formula, under the library's names.

    Args:
        matrix: the strength of the relation between latents and factors.
        entropies: the factors' entropies, [num_factors].
        background: the row of an uninformative latent, [1, num_factors], for comparison with a single latent.
    """
    values = _precision(matrix)
    values["dci_disentanglement"] = values["dci"] = disentanglement(matrix)
    values["dci_completeness"] = disentanglement(matrix.T)
    values |= {
        f"dci_disentanglement.code_{i}": disentanglement(row[np.newaxis])
        for i, row in enumerate(matrix)
        if matrix.shape[1] > 1
    }
    # The library's names say "codes" for factors here.
    values |= {
        f"dci_completeness.code_{j}": disentanglement(column[np.newaxis])
        for j, column in enumerate(matrix.T)
        if len(matrix) > 1
    }
    runner_up, best = np.sort(np.concatenate([matrix, background]) if len(matrix) == 1 else matrix, axis=0)[-2:]
    for name, gaps in (("mig", (best - runner_up) / entropies), ("sap", best - runner_up)):
        values[name] = float(np.mean(gaps))
        values |= {f"{name}.factor_{j}": float(gap) for j, gap in enumerate(gaps)}
    if matrix.shape[1] > 1:  # with one factor there is nothing to compare
        modularities = modularity_per_latent(matrix)
        values["modularity"] = float(np.mean(modularities))
        values |= {f"modularity.code_{i}": float(value) for i, value in enumerate(modularities)}
    return values


def _precision(matrix: NDArray[np.float64]) -> dict[str, float]:
    """Count the groups of latents and factors that are related above a threshold, with each entry as the threshold.

    Returns:
        The largest number of groups, and the area under the number of groups over thresholds.
    """
    num_latent = len(matrix)
    parents = list(range(num_latent + matrix.shape[1]))

    def root(node: int) -> int:
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    order = np.argsort(-matrix, axis=None, kind="stable")
    thresholds = matrix.ravel()[order]
    grouped: set[int] = set()
    num_groups, groups = 0, np.zeros(len(order))
    for rank, (entry, threshold) in enumerate(zip(order, thresholds, strict=True)):
        if threshold != 0:
            latent, factor = divmod(int(entry), matrix.shape[1])
            ends = {latent, num_latent + factor}
            one, other = root(latent), root(num_latent + factor)
            if one != other:
                # Two single nodes start a group, a single node joins a group, and two connected groups merge.
                num_groups += 1 - len(ends & grouped)
                parents[other] = one
            grouped |= ends
        groups[rank] = num_groups
    # Equal entries pass the threshold together.
    last_equal = np.searchsorted(-thresholds, -thresholds, side="right") - 1
    groups = groups[last_equal]
    area = np.sum((groups[:-1] + groups[1:]) * -np.diff(thresholds) / 2)
    return {"area_precision": float(area), "max_precision": float(groups.max())}


METRIC = Metric(
    name="unified_scores",
    key="mutual_information_matrix.dci_disentanglement",
    label="DCI of MI",
    explanation="Mutual information between latent and factor, in nats. The score is DCI's disentanglement, computed "
    "from it instead of the trees' importances.",
    compute=_compute,
    settings={
        "unified_scores.num_train": count(10000),
        "unified_scores.num_test": count(5000),
        "unified_scores.batch_size": count(16),
        "unified_scores.matrix_fns": Setting(
            [_IMPORTANCE, _MUTUAL_INFORMATION, _ACCURACY], choices=(_IMPORTANCE, _MUTUAL_INFORMATION, _ACCURACY)
        ),
        **HISTOGRAM,
    },
    draws=("unified_scores.num_train", "unified_scores.num_test"),
    tolerance=1e-9,
    library="unified_scores.compute_unified_scores",
    gin_name="unified_scores",
    aliases=("unified",),
    every_latent=True,  # the library's means also count constant latents
    missing=0.0,
)


def unified_scores(
    codes: ArrayLike,
    factors: ArrayLike,
    codes_test: ArrayLike | None = None,
    factors_test: ArrayLike | None = None,
    **settings: Any,
) -> dict[str, float]:
    """Compute all unified scores of these points, without sampling; `score` samples.

    Args:
        codes, factors: the training points, [N, num_latent] and [N, num_factors].
        codes_test, factors_test: the test points; by default the training points, which overestimates SAP's accuracies.
        **settings: matrix_fns (a list of names such as "@mutual_information_matrix") and num_bins.

    Returns:
        disentanglement_lib's scores by its names, such as "importance_gbt_matrix.dci".
    """
    test = (codes, factors) if codes_test is None or factors_test is None else (codes_test, factors_test)
    return METRIC.of_arrays(codes, factors, *test, **settings).values
