import numpy as np
import pytest
from hand_made import grid, mutual_information, noisy_codes, two_binary_factors
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_classif

from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics import RECORDS, infom
from disentanglement_challenge.metrics.infomec import normalised_information

METRIC = RECORDS["infom"]


def estimate(numbers, classes, n_neighbors=10):
    """Compute Ross's estimate of mutual information, counting equal distances, by comparing all pairs."""
    distances = np.abs(numbers[:, None] - numbers[None])
    terms = []
    for i, label in enumerate(classes):
        others = np.delete(np.flatnonzero(classes == label), np.flatnonzero(np.flatnonzero(classes == label) == i))
        radius = np.sort(distances[i, others])[min(n_neighbors, len(others)) - 1]
        in_class = np.sum(distances[i, others] <= radius)
        in_all = np.sum(distances[i] <= radius) - 1
        terms.append(digamma(in_class) - digamma(len(others) + 1) - digamma(in_all))
    return max(0, digamma(len(numbers)) + np.mean(terms))


@pytest.mark.parametrize("quantised", [False, True])
def test_information_is_estimated_from_neighbours(quantised):
    codes, factors = noisy_codes(300)
    if quantised:
        codes = np.round(codes)
    entropies = [mutual_information(y, y) for y in factors.T.tolist()]
    expected = [[estimate(z, y) / h for y, h in zip(factors.T, entropies, strict=True)] for z in codes.T]
    np.testing.assert_allclose(normalised_information(codes, factors, False, 10), expected, atol=1e-12)


def test_information_is_scikit_learns_where_no_two_distances_are_equal():
    codes, factors = noisy_codes(1000)
    expected = [mutual_info_classif(codes, y, n_neighbors=10, random_state=0) for y in factors.T]
    entropies = [mutual_information(y, y) for y in factors.T.tolist()]
    ours = normalised_information(codes, factors, False, 10) * entropies
    np.testing.assert_allclose(ours.T, expected, atol=1e-6)


def test_a_sum_of_a_number_and_a_radius_that_is_rounded_loses_no_neighbour():
    numbers = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1e9, 1e9 + 0.1, 3e-9] * 3)
    classes = np.arange(36) % 3
    information = normalised_information(numbers[:, None], classes[:, None], False, 2)
    assert information[0, 0] == pytest.approx(estimate(numbers, classes, 2) / np.log(3), abs=1e-12)


@pytest.mark.parametrize("discrete_latents", [False, True])
def test_it_is_the_papers_formula(discrete_latents):
    codes, factors = noisy_codes(300)
    codes[:, 2] *= 1e-3  # inactive, by its range
    if discrete_latents:
        codes = np.round(codes, 1)
        matrix = [[mutual_information(z, y) for y in factors.T.tolist()] for z in codes.T.tolist()]
    else:
        matrix = [[estimate(z, y) for y in factors.T] for z in codes.T]
    matrix = np.array(matrix) / [mutual_information(y, y) for y in factors.T.tolist()]
    ranges = np.ptp(codes, axis=0)
    shares = [max(row) / sum(row) for row, size in zip(matrix, ranges, strict=True) if size > max(ranges) / 20]
    assert len(shares) == 5
    expected = (np.mean(shares) - 1 / 3) / (1 - 1 / 3)
    assert infom(codes, factors, discrete_latents=discrete_latents) == pytest.approx(expected, abs=1e-12)


def test_codes_with_a_known_answer():
    factors = grid()
    perfect = factors.astype(float)
    assert infom(perfect, factors, discrete_latents=True) == pytest.approx(1)
    assert infom(np.hstack([perfect, perfect]), factors, discrete_latents=True) == pytest.approx(1)
    assert infom(np.full((len(factors), 3), 0.1), factors) == 0
    rotated, two_factors = two_binary_factors()
    assert infom(rotated, two_factors, discrete_latents=True) == pytest.approx(0)
    # A latent that encodes a combination of two factors has all information about both.
    both = (factors[:, 0] * 3 + factors[:, 1])[:, np.newaxis]
    assert infom(both, factors, discrete_latents=True) == pytest.approx((1 / 2 - 1 / 4) / (1 - 1 / 4))
    matrix = METRIC.of_arrays(perfect, factors, discrete_latents=True).matrix
    np.testing.assert_allclose(matrix, np.eye(4), atol=1e-12)


def test_a_latent_that_knows_nothing_has_a_share_that_is_chance():
    factors = grid()
    parity = factors.sum(axis=1) % 2  # of four factors: no information about any of even size
    useless = np.stack([factors[:, 0], parity], axis=1)
    score = infom(useless, factors[:, [0, 2]], discrete_latents=True)
    assert score == pytest.approx((1 + 0) / 2)


def test_one_factor_is_refused():
    with pytest.raises(DataError, match="one factor"):
        infom([[0.0], [1.0]], [["a"], ["b"]])
