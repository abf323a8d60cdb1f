"""Scores without labels: dependence between the latents (Locatello et al., "Challenging Common Assumptions in the
Unsupervised Learning of Disentangled Representations").

https://arxiv.org/abs/1811.12359

The score is the total correlation of a Gaussian with the latents' covariance. If a latent is a linear function of
others, such as a copy, it is infinite; then `gaussian_total_correlation` is absent. disentanglement_lib returns inf or,
depending on rounding, any number.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.codes import as_codes, precision, varying
from disentanglement_challenge.metrics.metric import HISTOGRAM, Metric, Result, count
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


def _centred(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre and scale codes so that their second moments [num_latent, num_latent] are the covariance (n - 1)."""
    codes = codes - codes[0]  # otherwise the mean of values far from 0 would be rounded
    return (codes - codes.mean(axis=0)) / np.sqrt(len(codes) - 1)


def _total_correlation(codes: NDArray[np.floating]) -> float:
    """Compute the total correlation of the Gaussian, in nats; inf if its covariance is singular.

    The eigenvalues of the correlation matrix are the squares of the standardised codes' singular values; these lose
    only half as many digits.
    """
    if len(codes) < 2:
        return math.inf
    # The result does not depend on a latent's unit, so scale each latent so that no variance over- or underflows.
    codes = codes.astype(np.float64)
    centred = _centred(np.ldexp(codes, -np.frexp(np.abs(codes).max(axis=0))[1]))
    standardised = centred / np.sqrt(np.sum(centred**2, axis=0))
    if len(codes) <= codes.shape[1]:
        return math.inf
    singular = np.linalg.svd(standardised, compute_uv=False)
    # numpy's matrix_rank uses the same criterion for linearly dependent columns.
    if singular[-1] <= singular[0] * max(standardised.shape) * np.finfo(np.float64).eps:
        return math.inf
    return max(0.0, -float(np.sum(np.log(singular))))


def _wasserstein_correlation(codes: NDArray[np.floating]) -> dict[str, float]:
    """Compute the squared 2-Wasserstein distance of the Gaussian to the product of its marginals, and its norm.

    It is 2 (tr C - tr (D C)^(1/2)) with D the diagonal of the covariance C. The trace of the root is the sum of the
    singular values of the centred codes times the root of D.
    """
    if len(codes) < 2:
        return {}
    codes = codes.astype(np.float64)
    exponent = int(np.frexp(np.abs(codes).max())[1])
    centred = _centred(np.ldexp(codes, -exponent))
    variances = np.sum(centred**2, axis=0)
    trace = float(variances.sum())
    singular = np.linalg.svd(centred * np.sqrt(variances), compute_uv=False)
    distance = max(0.0, 2 * trace - 2 * float(singular.sum()))
    with np.errstate(over="ignore", under="ignore"):
        in_unit = float(np.ldexp(distance, 2 * exponent))
    return {
        "gaussian_wasserstein_correlation": in_unit,
        "gaussian_wasserstein_correlation_norm": distance / trace if trace > 0 else math.nan,
    }


def _mean_mutual_information(codes: NDArray[np.floating], num_bins: int) -> float:
    """Compute the mean mutual information between two latents' histogram bins, in nats; nan for one latent."""
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
    explanation="The linear dependence between latents: the total correlation of a Gaussian with their covariance, in "
    "nats. It uses no factors. It is absent if a latent is a linear function of others.",
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
    every_latent=True,  # constant latents are left out here, and large ones keep their unit
    codes_alone=True,
)


def unsupervised(codes: ArrayLike, num_bins: int = 20) -> dict[str, float]:
    """Compute the scores of codes [N, num_latent] that need no factors, without sampling; `score` samples.

    Args:
        codes: [N, num_latent], numbers.
        num_bins: the number of bins of a latent's histogram.

    Returns:
        gaussian_total_correlation (in nats), gaussian_wasserstein_correlation, gaussian_wasserstein_correlation_norm
        and mutual_info_score; those without a finite value are absent.
    """
    array = as_codes(codes)
    return _compute(Points(array, np.zeros((len(array), 0), dtype=np.int64)), num_bins).values
