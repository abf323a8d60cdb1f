"""Scores without labels: how far the latents depend on each other (Locatello et al., "Challenging Common Assumptions
in the Unsupervised Learning of Disentangled Representations", section 5.4).

https://arxiv.org/abs/1811.12359

The score is the total correlation of a Gaussian with the latents' covariance. Where a latent is a linear function of
others, as a copy is, it has no finite value: then `gaussian_total_correlation` is absent. disentanglement_lib gives inf
there or, as rounding falls out, any number.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.metric import HISTOGRAM, Metric, Result, as_codes, count, precision, varying
from disentanglement_challenge.metrics.mutual_information import discrete_mutual_information, histogram_bins


def _compute(points: Points, num_bins: int) -> Result:
    codes = np.compress(varying(points.codes), points.codes, axis=1)
    if not codes.shape[1]:
        return Result({})
    codes = codes.astype(precision(codes), copy=False)
    values = {
        "gaussian_total_correlation": _total_correlation(codes),
        **_wasserstein_correlation(codes),
        "mutual_info_score": _mean_mutual_information(codes, num_bins),
    }
    return Result({name: value for name, value in values.items() if math.isfinite(value)})


def _covariance(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.atleast_2d(np.cov(codes, rowvar=False))


def _total_correlation(codes: NDArray[np.floating]) -> float:
    """Return the total correlation of the Gaussian, in nats; inf where its covariance is singular."""
    # It does not depend on a latent's unit, so each is brought to one in which no variance over- or underflows.
    codes = codes.astype(np.float64)
    codes = np.ldexp(codes, -np.frexp(np.abs(codes).max(axis=0))[1])
    covariance = _covariance(codes - codes[0])
    deviations = np.sqrt(np.diag(covariance))
    eigenvalues = np.linalg.eigvalsh(covariance / np.outer(deviations, deviations))
    # As numpy's matrix_rank tells a singular matrix.
    if eigenvalues[0] <= eigenvalues[-1] * len(eigenvalues) * np.finfo(np.float64).eps:
        return math.inf
    return max(0.0, -0.5 * float(np.sum(np.log(eigenvalues))))


def _wasserstein_correlation(codes: NDArray[np.floating]) -> dict[str, float]:
    """Return the squared 2-Wasserstein distance of the Gaussian to the product of its marginals, and its share.

    That is 2 (tr C - tr (D C)^(1/2)) with D the diagonal of the covariance C, whose square root's trace is the sum of
    the roots of the eigenvalues of D^(1/2) C D^(1/2).
    """
    codes = codes.astype(np.float64)
    exponent = int(np.frexp(np.abs(codes).max())[1])
    covariance = _covariance(np.ldexp(codes, -exponent))
    deviations = np.sqrt(np.diag(covariance))
    trace = float(np.trace(covariance))
    eigenvalues = np.linalg.eigvalsh(covariance * np.outer(deviations, deviations))
    distance = max(0.0, 2 * trace - 2 * float(np.sum(np.sqrt(np.maximum(eigenvalues, 0)))))
    with np.errstate(over="ignore", under="ignore"):
        in_unit = float(np.ldexp(distance, 2 * exponent))
    return {
        "gaussian_wasserstein_correlation": in_unit,
        "gaussian_wasserstein_correlation_norm": distance / trace if trace > 0 else math.nan,
    }


def _mean_mutual_information(codes: NDArray[np.floating], num_bins: int) -> float:
    """Return the mean mutual information of two latents' histogram bins, in nats; nan for one latent."""
    num_latent = codes.shape[1]
    if num_latent == 1:
        return math.nan
    bins = np.stack([histogram_bins(latent, num_bins) for latent in codes.T], axis=1)
    information = discrete_mutual_information(codes, bins, num_bins)
    np.fill_diagonal(information, 0)
    return float(np.sum(information) / (num_latent**2 - num_latent))


METRIC = Metric(
    name="unsupervised",
    key="gaussian_total_correlation",
    label="Total correlation",
    explanation="How far the latents depend on each other linearly: the total correlation of a Gaussian with their "
    "covariance, in nats. No factor is looked at. There is none where a latent is a linear function of others.",
    compute=_compute,
    settings={
        "unsupervised_metrics.num_train": count(10000),
        "unsupervised_metrics.batch_size": count(16),
        **HISTOGRAM,
    },
    draws=("unsupervised_metrics.num_train",),
    bounds=(0.0, math.inf),
    higher_is_better=False,
    tolerance=1e-6,
    library="unsupervised_metrics.unsupervised_metrics",
    gin_name="unsupervised_metrics",
    aliases=("unsupervised_metrics", "total_correlation"),
    collapsed=None,
    every_latent=True,  # those that do not vary are left out here, and large ones keep their unit
)


def unsupervised(codes: ArrayLike, num_bins: int = 20) -> dict[str, float]:
    """Compute the scores of these codes [N, num_latent] that need no factors. Nothing is sampled: `score` samples.

    Args:
        codes: [N, num_latent], numbers.
        num_bins: the bins of a latent's histogram.

    Returns:
        gaussian_total_correlation (in nats), gaussian_wasserstein_correlation, gaussian_wasserstein_correlation_norm
        and mutual_info_score, of which those are absent that have no finite value.
    """
    array = as_codes(codes)
    return _compute(Points(array, np.zeros((len(array), 0), dtype=np.int64)), num_bins).values
