"""UDR against loops over scipy's and scikit-learn's own functions, and on codes whose UDR is known."""

import warnings

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Lasso

from disentanglement_challenge.sweep.udr import compute_udr


def share(similarities):
    """A latent's largest similarity squared over their sum."""
    return max(similarities) ** 2 / sum(similarities) if sum(similarities) > 0 else 0.0


def loop_udr(codes, kl, similarity_of):
    """UDR as disentanglement_lib's repository defines it, latent by latent."""
    codes = [model.astype(np.float64) for model in codes]
    codes = [
        (model - model.mean(axis=0)) / model.std(axis=0) * (of > 0.01) for model, of in zip(codes, kl, strict=True)
    ]
    scores = []
    for model in range(len(codes)):
        agreements = []
        for other in range(len(codes)):
            if other == model:
                continue
            matrix = similarity_of(codes[other], codes[model])
            matrix = [
                [matrix[i][j] for j in range(len(kl[model])) if kl[model][j] > 0.01]
                for i in range(len(kl[other]))
                if kl[other][i] > 0.01
            ]
            of_other = np.mean([share(row) for row in matrix])
            of_model = np.mean([share(column) for column in zip(*matrix, strict=True)])
            agreements.append((of_other + of_model) / 2)
        scores.append(np.median(agreements))
    return scores


def spearman(features, targets):
    return [[abs(spearmanr(x, y).statistic) for y in targets.T] for x in features.T]


def lasso(features, targets):
    return np.abs([Lasso(alpha=0.1).fit(features, y).coef_ for y in targets.T]).T


@pytest.fixture(scope="module")
def models():
    """Codes of four models of 4 to 6 latents that share factors, and a KL divergence that leaves some latents out."""
    random = np.random.default_rng(0)
    factors = random.uniform(-1, 1, size=(400, 3))
    codes, kl = [], []
    for num_latent in (5, 5, 4, 6):
        mixed = np.tanh(factors @ random.normal(size=(3, num_latent))) + 0.2 * random.normal(size=(400, num_latent))
        codes.append((mixed * 3 + 1).astype(np.float32).round(1))  # with ties
        kl.append(random.choice([0.0, 0.02, 1.0], p=[0.3, 0.2, 0.5], size=num_latent))
        kl[-1][:2] = 0.5, 0.01  # the threshold itself is not above it
    return codes, kl


def test_it_is_the_definition_latent_by_latent(models):
    udr = compute_udr(*models)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of latents that are not active
        np.testing.assert_allclose(udr.spearman, loop_udr(*models, spearman), rtol=1e-12)
        np.testing.assert_allclose(udr.lasso, loop_udr(*models, lasso), rtol=1e-9)
    assert udr.num_active.tolist() == [int((kl > 0.01).sum()) for kl in models[1]]
    assert udr.lasso.dtype == udr.spearman.dtype == np.float64


def independent_latents():
    """Three latents on a full grid, so that any two are uncorrelated to the last digit, each a rising function."""
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(4.0), np.arange(3.0), indexing="ij"), axis=-1).reshape(-1, 3)
    return grid - grid.mean(axis=0)


def test_copies_in_another_order_and_with_other_signs_agree_wholly():
    codes = independent_latents()
    copies = [codes, codes[:, [2, 0, 1]] * [1, -1, 2], codes[:, [1, 2, 0]] * [-3, -1, 1]]
    udr = compute_udr(copies, [np.ones(3)] * 3)
    np.testing.assert_allclose(udr.spearman, 1, rtol=1e-12)
    # The lasso shrinks a perfect predictor's coefficient from 1 to 0.9, whose square over itself is 0.9.
    np.testing.assert_allclose(udr.lasso, 0.9, rtol=1e-9)


def test_spearman_sees_the_order_alone():
    codes = independent_latents()
    bent = np.exp(codes)
    udr = compute_udr([codes, bent, -(bent**3)], [np.ones(3)] * 3)
    np.testing.assert_allclose(udr.spearman, 1, rtol=1e-12)
    assert udr.lasso.max() < 0.9


def test_a_model_that_mixes_its_latents_comes_behind_those_that_do_not():
    codes = independent_latents()
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    udr = compute_udr([codes @ rotation, codes, codes[:, ::-1], -codes], [np.ones(3)] * 4)
    assert udr.order[-1] == 0
    for scores in (udr.lasso, udr.spearman):
        assert scores[0] < scores[1:].min() - 0.1


@pytest.mark.filterwarnings("error")
def test_a_collapsed_model_comes_last_and_is_no_error():
    codes = independent_latents()
    dead = np.zeros(3)
    noise = np.random.default_rng(0).normal(size=codes.shape)
    udr = compute_udr([noise, codes, -codes, codes], [dead, np.ones(3), np.ones(3), np.ones(3)])
    assert udr.order[-1] == 0
    assert (udr.lasso[0], udr.spearman[0], udr.num_active[0]) == (0, 0, 0)
    np.testing.assert_allclose(udr.spearman[1:], 1)
    # Also behind one that agrees with nobody, as the others have collapsed.
    udr = compute_udr([codes, noise, codes], [dead, np.ones(3), dead])
    assert udr.order == [1, 0, 2]
    assert udr.spearman.tolist() == [0, 0, 0]


@pytest.mark.filterwarnings("error")
def test_a_latent_that_does_not_vary_is_like_nothing():
    codes = independent_latents()
    constant = np.concatenate([codes, np.full((len(codes), 1), 0.1, np.float32)], axis=1)
    udr = compute_udr([constant, codes, codes], [np.ones(4), np.ones(3), np.ones(3)])
    # Three of its four latents have a partner, and all of the other's.
    assert udr.spearman[0] == pytest.approx((3 / 4 + 1) / 2)
    assert udr.lasso[0] == pytest.approx(0.9 * (3 / 4 + 1) / 2)


def test_two_models_tie_by_spearman():
    random = np.random.default_rng(0)
    first, second = compute_udr([random.normal(size=(50, 4)) for _ in range(2)], [np.ones(4)] * 2).spearman
    assert first == pytest.approx(second, rel=1e-12)


def test_hundreds_of_latents_correlate_as_scipy_says():
    random = np.random.default_rng(0)
    codes = [random.normal(size=(200, 150)).astype(np.float32) for _ in range(3)]
    matrices = [np.abs(spearmanr(codes[0], other).statistic[:150, 150:]) for other in codes[1:]]
    agreements = [np.mean([np.mean(np.max(m, axis) ** 2 / np.sum(m, axis)) for axis in (0, 1)]) for m in matrices]
    assert compute_udr(codes, [np.ones(150)] * 3).spearman[0] == pytest.approx(np.median(agreements), rel=1e-12)
