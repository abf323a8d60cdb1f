import gin
import numpy as np
import pytest
from hand_made import grid, information_matrix, noisy_codes, two_binary_factors
from library_scores import library_results, our_results
from small_data import codes_of_every_kind, network, representation_of, small_ground_truth_data

from disentanglement_challenge import library
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics import RECORDS, modularity

METRIC = RECORDS["modularity"]
SETTINGS = {**METRIC.official(), "modularity_explicitness.num_train": 1000, "modularity_explicitness.num_test": 500}


@pytest.mark.parametrize(
    "representation_function",
    [network, representation_of(codes_of_every_kind()[:, :-2]), representation_of(codes_of_every_kind(float)[:, :-2])],
    ids=["network", "every kind", "float64"],
)
def test_the_score_is_the_librarys(representation_function):
    data = small_ground_truth_data()
    ours = our_results(METRIC, data, representation_function, SETTINGS)
    expected = library_results(METRIC, data, representation_function, SETTINGS)
    assert ours.values["modularity_score"] == pytest.approx(expected["modularity_score"], abs=1e-12, rel=0)


def test_a_latent_that_does_not_vary_counts_as_in_the_librarys_own_mean():
    factors = grid()
    codes = np.column_stack([factors[:, 0], factors[:, 1] + factors[:, 2], np.full(len(factors), 0.7)]).astype(float)
    gin.parse_config(["discretizer.discretizer_fn = @histogram_discretizer", "discretizer.num_bins = 20"])
    try:
        bins = library.utils.make_discretizer(codes.T)
        with np.errstate(invalid="ignore"):
            expected = library.modularity_explicitness.modularity(library.utils.discrete_mutual_info(bins, factors.T))
    finally:
        gin.clear_config()
    assert modularity(codes, factors) == pytest.approx(expected, abs=1e-12)


def test_it_is_the_papers_formula():
    codes, factors = noisy_codes()
    per_latent = []
    for row in information_matrix(codes, factors, 20):
        best = row.argmax()
        template = np.zeros(len(row))
        template[best] = row[best]
        deviation = sum((value - wanted) ** 2 for value, wanted in zip(row, template, strict=True))
        per_latent.append(1 - deviation / (row[best] ** 2 * (len(row) - 1)))
    assert modularity(codes, factors) == pytest.approx(np.mean(per_latent), abs=1e-12)


def test_codes_with_a_known_answer():
    factors = grid()
    perfect = factors.astype(float)
    assert modularity(perfect, factors) == pytest.approx(1)
    assert modularity(np.hstack([perfect, perfect]), factors) == pytest.approx(1)
    assert modularity(np.full((len(factors), 3), 0.1), factors) == 0
    rotated, two_factors = two_binary_factors()
    assert modularity(rotated, two_factors) == pytest.approx(0)  # each latent has equal information about both
    # A latent that encodes a combination of the first two factors has log 4 nats about one and log 3 about the other.
    both = (factors[:, 0] * 3 + factors[:, 1])[:, np.newaxis]
    assert modularity(both, factors, num_bins=12) == pytest.approx(1 - (np.log(3) / np.log(4)) ** 2 / 3)


def test_one_factor_is_refused():
    with pytest.raises(DataError, match="one factor"):
        modularity([[0.0], [1.0]], [["a"], ["b"]])
