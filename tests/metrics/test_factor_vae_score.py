import numpy as np
import pytest
from messages import facts
from numpy.random import RandomState
from small_data import (
    codes_of_every_kind,
    collapsed_codes,
    network,
    on_images,
    representation_of,
    small_ground_truth_data,
)

from disentanglement_challenge import library
from disentanglement_challenge.data.sampling import GridSampler, RowSampler
from disentanglement_challenge.errors import ConfigError, ScoreError
from disentanglement_challenge.evaluation.bindings import bound
from disentanglement_challenge.evaluation.table import RepresentationTable, sampled_indices
from disentanglement_challenge.metrics import RECORDS

METRIC = RECORDS["factor_vae_metric"]
SETTINGS = {"batch_size": 16, "num_train": 200, "num_eval": 100, "num_variance_estimate": 300}
OURS = {f"factor_vae_score.{name}": value for name, value in SETTINGS.items()}
REPRESENTATIONS = {
    "network": network,
    "every kind": representation_of(codes_of_every_kind()[:, :-2]),
    "float64": representation_of(codes_of_every_kind(np.float64)[:, :-2]),
    "duplicated": representation_of(np.repeat(codes_of_every_kind()[:, :3], 2, axis=1)),
}


@pytest.fixture(autouse=True)
def _library_settings():
    with bound({"prune_dims.threshold": 0.05}):
        yield


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_the_scores_are_the_librarys_on_the_images(name):
    data, function = small_ground_truth_data(), REPRESENTATIONS[name]
    results, votes = on_images(METRIC, function, OURS)
    assert results == library.factor_vae.compute_factor_vae(data, function, RandomState(0), **SETTINGS)
    assert votes.shape == (function(data.observations(np.arange(2))).shape[1], 4)
    assert votes.sum() == 200


@pytest.mark.parametrize("name", [name for name in REPRESENTATIONS if name != "network"])
def test_the_scores_on_the_table_are_the_librarys_on_the_images(name):
    data, function = small_ground_truth_data(), REPRESENTATIONS[name]
    settings = {**METRIC.official(), **OURS}
    needed = sampled_indices(data, lambda sampler: METRIC.draw_only(sampler, 0, settings))
    with RepresentationTable(data, function, needed) as table:
        results, _ = METRIC.results(GridSampler(table.index_data, table.lookup), 0, settings)
    assert results == library.factor_vae.compute_factor_vae(data, function, RandomState(0), **SETTINGS)


def test_collapsed_codes_have_no_votes():
    results, votes = on_images(METRIC, representation_of(collapsed_codes()), OURS)
    assert results["eval_accuracy"] == 0
    assert votes.sum() == 0


@pytest.mark.parametrize("scale", [1e18, 1e150, 1e300])
def test_perfect_codes_stay_perfect_at_any_scale(scale):
    """Squares of codes near 1e18 overflow in float32, and those near 1e300 in float64."""
    factors = small_ground_truth_data().index_to_factors(np.arange(120)) + 1.0
    codes = factors * scale if scale > 1e38 else (factors * scale).astype(np.float32)
    results, _ = on_images(METRIC, representation_of(codes), OURS)
    assert results["eval_accuracy"] == 1


@pytest.mark.parametrize("name", ["factor_vae_score.batch_size", "factor_vae_score.num_variance_estimate"])
def test_a_variance_needs_two_points(name):
    with pytest.raises(ConfigError, match=facts(f"{name} is 1", 2)):
        METRIC.check({**METRIC.official(), name: 1})


def test_rows_that_share_no_value_cannot_vote():
    factors = np.array([[0, 0], [1, 0], [2, 1], [3, 1]])
    sampler = RowSampler(RandomState(0).normal(size=(4, 2)), factors, ["id", "half"])
    with pytest.raises(ScoreError, match="'id'"):
        METRIC.results(sampler, 0, {**METRIC.official(), **OURS})


def test_on_rows_votes_are_by_rows_that_share_a_value():
    """Two latents equal two factors; a third of the combinations is missing, and some occur twice."""
    factors = np.array([[a, b] for a in range(4) for b in range(4) if (a + b) % 3] * 2)
    codes = factors + 1e-3 * RandomState(0).normal(size=factors.shape)
    sampler = RowSampler(codes, factors, ["a", "b"])
    results, votes = METRIC.results(sampler, 0, {**METRIC.official(), **OURS})
    assert results["eval_accuracy"] == 1
    assert votes[0, 1] == votes[1, 0] == 0
