import numpy as np
import pytest
from numpy.random import RandomState
from small_data import NUM_IMAGES, codes_of_every_kind, network, on_images, representation_of, small_ground_truth_data

from disentanglement_challenge import library
from disentanglement_challenge.metrics import RECORDS
from disentanglement_challenge.metrics import dci as dci_function
from disentanglement_challenge.metrics.dci import compute_importance, disentanglement

METRIC = RECORDS["dci"]
KEYS = {"informativeness_train", "informativeness_test", "disentanglement", "completeness"}


def library_scores(data, representation_function, num_train, num_test):
    np.random.seed(0)  # scikit-learn breaks ties with draws from it
    return library.dci.compute_dci(
        data, representation_function, RandomState(0), num_train=num_train, num_test=num_test, batch_size=16
    )


@pytest.mark.parametrize(
    "representation_function",
    [
        network,
        representation_of(codes_of_every_kind()[:, :-2]),
        representation_of(codes_of_every_kind(np.float64)[:, :-2]),
        representation_of(RandomState(0).normal(size=(NUM_IMAGES, 6)).astype(np.float32)),
    ],
    ids=["network", "every kind", "float64", "noise"],
)
def test_the_scores_are_the_librarys(representation_function):
    data = small_ground_truth_data()
    scores, importances = on_images(METRIC, representation_function, {"dci.num_train": 1000, "dci.num_test": 500})
    seen = scores.pop("test_seen_in_training")
    assert 0.9 < seen <= 1  # of 120 images
    expected = library_scores(data, representation_function, num_train=1000, num_test=500)
    assert scores.keys() == expected.keys() == KEYS
    for key, value in expected.items():
        assert scores[key] == pytest.approx(value, abs=2e-3, rel=0), key
    assert importances.shape[1] == 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["learnt", "random", "duplicated"])
def test_the_scores_are_the_librarys_at_the_challenges_sizes(kind):
    random_state = RandomState(0)
    factors = np.stack([random_state.randint(k, size=15000) for k in (6, 6, 2, 3, 3, 40, 40)])
    codes = np.tanh(factors.T / factors.max(axis=1) @ random_state.normal(size=(7, 10)))
    codes = (codes + 0.3 * random_state.normal(size=codes.shape)).astype(np.float32)
    if kind == "random":
        codes = random_state.normal(size=codes.shape).astype(np.float32)
    elif kind == "duplicated":
        codes[:, 5:] = codes[:, :5]
    points = codes[:10000].T, factors[:, :10000], codes[10000:].T, factors[:, 10000:]
    importances, train, test = compute_importance(*(array.T for array in points))
    np.random.seed(0)  # scikit-learn breaks ties with draws from it
    expected, expected_train, expected_test = library.dci.compute_importance_gbt(*points)
    if kind == "duplicated":
        # scikit-learn splits one of two equal latents by chance; its mean over chance gives both the same importance.
        expected = np.tile((expected[:5] + expected[5:]) / 2, (2, 1))
    assert train == pytest.approx(expected_train, abs=2e-3, rel=0)
    assert test == pytest.approx(expected_test, abs=2e-3, rel=0)
    assert disentanglement(importances) == pytest.approx(library.dci.disentanglement(expected), abs=2e-3, rel=0)
    assert disentanglement(importances.T) == pytest.approx(library.dci.completeness(expected), abs=2e-3, rel=0)


def test_scores_from_importances_are_the_librarys():
    importances = RandomState(0).dirichlet(np.ones(6), size=4).T
    importances[2] = 0
    for matrix in (importances, np.zeros((6, 4)), np.eye(4)):
        assert disentanglement(matrix) == pytest.approx(library.dci.disentanglement(matrix), abs=1e-12)
        assert disentanglement(matrix.T) == pytest.approx(library.dci.completeness(matrix), abs=1e-12)
    assert disentanglement(np.ones((3, 1))) == 1


def test_scores_do_not_depend_on_the_run():
    settings = {"dci.num_train": 200, "dci.num_test": 100}
    first, second = (on_images(METRIC, network, settings) for _ in range(2))
    assert first.values == second.values
    np.testing.assert_array_equal(first.matrix, second.matrix)


def test_a_value_seen_only_in_testing_counts_as_wrong():
    codes = RandomState(0).normal(size=(100, 2))
    factors = (codes[:, :1] > 0).astype(int)
    _, train, test = compute_importance(codes, factors, codes, np.full_like(factors, 7))
    assert (train, test) == (1, 0)


def test_codes_that_are_the_factors_are_disentangled_complete_and_informative():
    factors = RandomState(0).randint(4, size=(600, 3))
    scores = dci_function(factors, factors)
    assert scores.keys() == KEYS
    assert all(value == pytest.approx(1, abs=1e-8) for value in scores.values())
    rotated = dci_function(factors @ [[1, 1, 1], [1, -1, 1], [1, 0, -2]], factors)
    assert rotated["disentanglement"] < 0.6
    assert rotated["informativeness_train"] > 0.95


def test_float64_codes_beyond_float32_are_cut_like_smaller_ones():
    factors = RandomState(0).randint(4, size=(300, 2))
    codes = factors + RandomState(1).normal(size=(300, 2)) / 3
    assert dci_function(codes * 2.0**140, factors) == dci_function(codes, factors)
