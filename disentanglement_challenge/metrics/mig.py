"""The mutual information gap (Chen et al., "Isolating Sources of Disentanglement in Variational Autoencoders", eq. 6).

https://arxiv.org/abs/1802.04942
"""

import numpy as np
from numpy.typing import ArrayLike

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.metric import HISTOGRAM, Metric, Result, count
from disentanglement_challenge.metrics.mutual_information import (
    discrete_entropy,
    discrete_mutual_information,
    information_gaps,
)


def _compute(points: Points, num_bins: int) -> Result:
    mutual_information = discrete_mutual_information(points.codes, points.factors, num_bins)
    gaps = information_gaps(mutual_information) / discrete_entropy(points.factors)
    return Result({"discrete_mig": float(np.mean(gaps))}, mutual_information)


METRIC = Metric(
    name="mig",
    key="discrete_mig",
    label="MIG",
    explanation="Mutual information between a latent's histogram and a factor, in nats. MIG is the gap between a "
    "factor's two best latents, divided by the factor's entropy.",
    compute=_compute,
    settings={"mig.num_train": count(10000), "mig.batch_size": count(16), **HISTOGRAM},
    draws=("mig.num_train",),
    column=5,
    tolerance=0.0,
    library="mig.compute_mig",
    gin_name="mig",
    aliases=("discrete_mig",),
    missing=0.0,
    matrix_label="Mutual information",
)


def mig(codes: ArrayLike, factors: ArrayLike, num_bins: int = 20) -> float:
    """Compute the mutual information gap of these points, without sampling; `score` samples as the challenge does.

    Args:
        codes: [N, num_latent], numbers.
        factors: [N, num_factors], values of any sortable kind.
        num_bins: the number of bins of a latent's histogram.

    Example:
        >>> mig([[0, 1], [1, 1], [0, 0], [1, 0]], [["a", 5], ["b", 5], ["a", 7], ["b", 7]])
        1.0
    """
    return float(METRIC.of_arrays(codes, factors, num_bins=num_bins).values[METRIC.key])
