"""Statistics over seeds against scipy's, enumerations and simulations."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from disentanglement_challenge.pages.statistics import average_ranks, compare, rank_by_seed, summarise


def seeds(count, seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.1, size=count)


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (0, []),
        (1, ["values"]),
        (2, ["values"]),
        (3, ["mean", "range of 3 seeds"]),
        (4, ["mean", "range of 4 seeds"]),
        (5, ["mean", "95% t interval"]),
        (7, ["mean", "95% t interval"]),
        (8, ["mean", "95% t interval", "interquartile mean"]),
        (9, ["mean", "95% t interval", "interquartile mean"]),
        (10, ["mean", "95% t interval", "interquartile mean", "its 95% bootstrap interval"]),
    ],
)
def test_the_number_of_seeds_decides_what_is_said(count, parts):
    assert list(summarise(seeds(count)).named()) == parts


def test_a_seed_without_a_score_does_not_count():
    summary = summarise(np.array([0.1, np.nan, 0.3, 0.2]))
    assert summary.named() == {"mean": (pytest.approx(0.2),), "range of 3 seeds": (0.1, 0.3)}


def test_each_part_is_scipys():
    values = seeds(12)
    summary = summarise(values)
    assert summary.mean == pytest.approx(np.mean(values))
    expected = stats.t.interval(0.95, 11, loc=np.mean(values), scale=stats.sem(values))
    assert summary.interval == pytest.approx(expected)
    # The interquartile mean by hand: of twelve sorted values the middle six.
    assert summary.interquartile_mean == pytest.approx(np.sort(values)[3:9].mean())
    drawn = np.random.default_rng(1).choice(values, size=(20_000, 12))
    expected = np.quantile(np.sort(drawn, axis=1)[:, 3:9].mean(axis=1), [0.025, 0.975])
    assert summary.bootstrap == pytest.approx(expected, abs=0.004)


def test_equal_values_have_an_interval_of_no_width():
    summary = summarise(np.full(10, 0.5))
    assert (summary.interval, summary.bootstrap) == ((0.5, 0.5), (0.5, 0.5))


def bootstrap_coverage(samples):
    """How often the percentile interval of all resamples of a sample, each [num_seeds], holds a mean of 0."""
    num_seeds = samples.shape[1]
    resamples = np.array(list(product(range(num_seeds), repeat=num_seeds)))
    held = [
        np.quantile(sample[resamples].mean(axis=1), [0.025, 0.975], method="inverted_cdf").prod() <= 0
        for sample in samples
    ]
    return np.mean(held)


def test_what_intervals_of_few_seeds_hold():
    """The reason for t intervals: of normal scores with mean 0, a bootstrap's holds it in 75% and 84%, not in 95%."""
    random = np.random.default_rng(0)
    # Four standard errors of a share near 0.8 over 4000 samples are 0.025.
    assert bootstrap_coverage(random.normal(size=(4000, 3))) == pytest.approx(0.75, abs=0.025)
    assert bootstrap_coverage(random.normal(size=(4000, 5))) == pytest.approx(0.84, abs=0.025)
    # The bootstrap of three seeds is their range.
    sample = random.normal(size=3)
    means = [np.mean(resample) for resample in product(sample, repeat=3)]
    assert np.quantile(means, [0.025, 0.975], method="inverted_cdf") == pytest.approx([min(sample), max(sample)])
    intervals = np.array([summarise(sample).interval for sample in random.normal(size=(4000, 5))])
    assert (intervals.prod(axis=1) <= 0).mean() == pytest.approx(0.95, abs=0.014)


def test_average_ranks_by_hand():
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.3, 0.5], [0.7, 0.2, 0.1]])
    # First metric 1 2 3, second 3 1 2, third 1.5 1.5 3.
    np.testing.assert_allclose(average_ranks(scores), [5.5 / 3, 4.5 / 3, 8 / 3])


def test_scores_that_rounding_alone_sets_apart_share_their_rank():
    assert average_ranks(np.array([[0.1 + 0.2], [0.3], [0.1]])).tolist() == [1.5, 1.5, 3.0]


def test_ranks_seed_by_seed():
    # Two metrics; the rows change places in the second seed, and tie in the third.
    scores = np.array([[[2.0, 2.0], [1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]])
    ranks = rank_by_seed(scores)
    assert ranks.by_seed.tolist() == [[1.0, 2.0], [2.0, 1.0], [1.5, 1.5]]
    assert ranks.means.tolist() == [1.5, 1.5]
    assert ranks.times_first.tolist() == [2, 2]  # a tie counts for each
    assert ranks.is_first.tolist() == [True, True]
    assert ranks.named(0) == {"mean": (1.5,), "range of 3 seeds": (1.0, 2.0)}


def test_only_whole_seeds_of_whole_rows_are_ranked():
    scores = np.full((3, 2, 5), 0.5)
    scores[1, 0, 2] = np.nan  # this seed is not whole
    scores[2, :, 4] = np.nan  # this row never is
    ranks = rank_by_seed(scores)
    assert ranks.seeds.tolist() == [1]
    np.testing.assert_array_equal(ranks.by_seed, [[1.5, 1.5, np.nan]])
    assert ranks.named(2) == {}
    assert ranks.is_first.tolist() == [True, True, False]


def test_without_a_whole_seed_nothing_is_ranked():
    scores = np.full((2, 2, 5), 0.5)
    scores[0, 0] = scores[1, 1] = np.nan
    ranks = rank_by_seed(scores)
    assert not len(ranks.seeds)
    assert ranks.named(0) == {}
    assert not ranks.is_first.any()
    assert ranks.times_first.tolist() == [0, 0]


def test_the_bootstrap_of_a_rank_draws_whole_seeds():
    """Ranks that cancel out within each seed do not vary, though each metric's does."""
    first, second = np.array([2.0, 1.0] * 5), np.array([1.0, 2.0] * 5)
    scores = np.stack([np.stack([first, second], axis=1), np.stack([second, first], axis=1)])
    named = rank_by_seed(scores).named(0)
    assert list(named) == ["mean", "range of 10 seeds", "95% bootstrap of whole seeds"]
    assert named["95% bootstrap of whole seeds"] == (1.5, 1.5)
    varying = rank_by_seed(np.random.default_rng(0).random((2, 10, 2))).named(0)
    low, high = varying["95% bootstrap of whole seeds"]
    assert 1 <= low < varying["mean"][0] < high <= 2


def test_wins_are_mann_and_whitneys_u():
    random = np.random.default_rng(0)
    scores = random.integers(0, 4, size=(3, 5, 2)) / 4
    pairs = compare(scores, ["a", "b", "c"])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair in pairs:
        for metric in range(2):
            ahead, behind = scores[pair.first, :, metric], scores[pair.second, :, metric]
            assert pair.wins[metric] == stats.mannwhitneyu(ahead, behind).statistic
        assert pair.comparisons.tolist() == [25, 25]
        assert not pair.is_paired


@pytest.mark.parametrize(("num_first", "num_second"), [(3, 3), (3, 4), (5, 5)])
def test_complete_separation_by_chance_is_the_exact_tests_p(num_first, num_second):
    scores = np.full((2, max(num_first, num_second), 1), np.nan)
    scores[0, :num_first, 0] = np.arange(num_first)
    scores[1, :num_second, 0] = 10 + np.arange(num_second)
    (pair,) = compare(scores, [0, 1])
    expected = stats.mannwhitneyu(np.arange(num_first), 10 + np.arange(num_second), method="exact").pvalue
    assert pair.by_chance[0] == pytest.approx(expected)
    assert (pair.wins[0], pair.comparisons[0]) == (0, num_first * num_second)


def test_a_tenth_of_equal_pairs_of_three_seeds_separate():
    drawn = np.random.default_rng(0).normal(size=(2, 3, 20_000))
    (pair,) = compare(drawn, [0, 1])
    separated = (pair.wins == 0) | (pair.wins == 9)
    assert separated.mean() == pytest.approx(0.1, abs=0.01)
    assert pair.by_chance[0] == pytest.approx(0.1)


def test_rows_that_are_one_training_are_compared_seed_by_seed():
    scores = np.array([[[0.1], [0.2], [0.3]], [[0.2], [0.1], [0.3]], [[0.0], [0.0], [0.0]]])
    first, second, third = compare(scores, ["one", "one", "other"])
    assert (first.is_paired, first.wins.tolist(), first.comparisons.tolist()) == (True, [1.5], [3])
    assert first.by_chance.tolist() == [stats.binomtest(0, 3).pvalue]
    assert [pair.is_paired for pair in (second, third)] == [False, False]


def test_fewer_than_three_seeds_are_not_compared():
    scores = np.full((3, 3, 2), 0.5)
    scores[0, 0] = np.nan
    scores[1, 0, 0] = np.nan
    assert [(pair.first, pair.second) for pair in compare(scores, "abc")] == [(1, 2)]
    (pair,) = compare(scores, "abc")
    assert pair.comparisons.tolist() == [0, 9]
