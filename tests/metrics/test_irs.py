import gin
import numpy as np
import pytest
from numpy.random import RandomState
from small_data import codes_of_every_kind, collapsed_codes, network, representation_of, small_ground_truth_data

from disentanglement_challenge import library
from disentanglement_challenge.metrics import irs
from disentanglement_challenge.metrics.irs import compute_irs


@pytest.fixture(autouse=True)
def _library_settings():
    gin.parse_config(["discretizer.discretizer_fn = @histogram_discretizer", "discretizer.num_bins = 20"])
    yield
    gin.clear_config()


@pytest.mark.parametrize(
    "representation_function",
    [
        network,
        representation_of(codes_of_every_kind()),
        representation_of(codes_of_every_kind(np.float64)),
        representation_of(collapsed_codes()),
        representation_of(np.zeros_like(collapsed_codes())),
    ],
    ids=["network", "every kind", "float64", "collapsed", "zero"],
)
@pytest.mark.parametrize("diff_quantile", [0.99, 1.0])
@pytest.mark.parametrize("latents_at_a_time", [2, 128])
def test_the_score_is_the_librarys(representation_function, diff_quantile, latents_at_a_time, monkeypatch):
    monkeypatch.setattr(irs, "_LATENTS_AT_A_TIME", latents_at_a_time)
    data = small_ground_truth_data()
    settings = {"num_train": 1000, "batch_size": 16, "diff_quantile": diff_quantile}
    scores, matrix = compute_irs(data, representation_function, RandomState(0), **settings)
    expected = library.irs.compute_irs(data, representation_function, RandomState(0), **settings)
    assert scores["IRS"] == pytest.approx(expected["IRS"], abs=1e-6, rel=0)
    assert scores["num_active_dims"] == expected["num_active_dims"]
    num_latent = representation_function(data.observations(np.arange(2))).shape[1]
    assert matrix.shape == (num_latent, 4)


def test_a_latent_that_is_a_factor_is_robust_to_the_others_and_a_constant_one_has_no_score():
    data = small_ground_truth_data()
    factors = data.index_to_factors(np.arange(120)).astype(np.float32)
    codes = np.stack([factors[:, 3], factors[:, 0], np.ones(120, dtype=np.float32)], axis=1)
    scores, matrix = compute_irs(data, representation_of(codes), RandomState(0), num_train=1000)
    assert matrix[0, 3] == pytest.approx(1)
    assert matrix[1, 0] == pytest.approx(1)
    assert np.isnan(matrix[2]).all()
    assert scores["IRS"] == pytest.approx(1)
