import numpy as np
import pytest
from numpy.random import RandomState
from small_data import NUM_IMAGES, codes_of_every_kind, network, on_images, representation_of, small_ground_truth_data

from disentanglement_challenge import library
from disentanglement_challenge.metrics import RECORDS, mig
from disentanglement_challenge.metrics.mutual_information import discrete_mutual_information, histogram_bins

METRIC = RECORDS["mig"]
pytestmark = pytest.mark.usefixtures("library_histogram")


@pytest.mark.parametrize(
    "representation_function",
    [
        network,
        representation_of(codes_of_every_kind()[:, :-2]),
        representation_of(codes_of_every_kind(np.float64)[:, :-2]),
        representation_of(RandomState(0).normal(size=(NUM_IMAGES, 40)).astype(np.float32)),
    ],
    ids=["network", "every kind", "float64", "noise"],
)
@pytest.mark.parametrize("num_train", [60, 1000])
def test_the_score_is_the_librarys_to_the_last_bit(representation_function, num_train):
    data = small_ground_truth_data()
    results, matrix = on_images(METRIC, representation_function, {"mig.num_train": num_train})
    expected = library.mig.compute_mig(data, representation_function, RandomState(0), num_train=num_train)
    assert results == expected
    mus, ys = library.utils.generate_batch_factor_code(data, representation_function, num_train, RandomState(0), 16)
    np.testing.assert_array_equal(matrix, library.utils.discrete_mutual_info(library.utils.make_discretizer(mus), ys))


def test_a_constant_latent_changes_nothing_and_says_nothing():
    codes = codes_of_every_kind()
    with_constants, matrix = on_images(METRIC, representation_of(codes), {"mig.num_train": 1000})
    without, _ = on_images(METRIC, representation_of(codes[:, :-2]), {"mig.num_train": 1000})
    assert with_constants == without
    assert (matrix[-2:] == 0).all()


def test_mutual_information_with_gaps_in_the_factor_values_is_sklearns():
    random_state = RandomState(0)
    mus = random_state.normal(size=(5, 300))
    ys = np.stack([random_state.choice([1, 4, 9], size=300), random_state.choice([0, 7], size=300), np.full(300, 3)])
    expected = library.utils.discrete_mutual_info(library.utils.make_discretizer(mus), ys)
    np.testing.assert_array_equal(discrete_mutual_information(mus.T, ys.T, 20), expected)


def test_a_latent_of_a_few_units_in_the_last_place_is_binned_as_its_float64():
    values = np.repeat(np.arange(5), 4)
    latent = (1 + 3e-7 * values).astype(np.float32)
    with pytest.raises(ValueError, match="Too many bins"):
        np.histogram(latent, 20)
    np.testing.assert_array_equal(histogram_bins(latent, 20), histogram_bins(latent.astype(np.float64), 20))
    # float64 has such ranges too: each of five values keeps its own bin.
    bins = histogram_bins(1 + np.finfo(np.float64).eps * values, 20)
    assert len(set(bins)) == len(set(zip(bins, values, strict=True))) == 5
    assert 0 <= bins.min() <= bins.max() < 20


def test_codes_that_are_the_factors_have_the_score_1_and_a_copy_of_each_0():
    factors = small_ground_truth_data().index_to_factors(np.arange(NUM_IMAGES))
    assert mig(factors * 1.5, factors) == pytest.approx(1, abs=1e-12)
    assert mig(np.hstack([factors, factors]), factors) == 0


def test_one_latent_that_is_one_of_two_factors_has_a_half():
    factors = np.array([[a, b] for a in "xy" for b in "uvw"])
    assert mig((factors[:, :1] == "x").astype(int), factors) == pytest.approx(0.5)
