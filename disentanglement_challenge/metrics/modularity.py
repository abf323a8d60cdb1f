"""Modularity (Ridgeway and Mozer, "Learning Deep Disentangled Embeddings With the F-Statistic Loss", section 3).

https://arxiv.org/abs/1802.05312

disentanglement_lib computes it in one function with the explicitness, from the same points.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics.codes import usable
from disentanglement_challenge.metrics.metric import HISTOGRAM, Metric, Result, count, spread
from disentanglement_challenge.metrics.mutual_information import discrete_mutual_information


def _compute(train: Points, test: Points, num_bins: int) -> Result:
    if train.factors.shape[1] == 1:
        raise DataError("there is one factor; modularity compares at least two")
    left, (codes,) = usable(train.codes)
    information = Result({}, np.zeros((0, train.factors.shape[1])))
    if left.any():
        information = Result({}, discrete_mutual_information(codes, train.factors, num_bins))
    matrix = spread(information, left, 0.0).matrix
    assert matrix is not None
    return Result({"modularity_score": float(np.mean(modularity_per_latent(matrix)))}, matrix)


def modularity_per_latent(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the modularity of each row of [num_latent, num_factors]: 1 if one factor has all, 0 for a row of zeros.

    It is one minus the mean square of the other factors' values, relative to the greatest.
    """
    largest = matrix.max(axis=1, keepdims=True)
    share = np.divide(matrix, largest, out=np.zeros_like(matrix), where=largest > 0)
    return np.where(largest[:, 0] > 0, 1 - (np.sum(share**2, axis=1) - 1) / (matrix.shape[1] - 1), 0.0)


METRIC = Metric(
    name="modularity",
    key="modularity_score",
    label="Modularity",
    explanation="Mutual information between latent and factor, in nats. The score is high if each latent has "
    "information about only one factor; latents without information count as 0.",
    compute=_compute,
    settings={
        "modularity_explicitness.num_train": count(10000),
        "modularity_explicitness.num_test": count(5000),
        "modularity_explicitness.batch_size": count(16),
        **HISTOGRAM,
    },
    # Only the explicitness uses the test points, but the library draws them here too.
    draws=("modularity_explicitness.num_train", "modularity_explicitness.num_test"),
    tolerance=1e-9,
    library="modularity_explicitness.compute_modularity_explicitness",
    gin_name="modularity_explicitness",
    aliases=("modularity_explicitness", "modularity_score"),
    every_latent=True,  # the library's mean also counts constant latents
    missing=0.0,
)


def modularity(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> float:
    """Compute the modularity of these points, without sampling; `score` samples.

    Args:
        codes: [N, num_latent], numbers.
        factors: [N, num_factors], values of any sortable kind; two factors at least.
        num_bins: the number of bins of a latent's histogram.

    Example:
        >>> modularity([[0, 1], [1, 1], [0, 0], [1, 0]], [["a", 5], ["b", 5], ["a", 7], ["b", 7]])
        1.0
    """
    return float(METRIC.of_arrays(codes, factors, codes, factors, num_bins=num_bins).values[METRIC.key])
