import numpy as np
import pytest
from hand_made import grid, information_matrix, noisy_codes, two_binary_factors
from library_scores import library_results, our_results
from scipy.sparse.csgraph import connected_components
from scipy.stats import entropy
from small_data import codes_of_every_kind, network, representation_of, small_ground_truth_data

from disentanglement_challenge.metrics import RECORDS, unified_scores

METRIC = RECORDS["unified_scores"]
SETTINGS = {**METRIC.official(), "unified_scores.num_train": 1000, "unified_scores.num_test": 500}
# With our boosted trees: DCI's tolerance, for single latents at a tenth of the official points.
TOLERANCES = {"importance_gbt_matrix": 0.06, "mutual_information_matrix": 1e-9, "accuracy_svm_matrix": 0.02}


@pytest.mark.parametrize(
    "representation_function", [network, representation_of(codes_of_every_kind())], ids=["network", "every kind"]
)
def test_the_scores_are_the_librarys(representation_function):
    data = small_ground_truth_data()
    ours = our_results(METRIC, data, representation_function, SETTINGS).values
    expected = library_results(METRIC, data, representation_function, SETTINGS)
    assert set(expected) == set(ours) - {"test_seen_in_training"}
    for key, value in expected.items():
        if key.endswith("max_precision"):  # a number of groups
            assert ours[key] == pytest.approx(value, abs=1)
        else:
            assert ours[key] == pytest.approx(value, abs=TOLERANCES[key.partition(".")[0]]), key


def test_they_are_the_formulas():
    codes, factors = noisy_codes()
    matrix = information_matrix(codes, factors, 20)
    values = unified_scores(codes, factors, matrix_fns=["@mutual_information_matrix"])
    ours = {key.partition(".")[2]: value for key, value in values.items()}
    entropies = np.array([entropy(np.bincount(y)) for y in factors.T])
    ranked = np.sort(matrix, axis=0)
    per_latent, per_factor = 1 - entropy(matrix.T, base=3), 1 - entropy(matrix, base=6)
    expected = {
        "dci": np.average(per_latent, weights=matrix.sum(axis=1)),
        "dci_disentanglement.code_2": per_latent[2],
        "dci_completeness": np.average(per_factor, weights=matrix.sum(axis=0)),
        "dci_completeness.code_1": per_factor[1],
        "mig": np.mean((ranked[-1] - ranked[-2]) / entropies),
        "sap.factor_0": ranked[-1, 0] - ranked[-2, 0],
    }
    thresholds = sorted(matrix.ravel(), reverse=True)
    groups = []
    for threshold in thresholds:
        edges = np.zeros((9, 9))
        edges[:6, 6:] = matrix >= threshold
        _, labels = connected_components(edges, directed=False)
        groups.append(np.count_nonzero(np.bincount(labels) > 1))
    expected["max_precision"] = max(groups)
    expected["area_precision"] = -np.trapezoid(groups, thresholds)
    assert {key: ours[key] for key in expected} == pytest.approx(expected, abs=1e-8)


def test_codes_with_a_known_answer():
    factors = grid()
    perfect = factors.astype(float)
    values = unified_scores(perfect, factors)
    # A diagonal matrix of mutual information: each latent has all information about its factor, log of its size.
    assert values[METRIC.key] == pytest.approx(1, abs=1e-8)
    assert values["mutual_information_matrix.mig"] == pytest.approx(1)
    assert values["mutual_information_matrix.sap"] == pytest.approx(np.mean(np.log([4, 3, 2, 5])))
    assert values["mutual_information_matrix.max_precision"] == 4
    # At thresholds log 5, log 4, log 3, log 2 and 0 there are 1, 2, 3, 4 and 4 groups.
    area = np.trapezoid([4, 4, 3, 2, 1], np.log([1, 2, 3, 4, 5]))
    assert values["mutual_information_matrix.area_precision"] == pytest.approx(area)
    assert values["importance_gbt_matrix.dci"] == pytest.approx(1, abs=1e-8)
    doubled = unified_scores(np.hstack([perfect, perfect]), factors, matrix_fns=["@mutual_information_matrix"])
    assert doubled[METRIC.key] == pytest.approx(1, abs=1e-8)
    assert doubled["mutual_information_matrix.mig"] == 0
    rotated, two_factors = two_binary_factors()
    mixed = unified_scores(rotated, two_factors, matrix_fns=["@mutual_information_matrix"])
    assert mixed[METRIC.key] == pytest.approx(0, abs=1e-8)
    collapsed = unified_scores(np.full((len(factors), 3), 0.1), factors)
    assert collapsed[METRIC.key] == pytest.approx(0, abs=1e-8)
    assert collapsed["accuracy_svm_matrix.sap"] == 0


def test_one_latent_and_one_factor():
    factors = grid()
    values = unified_scores(factors[:, :1].astype(float), factors)
    assert values["mutual_information_matrix.mig"] == pytest.approx(1 / 4)
    values = unified_scores(factors.astype(float), factors[:, :1])
    assert values["mutual_information_matrix.dci"] == 1
    assert "mutual_information_matrix.modularity" not in values
