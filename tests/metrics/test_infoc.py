import numpy as np
import pytest
from hand_made import grid, mutual_information, noisy_codes, two_binary_factors

from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.metrics import infoc


def test_it_is_the_papers_formula():
    codes, factors = noisy_codes(300)
    codes = np.round(codes, 1)
    codes[:, 2] = codes[:, 2] * 0.01
    matrix = np.array([[mutual_information(z, y) for y in factors.T.tolist()] for z in codes.T.tolist()])
    active = np.ptp(codes, axis=0) > np.ptp(codes, axis=0).max() / 20
    assert active.sum() == 5
    shares = [max(column) / sum(column) for column in matrix[active].T]
    expected = (np.mean(shares) - 1 / 5) / (1 - 1 / 5)
    assert infoc(codes, factors, discrete_latents=True) == pytest.approx(expected, abs=1e-12)


def test_codes_with_a_known_answer():
    factors = grid()
    perfect = factors.astype(float)
    assert infoc(perfect, factors, discrete_latents=True) == pytest.approx(1)
    # Two of the eight latents each have half of the information about a factor.
    twice = infoc(np.hstack([perfect, perfect]), factors, discrete_latents=True)
    assert twice == pytest.approx((1 / 2 - 1 / 8) / (1 - 1 / 8))
    assert infoc(np.full((len(factors), 3), 0.1), factors) == 0
    rotated, two_factors = two_binary_factors()
    assert infoc(rotated, two_factors, discrete_latents=True) == pytest.approx(0)
    # The estimate from neighbours agrees, up to the little that it finds between independent factors.
    assert infoc(np.tile(perfect, (10, 1)), np.tile(factors, (10, 1))) == pytest.approx(1, abs=1e-6)


def test_one_active_latent_is_refused():
    factors = grid()
    with pytest.raises(RepresentationError, match=r"one latent.*InfoC"):
        infoc(factors[:, :2] * [1.0, 1e-3], factors)
