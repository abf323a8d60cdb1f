"""Unfairness (Locatello et al., "On the Fairness of Disentangled Representations", section 4).

https://arxiv.org/abs/1905.13662

A classifier predicts a target factor from the code. Images are drawn, and a sensitive factor is set to each of its
values in turn. The unfairness is the total variation distance between the distribution of predictions at one value and
that over all values, averaged over the values. Setting a factor needs a full grid of factors.
"""

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.data.sampling import GridSampler
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics.metric import Metric, Result, count
from disentanglement_challenge.metrics.predictors import PREDICTOR, Predictor, fit_predictors


def _compute(
    sampler: GridSampler,
    random_state: RandomState,
    num_train: int,
    num_test_points_per_class: int,
    batch_size: int,
    predictor_fn: str,
    fit: bool = True,
) -> Result:
    sizes = sampler.factor_sizes
    if len(sizes) == 1:
        raise DataError("there is one factor; fairness needs a target and a sensitive factor")
    train = sampler.points(num_train, batch_size, random_state)
    predictors: list[Predictor] = []
    if fit:
        predictors = fit_predictors(train.codes, train.factors, predictor_fn)
    mean, largest = np.full((2, len(sizes), len(sizes)), np.nan)
    pairs = tqdm(list(permutations(range(len(sizes)), 2)), desc="fairness", unit="pair", delay=2, leave=False)
    for target, sensitive in pairs:
        factors = sampler.sample_factors(num_test_points_per_class, random_state)
        counts = np.zeros((sizes[target], sizes[sensitive]), dtype=np.int64)
        for value in range(sizes[sensitive]):
            factors[:, sensitive] = value
            codes = sampler.codes_of(factors, random_state)
            if fit:
                counts[:, value] = np.bincount(predictors[target](codes), minlength=sizes[target])
        if fit:
            mean[target, sensitive], largest[target, sensitive] = _total_variation(counts)
    if not fit:
        return Result({})
    return Result({**_aggregate(mean, "mean_fairness"), **_aggregate(largest, "max_fairness")})


def _total_variation(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean and the largest distance between one value's predictions and those of all values.

    Args:
        counts: counts of predictions, [size of target, size of sensitive factor]; all columns have the same sum.
    """
    of_value = counts / counts.sum(axis=0)
    distances = np.abs(of_value - of_value.mean(axis=1, keepdims=True)).sum(axis=0) / 2
    return float(distances.mean()), float(distances.max())


def _aggregate(matrix: NDArray[np.float64], prefix: str) -> dict[str, float]:
    """Return the values, means and maxima of a matrix [target, sensitive], under the library's names.

    "mean_pred:max_sens" is the mean over targets of the maximum over sensitive factors; the diagonal (nan) is left out.
    """
    values = {
        f"{prefix}:pred{target}:sens{sensitive}": float(matrix[target, sensitive])
        for target, sensitive in permutations(range(len(matrix)), 2)
    }
    reductions: dict[str, Callable[..., Any]] = {"mean": np.nanmean, "max": np.nanmax}
    for one, other, axis in (("pred", "sens", 1), ("sens", "pred", 0)):
        for inner, reduce_inner in reductions.items():
            reduced = reduce_inner(matrix, axis=axis)
            for index, value in enumerate(reduced):
                values[f"{prefix}:{one}{index}:{inner}_{other}"] = float(value)
            for outer, reduce_outer in reductions.items():
                values[f"{prefix}:{outer}_{one}:{inner}_{other}"] = float(reduce_outer(reduced))
    return values


METRIC = Metric(
    name="fairness",
    key="mean_fairness:mean_pred:mean_sens",
    label="Unfairness",
    explanation="How much the predictions of a factor from the code change with another factor: the total variation "
    "distance, averaged over targets, sensitive factors and their values. 0 is fair.",
    compute=_compute,
    settings={
        "fairness.num_train": count(10000),
        "fairness.num_test_points_per_class": count(100),
        "fairness.batch_size": count(16),
        **PREDICTOR,
    },
    draw=partial(_compute, fit=False),
    higher_is_better=False,
    tolerance=5e-3,  # measured on 10 latents: 9e-4; equally good cuts decide
    library="fairness.compute_fairness",
    gin_name="fairness",
    aliases=("unfairness",),
    on_rows=False,
)
