"""Histograms of latents and their mutual information with factors, with disentanglement_lib's rounding."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm


def histogram_bins(values: NDArray[Any], num_bins: int) -> NDArray[np.int64]:
    """Return each value's bin, from 0, among equal bins between the least and the greatest value, int64 [N].

    This is disentanglement_lib's `utils._histogram_discretize`. numpy refuses ranges of a few units in the last place;
    these are binned in float64, and ranges of a few units in float64 as numpy before 2.1 did.
    """
    try:
        edges = np.histogram_bin_edges(values, num_bins)
    except ValueError:
        values = values.astype(np.float64)
        try:
            edges = np.histogram_bin_edges(values, num_bins)
        except ValueError:
            edges = np.linspace(values.min(), values.max(), num_bins + 1)
    # np.digitize counts the bins from 1.
    return np.digitize(values, edges[:-1]) - 1


def discrete_entropy(factors: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute each factor's entropy over the points [N, num_factors] in nats, float64 [num_factors]."""
    entropies = []
    for column in factors.T:
        counts = np.bincount(column)
        counts = counts[counts > 0]
        # The same order of operations as scikit-learn's `mutual_info_score` of a factor with itself.
        entropies.append(_terms(counts, counts * counts, len(column)).sum())
    return np.array(entropies)


def information_gaps(information: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gap between each factor's two most informative latents, [num_latent, num_factors] to [num_factors].

    A single latent is compared with an uninformative one.
    """
    ranked = np.sort(np.vstack([np.zeros(information.shape[1]), information]), axis=0)
    return np.asarray(ranked[-1] - ranked[-2])


def discrete_mutual_information(codes: NDArray[Any], factors: NDArray[np.int64], num_bins: int) -> NDArray[np.float64]:
    """Compute the mutual information of each latent's histogram bin with each factor, with scikit-learn's rounding.

    Args:
        codes: [N, num_latent], float.
        factors: [N, num_factors], values from 0.
        num_bins: equal bins between a latent's least and greatest value.

    Returns:
        In nats, float64 [num_latent, num_factors].
    """
    num_points, ys = len(codes), factors.T
    num_values = ys.max(axis=1) + 1
    # Cells of the contingency tables of all factors side by side, ordered by factor, then by value, then by bin.
    first_cell = np.concatenate([[0], np.cumsum(num_values * num_bins)])
    cell_of_value = first_cell[:-1, np.newaxis] + ys * num_bins
    value_counts = [np.bincount(y) for y in ys]
    count_of_value = np.concatenate([np.repeat(counts, num_bins) for counts in value_counts])
    num_distinct = np.array([np.count_nonzero(counts) for counts in value_counts])

    mutual_information = np.zeros((codes.shape[1], len(ys)))
    latents = np.ascontiguousarray(codes.T)
    for i, latent in enumerate(tqdm(latents, desc="mutual information", unit="latent", delay=2, leave=False)):
        bins = histogram_bins(latent, num_bins)
        count_of_bin = np.bincount(bins, minlength=num_bins)
        if np.count_nonzero(count_of_bin) == 1:
            continue
        counts = np.bincount((cell_of_value + bins).ravel(), minlength=first_cell[-1])
        filled = np.flatnonzero(counts)
        terms = _terms(counts[filled], count_of_value[filled] * count_of_bin[filled % num_bins], num_points)
        ends = np.searchsorted(filled, first_cell)
        for j in np.flatnonzero(num_distinct > 1):
            mutual_information[i, j] = max(terms[ends[j] : ends[j + 1]].sum(), 0.0)
    return mutual_information


def _terms(counts: NDArray[np.int64], outer: NDArray[np.int64], num_points: int) -> NDArray[np.float64]:
    """Compute p(x, y) log(p(x, y) / p(x)p(y)) of each cell, in scikit-learn's order of operations."""
    joint = counts / num_points
    log_n = math.log(num_points)
    terms = joint * (np.log(counts) - log_n) + joint * (-np.log(outer) + log_n + log_n)
    return np.where(np.abs(terms) < np.finfo(np.float64).eps, 0.0, terms)
