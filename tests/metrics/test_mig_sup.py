import numpy as np
import pytest
from hand_made import grid, information_matrix, noisy_codes, two_binary_factors

from disentanglement_challenge.metrics import mig_sup


@pytest.mark.parametrize("threshold", [0.01, 0.0])
def test_it_is_the_papers_formula(threshold):
    codes, factors = noisy_codes()
    codes[:, 2] *= 0.01
    entropies = np.array([-sum(p * np.log(p) for p in np.bincount(y) / len(y)) for y in factors.T])
    matrix = information_matrix(codes, factors, 20) / entropies
    variances = codes.var(axis=0)
    gaps = [
        sorted(row)[-1] - sorted(row)[-2]
        for row, variance in zip(matrix, variances, strict=True)
        if variance >= threshold * variances.max()
    ]
    assert len(gaps) == (5 if threshold else 6)
    assert mig_sup(codes, factors, threshold=threshold) == pytest.approx(np.mean(gaps), abs=1e-12)


def test_codes_with_a_known_answer():
    factors = grid()
    perfect = factors.astype(float)
    for unit in (1, 1e-100, 1e100):
        assert mig_sup(perfect * unit, factors) == pytest.approx(1)
    assert mig_sup(np.hstack([perfect, perfect]), factors) == pytest.approx(1)
    assert mig_sup(np.full((len(factors), 3), 0.1), factors) == 0
    assert mig_sup(perfect, factors[:, :1]) == pytest.approx(
        1 / 4
    )  # a single factor is compared with one without information
    assert mig_sup(*two_binary_factors()) == pytest.approx(0, abs=1e-12)
    # A latent that encodes a combination of two factors has all information about both.
    both = (factors[:, 0] * 3 + factors[:, 1])[:, np.newaxis]
    assert mig_sup(both, factors, num_bins=12) == pytest.approx(0, abs=1e-12)
