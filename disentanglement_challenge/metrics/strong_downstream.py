"""The strong downstream task: classifiers predict a factor at values of another factor that were not in training.

disentanglement_lib's `strong_downstream_task`: for each factor, another one is chosen and fixed at one value in
training; in the test points it has its other values. This is repeated `n_experiment` times per factor. The task is from
Locatello et al., "Weakly-Supervised Disentanglement Without Compromises": https://arxiv.org/abs/2002.02886

Setting factors needs a full grid. The library has no official sizes; these are those of its downstream task, with 10
repetitions. The score is absent if `strong_downstream_task.num_train` does not contain 10000.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.data.sampling import GridSampler
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics.metric import Metric, Result, Setting, count
from disentanglement_challenge.metrics.predictors import PREDICTOR, fit_predictors, skip_fits


def _compute(
    sampler: GridSampler,
    random_state: RandomState,
    num_train: Sequence[int],
    num_test: int,
    n_experiment: int,
    predictor_fn: str,
    fit: bool = True,
) -> Result:
    num_factors = len(sampler.factor_sizes)
    if num_factors == 1 or min(sampler.factor_sizes) == 1:
        raise DataError(
            f"factor sizes are {sampler.factor_sizes}; the strong downstream task needs at least two factors of at "
            "least two values"
        )
    values: dict[str, float] = {}
    for size in num_train:
        train, test = (sampler.sample_factors(num, random_state) for num in (size, num_test))
        codes, codes_test = (sampler.codes_of(factors, random_state) for factors in (train, test))
        accuracies = _accuracies(codes, train, codes_test, test, predictor_fn, fit)
        strong = []
        experiments = [factor for factor in range(num_factors) for _ in range(n_experiment)]
        for factor in tqdm(experiments, desc="strong downstream", unit="fit", delay=2, leave=False):
            train_held, test_held = _intervene(train, test, factor, sampler.factor_sizes)
            codes, codes_test = (sampler.codes_of(factors, random_state) for factors in (train_held, test_held))
            one = slice(factor, factor + 1)
            strong += _accuracies(codes, train_held[:, one], codes_test, test_held[:, one], predictor_fn, fit)
        mean, strong_mean = (np.mean(pairs, axis=0) for pairs in (accuracies, strong))
        values[f"{size}:mean_train_accuracy"], values[f"{size}:mean_test_accuracy"] = map(float, mean)
        values[f"{size}:mean_strong_train_accuracy"], values[f"{size}:mean_strong_test_accuracy"] = map(
            float, strong_mean
        )
        if mean[1] > 0:
            values[f"{size}:strong_generalization_gap"] = float(1 - strong_mean[1] / mean[1])
    return Result(values)


def _accuracies(
    codes: NDArray[Any],
    factors: NDArray[np.int64],
    codes_test: NDArray[Any],
    factors_test: NDArray[np.int64],
    predictor_fn: str,
    fit: bool,
) -> list[tuple[float, float]]:
    """Return the accuracies on training and test points, for each factor."""
    if not fit:
        skip_fits(factors, predictor_fn)
        return [(0.0, 0.0)] * factors.shape[1]
    predictors = fit_predictors(codes, factors, predictor_fn)
    return [
        (float(np.mean(predict(codes) == y)), float(np.mean(predict(codes_test) == y_test)))
        for predict, y, y_test in zip(predictors, factors.T, factors_test.T, strict=True)
    ]


def _intervene(
    train: NDArray[np.int64], test: NDArray[np.int64], target: int, factor_sizes: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fix a factor other than `target` at one value in training, and draw its other values in the test points.

    The draws are from numpy's global generator, as in the library.
    """
    factor = int(np.random.choice([j for j in range(len(factor_sizes)) if j != target]))
    others = list(range(factor_sizes[factor]))
    value = int(np.random.choice(others))
    others.remove(value)
    train, test = train.copy(), test.copy()
    train[:, factor] = value
    test[:, factor] = np.random.choice(others, size=len(test))
    return train, test


METRIC = Metric(
    name="strong_downstream_task",
    key="10000:mean_strong_test_accuracy",
    label="Strong downstream",
    explanation="The accuracy of boosted trees that predict a factor in points where another factor has values that "
    "were not in training: the mean over factors and repetitions.",
    compute=_compute,
    settings={
        "strong_downstream_task.num_train": Setting([10000], least=1),
        "strong_downstream_task.num_test": count(5000),
        "strong_downstream_task.n_experiment": count(10),
        **PREDICTOR,
    },
    draw=partial(_compute, fit=False),
    tolerance=5e-3,  # measured on 10 latents: 4e-4; equally good cuts decide
    library="strong_downstream_task.compute_strong_downstream_task",
    gin_name="strong_downstream_task",
    aliases=("strong_downstream",),
    collapsed=None,
    on_rows=False,
)
