"""Normalised mutual information of latents and factors, the basis of InfoM, InfoC and InfoE (Hsu et al.,
"Disentanglement via Latent Quantization", section 4).

https://arxiv.org/abs/2305.18378

The mutual information of a number and a class is estimated from the number's nearest neighbours in its class (Ross,
"Mutual Information between Discrete and Continuous Data Sets", 2014, https://doi.org/10.1371/journal.pone.0087357), as
the paper does for latents that are not quantised. Ross counts a point's neighbours up to the 10th in its class, and
assumes that no two distances are equal. With equal distances, as on codes of few values, all points as near as the 10th
count, both in the class and in all classes (like Gao et al., "Estimating Mutual Information for Discrete-Continuous
Mixtures", 2017, https://arxiv.org/abs/1709.06212). scikit-learn adds random noise instead.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.metrics.metric import Setting, count
from disentanglement_challenge.metrics.mutual_information import discrete_entropy, discrete_mutual_information

# A latent whose range is below this share of the largest is inactive (the paper's value).
_ACTIVE = 1 / 20


def settings(name: str) -> dict[str, Setting]:
    """Return the settings of one of the metrics; the user says whether latents are quantised, as in the paper."""
    return {
        f"{name}.num_train": count(10000, least=2),
        f"{name}.batch_size": count(16),
        f"{name}.discrete_latents": Setting(False, choices=(False, True)),
    }


def neighbors(name: str) -> dict[str, Setting]:
    """Return the setting of the metrics that estimate from neighbours."""
    return {f"{name}.n_neighbors": count(10)}


def active_latents(codes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which latents of codes [N, num_latent] are active, bool [num_latent]."""
    ranges = np.ptp(codes.astype(np.float64), axis=0)
    return ranges > _ACTIVE * ranges.max()


def normalised_information(
    codes: NDArray[Any], factors: NDArray[np.int64], discrete_latents: bool, n_neighbors: int
) -> NDArray[np.float64]:
    """Compute the mutual information of latent and factor over the factor's entropy, float64 [num_latent, num_factors].

    Args:
        codes: [N, num_latent].
        factors: [N, num_factors].
        discrete_latents: treat each value of a latent as a class; otherwise as a number.
        n_neighbors: the number of neighbours in a class for the estimate with numbers.
    """
    if discrete_latents:
        indices = [np.unique(latent, return_inverse=True)[1] for latent in codes.T]
        information = np.concatenate(
            [discrete_mutual_information(index[:, np.newaxis], factors, int(index.max()) + 1) for index in indices]
        )
    else:
        latents = tqdm(codes.T.astype(np.float64), desc="nearest neighbours", unit="latent", delay=2, leave=False)
        information = np.array(
            [[_of_neighbors(latent, column, n_neighbors) for column in factors.T] for latent in latents]
        )
    return information / discrete_entropy(factors)


def _of_neighbors(numbers: NDArray[np.float64], classes: NDArray[np.int64], n_neighbors: int) -> float:
    """Estimate the mutual information of numbers [N] and classes [N] in nats; classes of one point are left out."""
    from scipy.special import digamma

    sizes = np.bincount(classes)
    kept = sizes[classes] > 1
    if not kept.any():
        return 0.0
    order = np.argsort(numbers[kept], kind="stable")
    numbers, classes = numbers[kept][order], classes[kept][order]
    total, all_near = 0.0, np.empty(len(numbers))
    for value in np.flatnonzero(sizes > 1):
        mine = np.flatnonzero(classes == value)
        own = numbers[mine]
        k = min(n_neighbors, len(own) - 1)
        # The distance to a point's k-th neighbour is the smallest reach of all windows of k + 1 numbers around it.
        radius = np.full(len(own), np.inf)
        for start in range(-k, 1):
            first = np.arange(len(own)) + start
            fits = (first >= 0) & (first + k < len(own))
            reach = np.maximum(own[fits] - own[first[fits]], own[first[fits] + k] - own[fits])
            radius[fits] = np.minimum(radius[fits], reach)
        total += np.sum(digamma(_within(own, own, radius) - 1)) - len(own) * digamma(len(own))
        all_near[mine] = _within(numbers, own, radius) - 1
    estimate = digamma(len(numbers)) + (total - np.sum(digamma(all_near))) / len(numbers)
    return max(0.0, float(estimate))


def _within(ordered: NDArray[np.float64], points: NDArray[np.float64], radius: NDArray[np.float64]) -> NDArray[Any]:
    """Count the numbers within each point's radius, including the point itself."""
    first = np.searchsorted(ordered, points - radius, side="left")
    stop = np.searchsorted(ordered, points + radius, side="right")
    # Rounding of the sum may miss a number whose distance equals the radius.
    last = len(ordered) - 1
    while True:
        more = (first > 0) & (points - ordered[np.maximum(first - 1, 0)] <= radius)
        less = ~more & (points - ordered[np.minimum(first, last)] > radius)
        if not (more | less).any():
            break
        first = first - more + less
    while True:
        more = (stop <= last) & (ordered[np.minimum(stop, last)] - points <= radius)
        less = ~more & (ordered[np.maximum(stop - 1, 0)] - points > radius)
        if not (more | less).any():
            break
        stop = stop + more - less
    return stop - first


def mean_largest_share(information: NDArray[np.float64]) -> float:
    """Return the mean over rows of the largest entry's share of the row's sum, rescaled so that chance is 0, best is 1.

    A row without information counts as chance.
    """
    chance = 1 / information.shape[1]
    sums = information.sum(axis=1)
    shares = np.divide(information.max(axis=1), sums, out=np.full(len(sums), chance), where=sums > 0)
    return float((shares.mean() - chance) / (1 - chance))
