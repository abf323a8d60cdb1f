"""The downstream task: a classifier predicts the factors from the whole code (Locatello et al., "Challenging Common
Assumptions in the Unsupervised Learning of Disentangled Representations").

https://arxiv.org/abs/1811.12359

The study fits boosted trees and logistic regression. The default is boosted trees, which are also DCI's models and not
limited to linear functions of the code. The score is the mean accuracy over factors with 10,000 training points; it is
absent if `downstream_task.num_train` does not contain 10000.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState

from disentanglement_challenge.data.sampling import Points, Sampler
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics.metric import Metric, Result, Setting, count
from disentanglement_challenge.metrics.predictors import PREDICTOR, fit_predictors


def _compute(
    sampler: Sampler,
    random_state: RandomState,
    num_train: Sequence[int],
    num_test: int,
    batch_size: int,
    predictor_fn: str,
) -> Result:
    values: dict[str, float] = {}
    for size in num_train:
        train = sampler.points(size, batch_size, random_state)
        test = sampler.points(num_test, batch_size, random_state)
        if size == max(num_train):
            _check(train, sampler.factor_names)
        predictors = fit_predictors(train.codes, train.factors, predictor_fn)
        for split, points in (("train", train), ("test", test)):
            accuracies = [
                float(np.mean(predict(points.codes) == truth))
                for predict, truth in zip(predictors, points.factors.T, strict=True)
            ]
            values[f"{size}:mean_{split}_accuracy"] = float(np.mean(accuracies))
            values[f"{size}:min_{split}_accuracy"] = min(accuracies)
            for factor, accuracy in enumerate(accuracies):
                values[f"{size}:{split}_accuracy_factor_{factor}"] = accuracy
    return Result(values)


def _check(train: Points, factor_names: Sequence[str]) -> None:
    for name, column in zip(factor_names, train.factors.T, strict=True):
        if (column == column[0]).all():
            raise DataError(f"factor {name!r} has one value in all sampled points; a classifier needs at least two")


def _draw(
    sampler: Sampler,
    random_state: RandomState,
    num_train: Sequence[int],
    num_test: int,
    batch_size: int,
    predictor_fn: str,
) -> None:
    for size in num_train:
        for num in (size, num_test):
            sampler.points(num, batch_size, random_state)


METRIC = Metric(
    name="downstream_task",
    key="10000:mean_test_accuracy",
    label="Downstream",
    explanation="The accuracy of boosted trees that predict a factor from the whole code: the mean over factors, with "
    "10,000 training points. Uninformative latents score the share of a factor's most frequent value.",
    compute=_compute,
    settings={
        "downstream_task.num_train": Setting([10, 100, 1000, 10000], least=1),
        "downstream_task.num_test": count(5000),
        "downstream_task.batch_size": count(16),
        **PREDICTOR,
    },
    draw=_draw,
    tolerance=5e-3,  # measured on 10 latents: 5e-4; equally good cuts decide
    library="downstream_task.compute_downstream_task",
    gin_name="downstream_task",
    aliases=("downstream",),
    collapsed=None,
)
