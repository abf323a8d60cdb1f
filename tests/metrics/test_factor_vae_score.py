import gin
import numpy as np
import pytest
from numpy.random import RandomState
from small_data import codes_of_every_kind, collapsed_codes, network, representation_of, small_ground_truth_data

from disentanglement_challenge import library
from disentanglement_challenge.evaluation.table import RepresentationTable, sampled_indices
from disentanglement_challenge.metrics.factor_vae import compute_factor_vae

SETTINGS = {"batch_size": 16, "num_train": 200, "num_eval": 100, "num_variance_estimate": 300}


@pytest.fixture(autouse=True)
def _library_settings():
    gin.parse_config("prune_dims.threshold = 0.05")
    yield
    gin.clear_config()


REPRESENTATIONS = {
    "network": network,
    "every kind": representation_of(codes_of_every_kind()),
    "float64": representation_of(codes_of_every_kind(np.float64)),
    "collapsed": representation_of(collapsed_codes()),
    "duplicated": representation_of(np.repeat(codes_of_every_kind()[:, :3], 2, axis=1)),
}


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_the_scores_are_the_librarys_on_the_images(name):
    data, function = small_ground_truth_data(), REPRESENTATIONS[name]
    scores, votes = compute_factor_vae(data, function, RandomState(0), **SETTINGS)
    assert scores == library.factor_vae.compute_factor_vae(data, function, RandomState(0), **SETTINGS)
    assert votes.shape == (function(data.observations(np.arange(2))).shape[1], 4)
    assert votes.sum() == (0 if name == "collapsed" else 200)


@pytest.mark.parametrize("name", [name for name in REPRESENTATIONS if name != "network"])
def test_the_scores_on_the_table_are_the_librarys_on_the_images(name):
    data, function = small_ground_truth_data(), REPRESENTATIONS[name]

    def metric(ground_truth_data, representation_function):
        return compute_factor_vae(ground_truth_data, representation_function, RandomState(0), **SETTINGS)

    with RepresentationTable(data, function, sampled_indices(data, metric)) as table:
        scores, _ = metric(table.index_data, table.lookup)
    assert scores == library.factor_vae.compute_factor_vae(data, function, RandomState(0), **SETTINGS)
