import numpy as np
import pytest
from hand_made import ENTROPIES, bins_of, entropy, grid, mutual_information, noisy_codes, two_binary_factors

from disentanglement_challenge.metrics import RECORDS, jemmig


def test_it_is_the_papers_formula():
    codes, factors = noisy_codes()
    bins = [bins_of(latent, 100) for latent in codes.T]
    scores, in_nats = [], []
    for labels in factors.T.tolist():
        ranked = sorted(((mutual_information(z, labels), z) for z in bins), reverse=True)
        (most, best), (second, _) = ranked[:2]
        in_nats.append(entropy(list(zip(best, labels, strict=True))) - most + second)
        scores.append(in_nats[-1] / (entropy(labels) + np.log(100)))
    assert jemmig(codes, factors) == pytest.approx(np.mean(scores), abs=1e-12)
    values = RECORDS["jemmig"].of_arrays(codes, factors).values
    assert values["JEMMIG_in_nats"] == pytest.approx(np.mean(in_nats), abs=1e-12)


def test_codes_with_a_known_answer():
    factors = grid()
    perfect = factors.astype(float)
    bounds = ENTROPIES + np.log(100)
    assert jemmig(perfect, factors) == pytest.approx(0, abs=1e-12)
    # A copy also has all information about the factor.
    assert jemmig(np.hstack([perfect, perfect]), factors) == pytest.approx(np.mean(ENTROPIES / bounds))
    assert jemmig(np.full((len(factors), 3), 0.1), factors) == 1
    # One latent encodes two factors: for each of them, the other's entropy adds to the score.
    both = np.column_stack([factors[:, 0] * 3 + factors[:, 1], factors[:, 2:]]).astype(float)
    expected = [np.log(3) / bounds[0], np.log(4) / bounds[1], 0, 0]
    assert jemmig(both, factors) == pytest.approx(np.mean(expected))
    # Sum and difference of two binary factors: of the sum H = 3/2 log 2, and I = 1/2 log 2 with either factor.
    rotated, two_factors = two_binary_factors()
    assert jemmig(rotated, two_factors) == pytest.approx(2 * np.log(2) / np.log(200))


def test_of_latents_that_know_equally_much_the_one_that_knows_no_more_counts_in_any_order():
    factors = grid([2, 3])
    plain, both = factors[:, 0], factors[:, 0] * 3 + factors[:, 1]
    for columns in ((plain, both), (both, plain)):
        assert jemmig(np.stack(columns, axis=1), factors[:, :1]) == pytest.approx(np.log(2) / np.log(200))


def test_latents_that_rounding_sets_apart_know_equally_much():
    """Reflecting a latent reverses its bins, and with them the order of the terms of its information."""
    factors = np.tile(grid([5, 7]), (3, 1))
    plain, both = factors[:, 0] * 1.0, factors[:, 0] * 7.0 + factors[:, 1]
    scores = [
        jemmig(np.stack(columns, axis=1), factors[:, :1])
        for columns in ((plain, both), (both, plain), (-both, plain), (plain, -both), (-plain, both))
    ]
    assert scores == pytest.approx([np.log(5) / np.log(500)] * 5, abs=1e-12)
