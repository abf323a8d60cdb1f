import numpy as np
import pytest
from hand_made import bins_of, grid, mutual_information, noisy_codes
from library_scores import library_results, our_results
from small_data import codes_of_every_kind, network, representation_of, small_ground_truth_data

from disentanglement_challenge.metrics import RECORDS, unsupervised

METRIC = RECORDS["unsupervised"]
SETTINGS = {**METRIC.official(), "unsupervised_metrics.num_train": 1000}
# No latent is a function of another or constant. The library's root loses digits if units differ by millions.
PLAIN = [0, 1, 2, 3, 4, 5, 8, 10, 11]


@pytest.mark.parametrize(
    "representation_function",
    [
        network,
        representation_of(codes_of_every_kind()[:, PLAIN]),
        representation_of(codes_of_every_kind(float)[:, PLAIN]),
    ],
    ids=["network", "every kind", "float64"],
)
def test_the_scores_are_the_librarys(representation_function):
    data = small_ground_truth_data()
    ours = our_results(METRIC, data, representation_function, SETTINGS).values
    expected = library_results(METRIC, data, representation_function, SETTINGS)
    assert ours == pytest.approx(expected, rel=1e-8)


def test_they_are_the_formulas():
    codes, _ = noisy_codes(3000)
    covariance = np.cov(codes.T)
    marginals = np.diag(np.diag(covariance))
    # The Kullback-Leibler divergence of two Gaussians of mean 0.
    divergence = 0.5 * (
        np.trace(np.linalg.solve(marginals, covariance))
        - len(covariance)
        + np.log(np.linalg.det(marginals) / np.linalg.det(covariance))
    )
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values) @ vectors.T
    inner = np.linalg.eigvalsh(root @ marginals @ root)
    wasserstein = np.trace(covariance) + np.trace(marginals) - 2 * np.sqrt(inner).sum()
    bins = [bins_of(latent, 20) for latent in codes.T]
    pairs = [mutual_information(one, other) for i, one in enumerate(bins) for other in bins[:i]]
    assert unsupervised(codes) == pytest.approx(
        {
            "gaussian_total_correlation": divergence,
            "gaussian_wasserstein_correlation": wasserstein,
            "gaussian_wasserstein_correlation_norm": wasserstein / np.trace(covariance),
            "mutual_info_score": np.mean(pairs),
        },
        rel=1e-9,
    )


def test_codes_with_a_known_answer():
    factors = grid().astype(float)
    assert unsupervised(factors) == pytest.approx(dict.fromkeys(unsupervised(factors), 0), abs=1e-12)
    # Two latents of correlation r: -log(1 - r^2) / 2, in any unit.
    one, other = factors[:, 0] - 1.5, (factors[:, 3] - 2) * np.sqrt(1.25 / 2)
    for unit in (1, 1e-200, 1e200):
        codes = np.stack([one, 0.6 * one + 0.8 * other], axis=1) * [unit, 1]
        assert unsupervised(codes)["gaussian_total_correlation"] == pytest.approx(-np.log(1 - 0.36) / 2, rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_latent_that_is_a_function_of_others_has_no_finite_total_correlation(dtype):
    factors = grid().astype(dtype)
    for more in (factors[:, :1], factors[:, :1] * 3 + 7, factors[:, :1] + factors[:, 1:2]):
        scores = unsupervised(np.hstack([factors, more]))
        assert "gaussian_total_correlation" not in scores
        assert scores["gaussian_wasserstein_correlation"] > 0.01
    # A near copy of correlation r has a finite value, however rounding affects so small a determinant.
    noise = np.where(np.arange(len(factors)) % 2, 1e-5, -1e-5)[:, None]
    near = np.hstack([factors[:, 3:], factors[:, 3:] + noise]).astype(np.float64)
    correlation = np.corrcoef(near.T)[0, 1]
    assert unsupervised(near)["gaussian_total_correlation"] == pytest.approx(-np.log1p(-(correlation**2)) / 2, rel=1e-4)


def test_too_few_latents_or_points():
    factors = grid().astype(float)
    assert unsupervised(factors[:, :1])["gaussian_total_correlation"] == pytest.approx(0, abs=1e-15)
    assert "mutual_info_score" not in unsupervised(factors[:, :1])
    assert unsupervised(np.full((10, 3), 0.1)) == {}
    assert "gaussian_total_correlation" not in unsupervised(noisy_codes(5)[0])
