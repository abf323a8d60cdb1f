"""RMIG, the robust mutual information gap (Do and Tran, "Theory and Evaluation Metrics for Learning Disentangled
Representations", section 4.3).

https://arxiv.org/abs/1908.09961

Like MIG, it is the gap between a factor's two most informative latents, divided by the factor's entropy. It is robust,
as the information is that of a histogram of 100 bins over samples. The paper samples from the posterior of each latent,
with bins between -4 and 4. Codes are points of any range without a posterior, so here the bins are between their least
and greatest value. RMIG is then MIG with 100 bins instead of 20.
"""

import numpy as np
from numpy.typing import ArrayLike

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.metric import Metric, Result, count
from disentanglement_challenge.metrics.mutual_information import (
    discrete_entropy,
    discrete_mutual_information,
    information_gaps,
)


def _compute(points: Points, num_bins: int) -> Result:
    information = discrete_mutual_information(points.codes, points.factors, num_bins)
    gaps = information_gaps(information)
    shares = gaps / discrete_entropy(points.factors)
    return Result({"RMIG": float(np.mean(shares)), "RMIG_in_nats": float(np.mean(gaps))}, information)


METRIC = Metric(
    name="rmig",
    key="RMIG",
    label="RMIG",
    explanation="Mutual information between latent and factor, in nats, with 100 bins. The score is the mean gap "
    "between a factor's two most informative latents, as a share of the factor's entropy.",
    compute=_compute,
    settings={"rmig.num_train": count(10000), "rmig.batch_size": count(16), "rmig.num_bins": count(100, least=2)},
    draws=("rmig.num_train",),
    gin_name="rmig",
    missing=0.0,
)


def rmig(codes: ArrayLike, factors: ArrayLike, num_bins: int = 100) -> float:
    """Compute RMIG of these points, without sampling; `score` samples.

    Args:
        codes: [N, num_latent], numbers.
        factors: [N, num_factors], values of any sortable kind.
        num_bins: the number of bins of a latent's histogram.

    Example:
        >>> rmig([[0, 1], [1, 1], [0, 0], [1, 0]], [["a", 5], ["b", 5], ["a", 7], ["b", 7]])
        1.0
    """
    return float(METRIC.of_arrays(codes, factors, num_bins=num_bins).values[METRIC.key])
