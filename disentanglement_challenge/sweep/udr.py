"""Rank models of one configuration without labels: Unsupervised Disentanglement Ranking (UDR).

Networks that disentangle find the same latents under every seed, but for their order and sign; so a model is as good as
the others agree with it. Duan et al., "Unsupervised Model Selection for Variational Disentangled Representation
Learning" (https://arxiv.org/abs/1905.12614), in the definition of disentanglement_lib's repository
(https://github.com/google-research/disentanglement_lib/blob/master/disentanglement_lib/evaluation/udr/metrics/udr.py):

* a latent is active where its mean KL divergence from the prior exceeds 0.01 nats; the others are left out;
* the similarity of two models' active latents is a matrix: absolute Spearman correlations, or absolute coefficients of
  a lasso with alpha 0.1 that predicts each standardised latent of the one from all of the other;
* a latent's share in a matrix is its largest entry squared over the sum of its entries; two models agree as the mean
  share of the one's latents and the mean share of the other's, averaged;
* a model's UDR is the median of its agreement with each of the others.

Copies of independent latents in another order and with other signs have a UDR of 1 by Spearman, and of 0.9 by the
lasso, which shrinks every coefficient by its alpha.
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

ACTIVE_ABOVE = 0.01
ALPHA = 0.1
# Two models have nothing but each other, and tie.
FEWEST_MODELS = 3


@dataclass(frozen=True)
class Udr:
    """What UDR says of models of one configuration.

    Attributes:
        lasso, spearman: the UDR of each model, from 0 to 1, float64 [num_models].
        num_active: latents of each model above the threshold, int64 [num_models].
    """

    lasso: NDArray[np.float64]
    spearman: NDArray[np.float64]
    num_active: NDArray[np.int64]

    @property
    def order(self) -> list[int]:
        """The models, the best first: by the lasso, the library's default, then by Spearman; collapsed ones last."""
        keys = zip(self.num_active > 0, self.lasso, self.spearman, strict=True)
        ranked = sorted(enumerate(keys), key=lambda entry: entry[1], reverse=True)
        return [model for model, _ in ranked]


def compute_udr(codes: Sequence[NDArray[Any]], kl: Sequence[NDArray[Any]]) -> Udr:
    """Compute the UDR of models, in float64.

    Args:
        codes: of each model, float [num_points, num_latent]; a row is the same image in all of them.
        kl: of each model, the mean KL divergence of each latent in nats, float [num_latent].
    """
    active = [model[:, divergence > ACTIVE_ABOVE] for model, divergence in zip(codes, kl, strict=True)]
    ranks = [_normalised_ranks(model) for model in active]
    spearman = _medians([[_agreement(np.abs(other.T @ model)) for model in ranks] for other in ranks])
    del ranks  # of thousands of latents a fair part of the memory
    lasso = _medians(_lasso_agreements([_standardised(model) for model in active]))
    return Udr(lasso, spearman, np.array([model.shape[1] for model in active]))


def _medians(agreements: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return each column's median without the diagonal."""
    matrix = np.array(agreements, dtype=np.float64)
    return np.array([np.median(np.delete(column, model)) for model, column in enumerate(matrix.T)])


def _agreement(similarity: NDArray[np.float64]) -> float:
    """Return how far each latent has one partner alone, from 0 to 1; 0 where a side has no latents.

    Args:
        similarity: of the latents of two models, at least 0, float64 [num_latent, num_other_latent].
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

    A latent of one value correlates with nothing, and is all 0.
    """
    ranks = rankdata(codes, axis=0)
    ranks -= (len(codes) + 1) / 2  # their mean, to the last bit
    lengths = np.sqrt((ranks**2).sum(axis=0))
    return np.divide(ranks, lengths, out=ranks, where=lengths > 0)


def _standardised(codes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the columns with mean 0 and variance 1, in the order that the lasso takes; a column of one value is 0."""
    if not codes.shape[1]:
        return np.empty(codes.shape)
    return np.asfortranarray(StandardScaler().fit_transform(codes.astype(np.float64)))


def _lasso_agreements(codes: Sequence[NDArray[np.float64]]) -> list[list[float]]:
    """Return the agreement of each model, which predicts, with each other, which is predicted."""
    agreements = []
    # Thousands of active latents take minutes a pair, tens no time at all.
    for number, features in enumerate(tqdm(codes, desc="lasso", unit="model")):
        # What every fit needs of the features is computed once.
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
        features, targets: standardised, float64 [num_points, num_features] and [num_points, num_targets].
        products: of the features with each other, float64 [num_features, num_features].
    """
    if not features.shape[1] or not targets.shape[1]:
        return np.zeros((features.shape[1], targets.shape[1]))
    # Of standardised columns the intercept is 0.
    model = Lasso(alpha=ALPHA, fit_intercept=False, precompute=products, copy_X=False).fit(features, targets)
    return np.abs(model.coef_).reshape(targets.shape[1], features.shape[1]).T
