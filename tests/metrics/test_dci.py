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
from disentanglement_challenge.errors import DataError, RepresentationError
from disentanglement_challenge.metrics.dci import compute_dci, compute_importance

KEYS = {"informativeness_train", "informativeness_test", "disentanglement", "completeness"}


def library_scores(data, representation_function, num_train, num_test):
    np.random.seed(0)  # what scikit-learn draws its tie-breaking from
    return library.dci.compute_dci(
        data, representation_function, RandomState(0), num_train=num_train, num_test=num_test, batch_size=16
    )


@pytest.mark.parametrize(
    "representation_function",
    [
        network,
        representation_of(codes_of_every_kind()),
        representation_of(codes_of_every_kind(np.float64)),
        representation_of(RandomState(0).normal(size=(NUM_IMAGES, 6)).astype(np.float32)),
        representation_of(collapsed_codes()),
    ],
    ids=["network", "every kind", "float64", "noise", "collapsed"],
)
def test_the_scores_are_the_librarys(representation_function):
    data = small_ground_truth_data()
    scores, importances = compute_dci(data, representation_function, RandomState(0), num_train=1000, num_test=500)
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
    importances, train, test = compute_importance(*points, device="cpu")
    expected, expected_train, expected_test = library.dci.compute_importance_gbt(*points)
    assert train == pytest.approx(expected_train, abs=2e-3, rel=0)
    assert test == pytest.approx(expected_test, abs=2e-3, rel=0)
    for score in (library.dci.disentanglement, library.dci.completeness):
        assert score(importances) == pytest.approx(score(expected), abs=2e-3, rel=0)


def test_scores_do_not_depend_on_the_run():
    data = small_ground_truth_data()
    first, second = (compute_dci(data, network, RandomState(0), num_train=200, num_test=100) for _ in range(2))
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])


def test_a_value_seen_only_in_testing_counts_as_wrong():
    codes = RandomState(0).normal(size=(2, 100))
    factors = (codes[:1] > 0).astype(int)
    _, train, test = compute_importance(codes, factors, codes, np.full_like(factors, 7), device="cpu")
    assert (train, test) == (1, 0)


def test_bad_input_is_refused():
    codes = RandomState(0).normal(size=(2, 100))
    factors = RandomState(1).randint(3, size=(2, 100))
    with pytest.raises(RepresentationError, match="2 latents in the training and 1 in the test"):
        compute_importance(codes, factors, codes[:1], factors)
    with pytest.raises(DataError, match="test factors"):
        compute_importance(codes, factors, codes, factors[:1])
    with pytest.raises(RepresentationError, match="latent 1 "):
        compute_importance(codes * [[1], [np.nan]], factors, codes, factors)
    with pytest.raises(DataError, match="factor 0 has the single value"):
        compute_importance(codes, factors * [[0], [1]], codes, factors)
