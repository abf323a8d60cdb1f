"""Rank models of one configuration without labels: Unsupervised Disentanglement Ranking (UDR).

Networks that disentangle find the same latents under every seed, up to order and sign, so UDR scores a model by its
agreement with the others. Duan et al., "Unsupervised Model Selection for Variational Disentangled Representation
Learning" (https://arxiv.org/abs/1905.12614), as defined in disentanglement_lib's repository
(https://github.com/google-research/disentanglement_lib/blob/master/disentanglement_lib/evaluation/udr/metrics/udr.py):

* a latent is active if its mean KL divergence from the prior exceeds 0.01 nats; the others are left out;
* the similarity of two models' active latents is a matrix: absolute Spearman correlations, or absolute coefficients of
  a lasso with alpha 0.1 that predicts each standardised latent of one model from all latents of the other;
* a latent's share in a matrix is its largest entry squared over the sum of its entries; the agreement of two models is
  the average of the mean share of the first model's latents and the mean share of the second's;
* a model's UDR is the median of its agreements with the others.

Copies of independent latents with permuted order and flipped signs have a UDR of 1 by Spearman, and of 0.9 by the
lasso, which shrinks every coefficient by alpha.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.linear_model import Lasso
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

# Nats.
ACTIVE_ABOVE = 0.01
ALPHA = 0.1
# Two models always tie, as each is compared only with the other.
FEWEST_MODELS = 3


@dataclass(frozen=True)
class Udr:
    """The UDR of the models of one configuration.

    Attributes:
        lasso, spearman: the UDR of each model by that similarity, from 0 to 1, float64 [num_models].
        num_active: the number of active latents of each model, int64 [num_models].
    """

    lasso: NDArray[np.float64]
    spearman: NDArray[np.float64]
    num_active: NDArray[np.int64]

    @property
    def order(self) -> list[int]:
        """Return the models, the best first: by the lasso, the library's default, then Spearman; collapsed last."""
        keys = zip(self.num_active > 0, self.lasso, self.spearman, strict=True)
        ranked = sorted(enumerate(keys), key=lambda entry: entry[1], reverse=True)
        return [model for model, _ in ranked]


def compute_udr(codes: Sequence[NDArray[Any]], kl: Sequence[NDArray[Any]]) -> Udr:
    """Compute the UDR of models, in float64.

    Args:
        codes: the codes of each model, float [num_points, num_latent]; equal rows belong to the same image.
        kl: the mean KL divergence of each latent in nats, float [num_latent], for each model.
    """
    active = [model[:, divergence > ACTIVE_ABOVE] for model, divergence in zip(codes, kl, strict=True)]
    ranks = [_normalised_ranks(model) for model in active]
    spearman = _medians([[_agreement(np.abs(other.T @ model)) for model in ranks] for other in ranks])
    del ranks  # large for thousands of latents
    lasso = _medians(_lasso_agreements([_standardised(model) for model in active]))
    return Udr(lasso, spearman, np.array([model.shape[1] for model in active]))


def _medians(agreements: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return each column's median without the diagonal."""
    matrix = np.array(agreements, dtype=np.float64)
    return np.array([np.median(np.delete(column, model)) for model, column in enumerate(matrix.T)])


def _agreement(similarity: NDArray[np.float64]) -> float:
    """Return how far each latent has a single partner, from 0 to 1; 0 if a model has no latents.

    Args:
        similarity: the similarities of two models' latents, at least 0, float64 [num_latent, num_other_latent].
    """
    if not similarity.size:
        return 0.0
    return float((_shares(similarity).mean() + _shares(similarity.T).mean()) / 2)


def _shares(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each column's largest entry squared over its sum; 0 for a latent that is similar to nothing."""
    sums = similarity.sum(axis=0)
    return np.divide(similarity.max(axis=0) ** 2, sums, out=np.zeros_like(sums), where=sums > 0)


def _normalised_ranks(codes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the ranks of each column, centred and of length 1, so that a product of two is Spearman's correlation.

    A constant latent correlates with nothing, and becomes 0.
    """
    ranks = rankdata(codes, axis=0)
    ranks -= (len(codes) + 1) / 2  # the exact mean
    lengths = np.sqrt((ranks**2).sum(axis=0))
    return np.divide(ranks, lengths, out=ranks, where=lengths > 0)


def _standardised(codes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the columns with mean 0 and variance 1, in Fortran order for the lasso; a constant column becomes 0."""
    if not codes.shape[1]:
        return np.empty(codes.shape)
    return np.asfortranarray(StandardScaler().fit_transform(codes.astype(np.float64)))


def _lasso_agreements(codes: Sequence[NDArray[np.float64]]) -> list[list[float]]:
    """Return the agreement of each model, as the predictor, with each other model, as the target."""
    agreements = []
    # A pair with thousands of active latents takes minutes, one with tens is instant.
    for number, features in enumerate(tqdm(codes, desc="lasso", unit="model")):
        # All fits share these products.
        products = features.T @ features
        agreements.append(
            [
                0.0 if other == number else _agreement(lasso_similarity(features, targets, products))
                for other, targets in enumerate(codes)
            ]
        )
    return agreements


def lasso_similarity(
    features: NDArray[np.float64], targets: NDArray[np.float64], products: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the absolute coefficients of a lasso for each target, float64 [num_features, num_targets].

    Args:
        features, targets: standardised columns, float64 [num_points, num_features] and [num_points, num_targets].
        products: the products of the features with each other, float64 [num_features, num_features].
    """
    if not features.shape[1] or not targets.shape[1]:
        return np.zeros((features.shape[1], targets.shape[1]))
    # The intercept is 0 for standardised columns.
    model = Lasso(alpha=ALPHA, fit_intercept=False, precompute=products, copy_X=False).fit(features, targets)
    return np.abs(model.coef_).reshape(targets.shape[1], features.shape[1]).T
