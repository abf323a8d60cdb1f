"""MIG-sup, the mutual information gap of latents (Li et al., "Progressive Learning and Disentanglement of Hierarchical
Representations", section 4).

https://arxiv.org/abs/2002.10549

MIG with latents and factors swapped: for each latent, the gap between the two factors about which it has most
information, as shares of their entropies; the mean over active latents. In the authors' code latents are active if
their variance over images is above 0.01, with a prior of variance 1. Codes may have any unit, so here the threshold is
0.01 of the largest variance.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.metric import HISTOGRAM, Metric, Result, Setting, count
from disentanglement_challenge.metrics.mutual_information import discrete_entropy, discrete_mutual_information


def _compute(points: Points, threshold: float, num_bins: int) -> Result:
    matrix = discrete_mutual_information(points.codes, points.factors, num_bins)
    active = _active(points.codes, threshold)
    # A single factor is compared with one without mutual information.
    shares = np.column_stack([matrix / discrete_entropy(points.factors), np.zeros(len(matrix))])
    ranked = np.sort(shares[active], axis=1)
    return Result(
        {"MIG_sup": float(np.mean(ranked[:, -1] - ranked[:, -2])), "num_active": int(np.count_nonzero(active))}, matrix
    )


def _active(codes: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    codes = codes.astype(np.float64)
    # Scale so that no variance over- or underflows; only their ratios matter.
    deviations = np.std(np.ldexp(codes, -np.frexp(np.ptp(codes, axis=0))[1].max()), axis=0)
    return deviations >= np.sqrt(threshold) * deviations.max()


METRIC = Metric(
    name="mig_sup",
    key="MIG_sup",
    label="MIG-sup",
    explanation="Mutual information between latent and factor, in nats. The score is the mean gap between an active "
    "latent's two best factors, as shares of the factors' entropies.",
    compute=_compute,
    settings={
        "mig_sup.num_train": count(10000),
        "mig_sup.batch_size": count(16),
        "mig_sup.threshold": Setting(0.01, least=0, most=1),
        **HISTOGRAM,
    },
    draws=("mig_sup.num_train",),
    gin_name="mig_sup",
    missing=0.0,
)


def mig_sup(codes: ArrayLike, factors: ArrayLike, threshold: float = 0.01, num_bins: int = 20) -> float:
    """Compute MIG-sup of these points, without sampling; `score` samples.

    Args:
        codes: [N, num_latent], numbers.
        factors: [N, num_factors], values of any sortable kind.
        threshold: a latent is active if its variance is at least this share of the largest.
        num_bins: the number of bins of a latent's histogram.

    Example:
        >>> mig_sup([[0, 1], [1, 1], [0, 0], [1, 0]], [["a", 5], ["b", 5], ["a", 7], ["b", 7]])
        1.0
    """
    settings = {"threshold": threshold, "num_bins": num_bins}
    return float(METRIC.of_arrays(codes, factors, **settings).values[METRIC.key])
