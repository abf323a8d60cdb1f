"""The interventional robustness score (Suter et al., "Robustly Disentangled Causal Mechanisms", section 4).

https://arxiv.org/abs/1811.00007
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics.codes import usable
from disentanglement_challenge.metrics.metric import HISTOGRAM, Metric, Result, Setting, count
from disentanglement_challenge.metrics.mutual_information import histogram_bins

_LATENTS_AT_A_TIME = 128  # per update of the progress bar


def _compute(points: Points, diff_quantile: float, num_bins: int) -> Result:
    left, (codes,) = usable(points.codes, together=True)  # the score weights latents by their deviations
    whole = np.full((len(left), points.factors.shape[1]), np.nan)
    if not left.any():
        return Result({"IRS": 0.0, "num_active_dims": 0.0}, whole)
    groups = [_groups(histogram_bins(column, num_bins), points.rows) for column in points.factors.T]
    if not any(groups):
        raise DataError("every value of every factor has only one row; IRS needs a value with at least two rows")
    latents = codes.shape[1]
    # A latent's row of the matrix depends on that latent alone, so latents can be processed in blocks.
    starts = tqdm(range(0, latents, _LATENTS_AT_A_TIME), desc="irs", unit="block", delay=2, leave=False)
    blocks = [_robustness(codes[:, start : start + _LATENTS_AT_A_TIME], groups, diff_quantile) for start in starts]
    matrix, max_deviations = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    score = float(np.average(np.nanmax(matrix, axis=1), weights=max_deviations))
    # The library calls the sum of the latents' values so.
    with np.errstate(over="ignore"):
        total = float(np.ascontiguousarray(codes.T).sum())
    whole[left] = matrix
    return Result({"IRS": score, "num_active_dims": total}, whole)


def _groups(bins: NDArray[np.int64], rows: NDArray[np.int64] | None) -> list[NDArray[np.int64]]:
    """Return the points of each bin; without a full grid, leave out bins of one row.

    All points of such a bin are equal and would count as perfectly robust.
    """
    groups = [np.flatnonzero(bins == value) for value in np.unique(bins)]
    return [group for group in groups if rows is None or len(np.unique(rows[group])) > 1]


def _robustness(
    codes: NDArray[Any], groups: list[list[NDArray[np.int64]]], diff_quantile: float
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Compute one minus the normalised deviation [num_latent, num_factors], and its normalisation [num_latent]."""
    max_deviations = np.max(np.abs(codes - codes.mean(axis=0)), axis=0)
    deviations = np.full((codes.shape[1], len(groups)), np.nan)
    for factor, of_value in enumerate(groups):
        if of_value:
            total = np.zeros(codes.shape[1])
            for group in of_value:
                differences = np.abs(codes[group] - codes[group].mean(axis=0))
                total += np.percentile(differences, q=diff_quantile * 100, axis=0)
            deviations[:, factor] = total / len(of_value)
    return 1.0 - deviations / max_deviations[:, np.newaxis], max_deviations


METRIC = Metric(
    name="irs",
    key="IRS",
    label="IRS",
    explanation="One if a latent does not change while this factor is fixed and all others change. IRS weights each "
    "latent's best factor by the latent's largest deviation.",
    compute=_compute,
    settings={
        "irs.num_train": count(10000),
        "irs.batch_size": count(16),
        "irs.diff_quantile": Setting(0.99, least=0, most=1),
        **HISTOGRAM,
    },
    draws=("irs.num_train",),
    column=4,
    bounds=(-1.0, 1.0),  # a group's deviation may be up to twice that of all points
    tolerance=1e-6,
    library="irs.compute_irs",
    gin_name="irs",
    every_latent=True,
    matrix_label="Interventional robustness",
)


def irs(codes: ArrayLike, factors: ArrayLike, diff_quantile: float = 0.99, num_bins: int = 20) -> float:
    """Compute the interventional robustness score of these points, without sampling; `score` samples.

    Values of a single point are left out. Without a full grid this measures association, not intervention.

    Args:
        codes: [N, num_latent], numbers.
        factors: [N, num_factors], values of any sortable kind.
        diff_quantile: the quantile of a latent's deviations that is used as their maximum.
        num_bins: the number of bins of a factor's histogram.

    Example:
        >>> irs([[0, 1], [1, 1], [0, 0], [1, 0]], [["a", 5], ["b", 5], ["a", 7], ["b", 7]])
        1.0
    """
    return float(METRIC.of_arrays(codes, factors, diff_quantile=diff_quantile, num_bins=num_bins).values[METRIC.key])
