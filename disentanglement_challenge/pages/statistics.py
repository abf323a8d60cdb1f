"""Summarise scores over seeds, rank rows by the challenge's rule, and count wins.

A 95% percentile bootstrap interval of the mean covers it in only 75% of all cases with three seeds, where it is
[min, max], and in 84% with five. A t interval covers it in 95% (tests/pages/test_statistics.py simulates both, on
normal scores). So the number of seeds determines which statistics are valid:

* one or two: the values;
* three and four: the mean and the range of the seeds, which is not a confidence interval;
* five or more: the mean and its t interval;
* eight or more: also the interquartile mean, and from ten its bootstrap interval (Agarwal et al., "Deep Reinforcement
  Learning at the Edge of the Statistical Precipice", https://arxiv.org/abs/2108.13264).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, rankdata, t, trim_mean

MEAN_FROM, INTERVAL_FROM, INTERQUARTILE_FROM, BOOTSTRAP_FROM = 3, 5, 8, 10
_CONFIDENCE = 0.95
_RESAMPLES = 9999

Interval = tuple[float, float]

Named = dict[str, tuple[float, ...]]
"""Parts of a summary by display name: a number, the ends of an interval, or the individual "values"."""


@dataclass(frozen=True)
class Summary:
    """One score over seeds; a part is None if there are too few seeds, or if a better statistic replaces it.

    Attributes:
        values: the scores of the seeds that have one, float64 [num_seeds].
        mean: the mean, from three seeds.
        range: the lowest and the highest value, for three and four seeds.
        interval: the 95% t interval of the mean, from five seeds.
        interquartile_mean: the mean without the lowest and the highest quarter of the values, from eight seeds.
        bootstrap: the 95% percentile bootstrap interval of the interquartile mean, from ten seeds.
    """

    values: NDArray[np.float64]
    mean: float | None = None
    range: Interval | None = None
    interval: Interval | None = None
    interquartile_mean: float | None = None
    bootstrap: Interval | None = None

    @property
    def center(self) -> float:
        """Return the mean of any number of values, to sort rows by; NaN without values."""
        return float(self.values.mean()) if len(self.values) else np.nan

    def named(self) -> Named:
        """Return the parts that are not None; "values" for one or two seeds."""
        if self.mean is None:
            return {"values": tuple(self.values.tolist())} if len(self.values) else {}
        parts: dict[str, tuple[float, ...] | None] = {
            "mean": (self.mean,),
            f"range of {len(self.values)} seeds": self.range,
            "95% t interval": self.interval,
            "interquartile mean": None if self.interquartile_mean is None else (self.interquartile_mean,),
            "its 95% bootstrap interval": self.bootstrap,
        }
        return {name: part for name, part in parts.items() if part is not None}


def summarise(scores: NDArray[np.float64]) -> Summary:
    """Summarise one score over seeds.

    Args:
        scores: float64 [num_seeds]; NaN for a missing score.
    """
    values = scores[np.isfinite(scores)]
    count = len(values)
    if count < MEAN_FROM:
        return Summary(values)
    return Summary(
        values,
        mean=float(values.mean()),
        range=(float(values.min()), float(values.max())) if count < INTERVAL_FROM else None,
        interval=_t_interval(values) if count >= INTERVAL_FROM else None,
        interquartile_mean=float(_interquartile_mean(values)) if count >= INTERQUARTILE_FROM else None,
        bootstrap=_bootstrap_interval(values, _interquartile_mean) if count >= BOOTSTRAP_FROM else None,
    )


def _t_interval(values: NDArray[np.float64]) -> Interval:
    # scipy's own t.interval is NaN if all values are equal.
    reach = float(t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * float(values.std(ddof=1)) / sqrt(len(values))
    return float(values.mean()) - reach, float(values.mean()) + reach


def _interquartile_mean(values: NDArray[np.float64], axis: int = 0) -> Any:
    return trim_mean(values, 0.25, axis=axis)


def _bootstrap_interval(values: NDArray[np.float64], statistic: Callable[..., Any]) -> Interval:
    # A fixed seed, so that a table is the same each time it is printed.
    found = bootstrap(
        (values,), statistic, n_resamples=_RESAMPLES, confidence_level=_CONFIDENCE, method="percentile", rng=0
    ).confidence_interval
    return float(found.low), float(found.high)


def average_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank rows by the challenge's rule: rank them in each metric, the highest score first, and average the ranks.

    Args:
        scores: [num_rows, num_metrics].

    Returns:
        [num_rows]; equal scores share the average of their ranks. A row with a missing score has NaN.
    """
    complete = np.isfinite(scores).all(axis=1)
    ranks = np.full(len(scores), np.nan)
    # Equal scores may differ in their last digit, depending on the order of summation.
    ranks[complete] = rankdata(-scores[complete].round(12), axis=0).mean(axis=1)
    return ranks


@dataclass(frozen=True)
class Ranks:
    """The challenge's ranks of rows, seed by seed.

    Attributes:
        seeds: the indices of the seeds that have every ranked row, int64 [num_complete_seeds].
        by_seed: `average_ranks` of each of these seeds, float64 [num_complete_seeds, num_rows]; NaN for rows
            that are not ranked because no seed has all of their scores.
    """

    seeds: NDArray[np.int64]
    by_seed: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        """Return the mean ranks over seeds, float64 [num_rows]; NaN for a row that is not ranked."""
        return self.by_seed.mean(axis=0) if len(self.seeds) else np.full(self.by_seed.shape[1], np.nan)

    @property
    def is_first(self) -> NDArray[np.bool_]:
        """Return whether no other row has a lower mean rank, bool [num_rows]."""
        return self.means.round(12) == np.fmin.reduce(self.means, initial=np.nan).round(12)

    @property
    def times_first(self) -> NDArray[np.int64]:
        """Return the number of seeds in which no row has a lower rank, int64 [num_rows]; a tie counts for each."""
        lowest = np.fmin.reduce(self.by_seed, axis=1, keepdims=True, initial=np.nan)
        return (self.by_seed.round(12) == lowest.round(12)).sum(axis=0)

    def named(self, row: int) -> Named:
        """Return the parts of a row's rank by display name, like `Summary.named`.

        A rank is an aggregate over metrics, so its bootstrap draws whole seeds. It has no t interval: the ranks of rows
        depend on one another and are not normally distributed.
        """
        ranks = self.by_seed[:, row]
        if not len(self.seeds) or np.isnan(ranks).any():
            return {}
        if len(self.seeds) < MEAN_FROM:
            return {"values": tuple(ranks.tolist())}
        parts: Named = {
            "mean": (float(ranks.mean()),),
            f"range of {len(self.seeds)} seeds": (float(ranks.min()), float(ranks.max())),
        }
        if len(self.seeds) >= BOOTSTRAP_FROM:
            parts["95% bootstrap of whole seeds"] = _bootstrap_interval(ranks, np.mean)
        return parts


def rank_by_seed(scores: NDArray[np.float64]) -> Ranks:
    """Rank rows by the challenge's rule in each seed that has scores of all of them.

    Args:
        scores: float64 [num_rows, num_seeds, num_metrics]; NaN for a missing score.
    """
    complete = np.logical_and.reduce(np.isfinite(scores), axis=2)
    ranked = np.logical_or.reduce(complete, axis=1)
    seeds = np.flatnonzero(np.logical_and.reduce(complete[ranked], axis=0) & ranked.any())
    by_seed = np.full((len(seeds), len(scores)), np.nan)
    for place, seed in enumerate(seeds):
        by_seed[place, ranked] = average_ranks(scores[ranked, seed])
    return Ranks(seeds, by_seed)


@dataclass(frozen=True)
class Pair:
    """The wins of one row over another.

    Attributes:
        first, second: the indices of the rows.
        wins: the wins of the first row in each metric, float64 [num_metrics]; a tie is half a win.
        comparisons: the number of comparisons in each metric, int64 [num_metrics]; 0 if a row has less than three
            seeds there.
        by_chance: the probability that one of two equal rows wins all comparisons, float64 [num_metrics].
        is_paired: whether the rows are one training. Then they depend on each other, and only scores under the same
            seed are compared. Otherwise each seed of the first is compared with each seed of the second.
    """

    first: int
    second: int
    wins: NDArray[np.float64]
    comparisons: NDArray[np.int64]
    by_chance: NDArray[np.float64]
    is_paired: bool


def compare(scores: NDArray[np.float64], trainings: Sequence[Hashable]) -> list[Pair]:
    """Compare every two rows that have three seeds each.

    Args:
        scores: float64 [num_rows, num_seeds, num_metrics]; NaN for a missing score.
        trainings: a key for each row; rows that are one training at different steps have equal keys.

    Returns:
        The pairs in the rows' order. For independent rows the wins are Mann and Whitney's U.
    """
    pairs = []
    for first, second in combinations(range(len(scores)), 2):
        is_paired = trainings[first] == trainings[second]
        metrics = [
            _wins(ahead, behind, is_paired) for ahead, behind in zip(scores[first].T, scores[second].T, strict=True)
        ]
        wins, comparisons, by_chance = (np.array(column) for column in zip(*metrics, strict=True))
        if comparisons.any():
            pairs.append(Pair(first, second, wins, comparisons, by_chance, is_paired))
    return pairs


def _wins(ahead: NDArray[np.float64], behind: NDArray[np.float64], is_paired: bool) -> tuple[float, int, float]:
    """Return the wins of the first, the comparisons, and the probability that equal rows win all or none of them."""
    if is_paired:
        both = np.isfinite(ahead) & np.isfinite(behind)
        n = m = int(both.sum())
        ahead, behind = ahead[both], behind[both]
        by_chance = 2.0 ** (1 - n)
    else:
        ahead, behind = ahead[np.isfinite(ahead), None], behind[None, np.isfinite(behind)]
        n, m = ahead.size, behind.size
        by_chance = 2 / comb(n + m, n)
    if min(n, m) < MEAN_FROM:
        return 0.0, 0, 0.0
    difference = (ahead - behind).round(12)  # equal scores may differ in their last digit
    return float((difference > 0).sum() + (difference == 0).sum() / 2), difference.size, by_chance
