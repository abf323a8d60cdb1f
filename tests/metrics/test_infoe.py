import numpy as np
import pytest
from hand_made import entropy, grid, noisy_codes, softmax_regression, two_binary_factors
from numpy.random import RandomState

from disentanglement_challenge.metrics import infoe


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_what_an_unregularised_regression_gains_over_the_entropy(seed):
    codes, factors = noisy_codes(400, seed)
    gains = []
    for labels in factors.T:
        probabilities = softmax_regression(codes, labels, penalty=0.0)
        loss = -np.mean(np.log(probabilities[np.arange(len(labels)), labels]))
        gains.append((entropy(labels.tolist()) - loss) / entropy(labels.tolist()))
    assert infoe(codes, factors) == pytest.approx(np.mean(gains), abs=1e-4)


def test_codes_with_a_known_answer():
    factors = grid()
    perfect = np.tile(factors, (5, 1)).astype(float)
    many = np.tile(factors, (5, 1))
    assert infoe(perfect, many, discrete_latents=True) == pytest.approx(1, abs=1e-3)
    assert infoe(np.hstack([perfect, perfect]), many, discrete_latents=True) == pytest.approx(1, abs=1e-3)
    assert infoe(np.full((len(factors), 3), 0.1), factors) == 0
    rotated, two_factors = two_binary_factors()
    assert infoe(rotated, two_factors) == pytest.approx(1, abs=1e-3)  # a linear map recovers the factors
    # Noise gains nothing, except for the overfitting of a regression on 12,000 points.
    assert infoe(RandomState(0).normal(size=(12000, 2)), np.tile(factors, (100, 1))) == pytest.approx(0, abs=1e-3)
    # A latent determines a factor of two values in half of the points. In the others both values are equally
    # frequent, and log 2 nats are lost.
    half = np.array([[0, 0]] * 30 + [[1, 0]] * 30 + [[1, 1]] * 30 + [[2, 1]] * 30)
    expected = 1 - 0.5
    assert infoe(half[:, :1], half[:, 1:], discrete_latents=True) == pytest.approx(expected, abs=1e-3)
