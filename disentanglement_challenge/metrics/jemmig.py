"""JEMMIG, joint entropy minus mutual information gap (Do and Tran, "Theory and Evaluation Metrics for Learning
Disentangled Representations", section 4.3).

https://arxiv.org/abs/1908.09961

For a factor y, let z and z2 be the latents with the most and second most information about it. The score is the mean
over factors of H(z, y) - I(z, y) + I(z2, y), divided by its upper bound H(y) + log(number of bins). Unlike MIG it also
rises with the information in z that is not about y. Lower is better: 0 if one latent equals the factor and no other has
information about it. Reviews of metrics report one minus this.

As with RMIG, the bins are between a code's least and greatest value; the paper has 100 bins between -4 and 4, for
samples from the posterior.
"""

import numpy as np
from numpy.typing import ArrayLike

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.metric import Metric, Result, count
from disentanglement_challenge.metrics.mutual_information import (
    discrete_entropy,
    discrete_mutual_information,
    histogram_bins,
)

_EQUAL = 1e-10  # in nats: smaller differences of mutual information are rounding


def _compute(points: Points, num_bins: int) -> Result:
    entropies = discrete_entropy(points.factors)
    information = discrete_mutual_information(points.codes, points.factors, num_bins)
    bins = np.stack([histogram_bins(latent, num_bins) for latent in points.codes.T], axis=1)
    joint = discrete_entropy(bins)[:, np.newaxis] + entropies - information
    gaps = np.empty(len(entropies))
    for factor, informations in enumerate(information.T):
        # A single latent is compared with an uninformative one.
        second, most = np.sort([0.0, *informations])[-2:]
        # Among equally informative latents, take the one with the lowest joint entropy.
        gaps[factor] = joint[informations >= most - _EQUAL, factor].min() - most + second
    gaps = np.maximum(gaps, 0)
    values = {
        "JEMMIG": float(np.mean(gaps / (entropies + np.log(num_bins)))),
        "JEMMIG_in_nats": float(np.mean(gaps)),
    }
    return Result(values, information)


METRIC = Metric(
    name="jemmig",
    key="JEMMIG",
    label="JEMMIG",
    explanation="Mutual information between latent and factor, in nats, with 100 bins. The score adds the best "
    "latent's information that is not about the factor to the second best latent's information about it, as a share "
    "of the maximum: 0 is best.",
    compute=_compute,
    settings={"jemmig.num_train": count(10000), "jemmig.batch_size": count(16), "jemmig.num_bins": count(100, least=2)},
    draws=("jemmig.num_train",),
    higher_is_better=False,
    gin_name="jemmig",
    collapsed=1.0,  # the upper bound, which noise around a constant reaches
    missing=0.0,
)


def jemmig(codes: ArrayLike, factors: ArrayLike, num_bins: int = 100) -> float:
    """Compute JEMMIG of these points (0 is best), without sampling; `score` samples.

    Args:
        codes: [N, num_latent], numbers.
        factors: [N, num_factors], values of any sortable kind.
        num_bins: the number of bins of a latent's histogram.

    Example:
        >>> jemmig([[0, 1], [1, 1], [0, 0], [1, 0]], [["a", 5], ["b", 5], ["a", 7], ["b", 7]])
        0.0
    """
    return float(METRIC.of_arrays(codes, factors, num_bins=num_bins).values[METRIC.key])
