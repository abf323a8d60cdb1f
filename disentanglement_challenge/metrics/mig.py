"""The mutual information gap (Chen et al., "Isolating Sources of Disentanglement in VAEs", equation 6)."""

import math
from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.evaluation.table import sample_codes
from disentanglement_challenge.export.representor import RepresentationFunction
from disentanglement_challenge.library import utils


def compute_mig(
    ground_truth_data: GroundTruthData,
    representation_function: RepresentationFunction,
    random_state: RandomState,
    num_train: int = 10000,
    batch_size: int = 16,
    num_bins: int = 20,
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """A score equal to that of disentanglement_lib's `compute_mig` with the histogram discretizer, to the last bit.

    The defaults are the challenge's settings. A factor that takes one value has no entropy to divide by: nan, as in the
    library.

    Args:
        ground_truth_data: what to sample from.
        representation_function: observations to representations [N, num_latent].
        random_state: what to sample with.
        num_train: points to sample.
        batch_size: how many are sampled at a time, on which the random stream depends.
        num_bins: the bins of a latent's histogram.

    Returns:
        discrete_mig, and the mutual information in nats, float64 [num_latent, num_factors].

    Raises:
        RepresentationError: there are fewer than two latents, so there is no gap.
    """
    mus, ys = sample_codes(ground_truth_data, representation_function, num_train, random_state, batch_size)
    if len(mus) < 2:
        raise RepresentationError(f"MIG is a gap between two latents, the representation has {len(mus)}")
    mutual_information = discrete_mutual_information(mus, ys, num_bins)
    runner_up, best = np.sort(mutual_information, axis=0)[-2:]
    with np.errstate(invalid="ignore"):
        gaps = (best - runner_up) / utils.discrete_entropy(ys)
    return {"discrete_mig": float(np.mean(gaps))}, mutual_information


def discrete_mutual_information(mus: NDArray[Any], ys: NDArray[np.int64], num_bins: int) -> NDArray[np.float64]:
    """Mutual information of each latent's histogram bin with each factor, as sklearn's `mutual_info_score` rounds it.

    Args:
        mus: [num_latent, num_points], float.
        ys: [num_factors, num_points], values from 0.
        num_bins: equal bins between a latent's least and greatest value.

    Returns:
        In nats, float64 [num_latent, num_factors].
    """
    num_values = ys.max(axis=1) + 1
    # A cell of the contingency tables of all factors, side by side: first by factor, then by its value, then by bin.
    first_cell = np.concatenate([[0], np.cumsum(num_values * num_bins)])
    cell_of_value = first_cell[:-1, np.newaxis] + ys * num_bins
    value_counts = [np.bincount(y) for y in ys]
    count_of_value = np.concatenate([np.repeat(counts, num_bins) for counts in value_counts])
    num_distinct = np.array([np.count_nonzero(counts) for counts in value_counts])

    mutual_information = np.zeros((len(mus), len(ys)))
    for i, mu in enumerate(tqdm(np.ascontiguousarray(mus), desc="mig", unit="latent", delay=2, leave=False)):
        # np.digitize counts the bins from 1.
        bins = np.digitize(mu, np.histogram_bin_edges(mu, num_bins)[:-1]) - 1
        count_of_bin = np.bincount(bins, minlength=num_bins)
        if np.count_nonzero(count_of_bin) == 1:
            continue
        counts = np.bincount((cell_of_value + bins).ravel(), minlength=first_cell[-1])
        filled = np.flatnonzero(counts)
        terms = _terms(counts[filled], count_of_value[filled] * count_of_bin[filled % num_bins], mus.shape[1])
        ends = np.searchsorted(filled, first_cell)
        for j in np.flatnonzero(num_distinct > 1):
            mutual_information[i, j] = max(terms[ends[j] : ends[j + 1]].sum(), 0.0)
    return mutual_information


def _terms(counts: NDArray[np.int64], outer: NDArray[np.int64], num_points: int) -> NDArray[np.float64]:
    """p(x, y) log(p(x, y) / p(x)p(y)) of each cell, rounded in the order that sklearn rounds it in."""
    joint = counts / num_points
    log_n = math.log(num_points)
    terms = joint * (np.log(counts) - log_n) + joint * (-np.log(outer) + log_n + log_n)
    return np.where(np.abs(terms) < np.finfo(np.float64).eps, 0.0, terms)
