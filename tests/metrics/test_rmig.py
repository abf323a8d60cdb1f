import numpy as np
import pytest
from hand_made import grid, information_matrix, noisy_codes, two_binary_factors

from disentanglement_challenge.metrics import RECORDS, mig, rmig


def test_it_is_the_papers_formula():
    codes, factors = noisy_codes()
    matrix = information_matrix(codes, factors, 100)
    entropies = [-sum(p * np.log(p) for p in np.bincount(y) / len(y)) for y in factors.T]
    ranked = [sorted(column, reverse=True) for column in matrix.T]
    expected = np.mean([(first - second) / h for (first, second, *_), h in zip(ranked, entropies, strict=True)])
    assert rmig(codes, factors) == pytest.approx(expected, abs=1e-12)
    values = RECORDS["rmig"].of_arrays(codes, factors).values
    assert values["RMIG_in_nats"] == pytest.approx(np.mean([first - second for first, second, *_ in ranked]), abs=1e-12)
    assert rmig(codes, factors, num_bins=20) == pytest.approx(mig(codes, factors), abs=1e-12)


def test_codes_with_a_known_answer():
    factors = grid()
    perfect = factors.astype(float)
    assert rmig(perfect, factors) == pytest.approx(1)
    assert rmig(np.hstack([perfect, perfect]), factors) == 0
    assert rmig(np.full((len(factors), 3), 0.1), factors) == 0
    assert rmig(perfect[:, :1], factors) == pytest.approx(
        1 / 4
    )  # a single latent is compared with an uninformative one
    assert rmig(*two_binary_factors()) == pytest.approx(0, abs=1e-12)
