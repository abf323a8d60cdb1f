import numpy as np
import pytest
from numpy.random import RandomState
from small_data import (
    NUM_IMAGES,
    codes_of_every_kind,
    network,
    on_images,
    representation_of,
    small_ground_truth_data,
)

from disentanglement_challenge import library
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics import RECORDS
from disentanglement_challenge.metrics import sap as sap_function
from disentanglement_challenge.metrics.sap import svm_accuracies as svm_accuracies_of_points

METRIC = RECORDS["sap_score"]


def svm_accuracies(mus, ys, mus_test, ys_test):
    """Call `svm_accuracies` with axes in the library's order."""
    return svm_accuracies_of_points(mus.T, ys.T, mus_test.T, ys_test.T)


@pytest.mark.parametrize(
    "representation_function",
    [
        network,
        representation_of(codes_of_every_kind()[:, :-2]),
        representation_of(codes_of_every_kind(np.float64)[:, :-2]),
        representation_of(RandomState(0).normal(size=(NUM_IMAGES, 10)).astype(np.float32)),
    ],
    ids=["network", "every kind", "float64", "noise"],
)
def test_the_score_is_the_librarys(representation_function):
    data = small_ground_truth_data()
    settings = {"num_train": 1000, "num_test": 500}
    ours = {f"sap_score.{name}": value for name, value in settings.items()}
    scores, accuracies = on_images(METRIC, representation_function, ours)
    expected = library.sap_score.compute_sap(
        data, representation_function, RandomState(0), continuous_factors=False, **settings
    )
    assert scores["SAP_score"] == pytest.approx(expected["SAP_score"], abs=1e-3, rel=0)
    assert accuracies.shape[1] == 4


@pytest.mark.parametrize("num_values", [2, 3, 40])
def test_each_pair_is_classified_as_by_its_own_linear_svc(num_values):
    random_state = RandomState(num_values)
    y = random_state.randint(num_values, size=(1, 3000))
    noise = random_state.normal(size=(7, 3000))
    mus = np.stack(
        [
            noise[0],
            y[0] + noise[1],
            100 - 5 * y[0] + noise[2],
            1e3 * (y[0] + noise[3]),
            1e-3 * (y[0] + noise[4]),
            np.round(noise[5]),
            (y[0] - num_values / 2) ** 2 + noise[6],
            np.full(3000, 0.7),
        ]
    ).astype(np.float32)
    train, test = slice(0, 2000), slice(2000, None)
    arrays = mus[:, train], y[:, train], mus[:, test], y[:, test]
    expected = library.sap_score.compute_score_matrix(*arrays, continuous_factors=False)
    np.testing.assert_allclose(svm_accuracies(*arrays), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", [1e-5, 1e-7])
def test_latents_that_are_nearly_zero_have_the_librarys_accuracies(scale):
    random_state = RandomState(0)
    ys = np.stack([random_state.randint(num_values, size=3000) for num_values in (2, 3, 6)])
    mus = (scale * random_state.normal(size=(4, 3000))).astype(np.float32)
    train, test = slice(0, 2000), slice(2000, None)
    arrays = mus[:, train], ys[:, train], mus[:, test], ys[:, test]
    expected = library.sap_score.compute_score_matrix(*arrays, continuous_factors=False)
    np.testing.assert_allclose(svm_accuracies(*arrays), expected, atol=1e-3, rtol=0)


def test_a_value_that_is_only_in_the_test_points_is_never_predicted():
    random_state = RandomState(0)
    y, y_test = random_state.choice([0, 1, 3], size=(1, 400)), random_state.randint(5, size=(1, 300))
    mus, mus_test = y + random_state.normal(size=(2, 400)) / 4, y_test + random_state.normal(size=(2, 300)) / 4
    expected = library.sap_score.compute_score_matrix(mus, y, mus_test, y_test, continuous_factors=False)
    np.testing.assert_allclose(svm_accuracies(mus, y, mus_test, y_test), expected, atol=1e-3, rtol=0)


def test_values_too_large_to_square_do_not_hang():
    y = np.array([[0, 1] * 10])
    mus = np.stack([np.linspace(-1e200, 1e200, 20), np.linspace(-1, 1, 20)])
    assert np.isfinite(svm_accuracies(mus, y, mus, y)).all()


def test_the_gap_of_one_latent_is_to_one_that_says_nothing():
    """The score is the library's for the same latent beside a constant one."""
    codes = codes_of_every_kind()[:, [4, -1]]
    settings = {"sap_score.num_train": 500, "sap_score.num_test": 300}
    results, matrix = on_images(METRIC, representation_of(codes), settings)
    expected = library.sap_score.compute_sap(
        small_ground_truth_data(),
        representation_of(codes),
        RandomState(0),
        num_train=500,
        num_test=300,
        continuous_factors=False,
    )
    assert results["SAP_score"] == pytest.approx(expected["SAP_score"], abs=1e-3, rel=0)
    assert np.isnan(matrix[1]).all()


def test_the_score_of_arrays_is_that_of_these_points():
    random_state = RandomState(0)
    factors = np.stack([random_state.choice(["red", "blue"], 400), random_state.choice(["a", "b", "c"], 400)], axis=1)
    codes = np.stack([factors[:, 0] == "red", random_state.normal(size=400)], axis=1)
    train, test = slice(0, 250), slice(250, None)
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T])
    expected = library.sap_score.compute_score_matrix(
        codes[train].T, ranks[:, train], codes[test].T, ranks[:, test], continuous_factors=False
    )
    score = sap_function(codes[train], factors[train], codes[test], factors[test])
    assert score == pytest.approx(library.sap_score.compute_avg_diff_top_two(expected), abs=1e-3)


def test_a_factor_with_one_value_is_named():
    with pytest.raises(DataError, match=r"'factor 1'.*one value"):
        sap_function(np.arange(6).reshape(3, 2), [[0, 4], [1, 4], [2, 4]])
