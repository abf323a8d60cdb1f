import numpy as np
import pytest
from numpy.random import RandomState
from small_data import NUM_IMAGES, codes_of_every_kind, network, on_images, representation_of, small_ground_truth_data

from disentanglement_challenge import library
from disentanglement_challenge.metrics import RECORDS
from disentanglement_challenge.metrics import irs as irs_function

METRIC = RECORDS["irs"]
pytestmark = pytest.mark.usefixtures("library_histogram")


@pytest.mark.parametrize(
    "representation_function",
    [
        network,
        representation_of(codes_of_every_kind()[:, :-2]),
        representation_of(codes_of_every_kind(np.float64)[:, :-2]),
        representation_of(RandomState(5).normal(size=(NUM_IMAGES, 300)).astype(np.float32)),
    ],
    ids=["network", "every kind", "float64", "wide"],
)
@pytest.mark.parametrize("diff_quantile", [0.99, 1.0])
def test_the_score_is_the_librarys(representation_function, diff_quantile):
    data = small_ground_truth_data()
    results, matrix = on_images(
        METRIC, representation_function, {"irs.num_train": 1000, "irs.diff_quantile": diff_quantile}
    )
    expected = library.irs.compute_irs(
        data, representation_function, RandomState(0), num_train=1000, batch_size=16, diff_quantile=diff_quantile
    )
    assert results["IRS"] == pytest.approx(expected["IRS"], abs=1e-6, rel=0)
    assert results["num_active_dims"] == expected["num_active_dims"]
    num_latent = representation_function(data.observations(np.arange(2))).shape[1]
    assert matrix.shape == (num_latent, 4)


def test_a_latent_that_is_a_factor_is_robust_to_the_others_and_a_constant_one_has_no_score():
    factors = small_ground_truth_data().index_to_factors(np.arange(NUM_IMAGES)).astype(np.float32)
    codes = np.stack([factors[:, 3], factors[:, 0], np.ones(NUM_IMAGES, dtype=np.float32)], axis=1)
    results, matrix = on_images(METRIC, representation_of(codes), {"irs.num_train": 1000})
    assert matrix[0, 3] == pytest.approx(1)
    assert matrix[1, 0] == pytest.approx(1)
    assert np.isnan(matrix[2]).all()
    assert results["IRS"] == pytest.approx(1)


def test_a_latent_whose_float32_variance_is_no_zero_although_it_is_constant_is_left_out():
    """A constant latent of 1.1: numpy's float32 variance of it is not 0, and the library divides by its deviation."""
    factors = small_ground_truth_data().index_to_factors(np.arange(NUM_IMAGES))
    codes = ((50 + 40 * factors) / 255).astype(np.float32)
    dead = np.full((NUM_IMAGES, 1), 1.1, dtype=np.float32)
    assert np.tile(np.hstack([codes, dead]), (84, 1))[:10000].T.var(axis=1)[-1] > 0
    alone, _ = on_images(METRIC, representation_of(codes))
    beside, _ = on_images(METRIC, representation_of(np.hstack([codes, dead])))
    assert beside["IRS"] == alone["IRS"] == pytest.approx(0.99996, abs=5e-6)
    whole, _ = on_images(METRIC, representation_of(np.hstack([50 + 40 * factors, np.full_like(factors[:, :1], 3)])))
    assert whole["IRS"] == 1
    collapsed, _ = on_images(METRIC, representation_of(np.full((NUM_IMAGES, 4), 0.1, dtype=np.float32)))
    assert collapsed["IRS"] == 0


def test_of_rows_that_are_no_grid_a_value_with_one_row_takes_no_part():
    factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]])
    codes = np.array([[0.0, 3], [2, 3], [5, 4], [5, 4], [9, 1]])
    # Factor 0 without its value 2: groups [0, 2] and [5, 5] of the first latent deviate by 1 and 0 from their means.
    deviation = np.abs(codes[:, 0] - codes[:, 0].mean()).max()
    by_hand = 1 - (1 + 0) / 2 / deviation
    matrix = METRIC.of_arrays(codes, factors, diff_quantile=1.0).matrix
    assert matrix[0, 0] == pytest.approx(by_hand, abs=1e-12)
    assert irs_function(codes, factors) == pytest.approx(METRIC.of_arrays(codes, factors).values["IRS"])
