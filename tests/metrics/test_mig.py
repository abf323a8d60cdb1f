import gin
import numpy as np
import pytest
from numpy.random import RandomState
from small_data import (
    NUM_IMAGES,
    codes_of_every_kind,
    collapsed_codes,
    network,
    representation_of,
    small_ground_truth_data,
)

from disentanglement_challenge import library
from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.metrics.mig import compute_mig, discrete_mutual_information


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
        representation_of(RandomState(0).normal(size=(NUM_IMAGES, 40)).astype(np.float32)),
        representation_of(collapsed_codes()),
    ],
    ids=["network", "every kind", "float64", "noise", "collapsed"],
)
@pytest.mark.parametrize("num_train", [60, 1000])
def test_the_score_is_the_librarys_to_the_last_bit(representation_function, num_train):
    data = small_ground_truth_data()
    scores, matrix = compute_mig(data, representation_function, RandomState(0), num_train=num_train)
    expected = library.mig.compute_mig(data, representation_function, RandomState(0), num_train=num_train)
    assert scores == expected
    mus, ys = library.utils.generate_batch_factor_code(data, representation_function, num_train, RandomState(0), 16)
    np.testing.assert_array_equal(matrix, library.utils.discrete_mutual_info(library.utils.make_discretizer(mus), ys))


def test_mutual_information_with_gaps_in_the_factor_values_is_sklearns():
    random_state = RandomState(0)
    mus = random_state.normal(size=(5, 300))
    ys = np.stack([random_state.choice([1, 4, 9], size=300), random_state.choice([0, 7], size=300), np.full(300, 3)])
    expected = library.utils.discrete_mutual_info(library.utils.make_discretizer(mus), ys)
    np.testing.assert_array_equal(discrete_mutual_information(mus, ys, 20), expected)


def test_one_latent_has_no_gap():
    with pytest.raises(RepresentationError, match="the representation has 1"):
        compute_mig(
            small_ground_truth_data(), representation_of(codes_of_every_kind()[:, :1]), RandomState(0), num_train=50
        )
