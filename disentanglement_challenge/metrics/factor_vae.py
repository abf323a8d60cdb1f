"""The FactorVAE score (Kim and Mnih, "Disentangling by Factorising"), by disentanglement_lib's own loops."""

from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.export.representor import RepresentationFunction
from disentanglement_challenge.library import factor_vae as library

_VOTES_AT_A_TIME = 100  # between two updates of the progress bar
_ENCODED_AT_A_TIME = 64  # the library's, where it estimates the variances


def compute_factor_vae(
    ground_truth_data: GroundTruthData,
    representation_function: RepresentationFunction,
    random_state: RandomState,
    batch_size: int = 64,
    num_train: int = 10000,
    num_eval: int = 5000,
    num_variance_estimate: int = 10000,
    prune_threshold: float = 0.05,
) -> tuple[dict[str, float], NDArray[np.int64]]:
    """Scores equal to those of disentanglement_lib's `compute_factor_vae`; the defaults are the challenge's settings.

    The library's loop over points takes a fraction of a millisecond a point once `representation_function` is a
    look-up, so it is the one that runs. Only its settings come as arguments here, where the library reads gin.

    Args:
        ground_truth_data: what to sample from.
        representation_function: observations to representations [N, num_latent].
        random_state: what to sample with.
        batch_size: points over which a latent's variance is taken while one factor is fixed.
        num_train: votes that make the classifier.
        num_eval: votes that score it.
        num_variance_estimate: points for the variances over the whole data set.
        prune_threshold: latents whose standard deviation is below this have no vote.

    Returns:
        train_accuracy, eval_accuracy and num_active_dims (in the library, the number of all latents, or 0 when all are
        pruned); and the training votes, int64 [num_latent, num_factors].
    """
    variances = compute_variances(ground_truth_data, representation_function, num_variance_estimate, random_state)
    active = library._prune_dims(variances, threshold=prune_threshold)
    if not active.any():
        no_votes = np.zeros((len(variances), ground_truth_data.num_factors), dtype=np.int64)
        return {"train_accuracy": 0.0, "eval_accuracy": 0.0, "num_active_dims": 0}, no_votes

    with tqdm(total=num_train + num_eval, desc="factor_vae_metric", unit="vote", delay=2, leave=False) as progress:

        def vote(num_points: int) -> NDArray[Any]:
            votes = np.zeros((ground_truth_data.num_factors, len(variances)), dtype=np.int64)
            for start in range(0, num_points, _VOTES_AT_A_TIME):
                num = min(_VOTES_AT_A_TIME, num_points - start)
                votes += library._generate_training_batch(
                    ground_truth_data, representation_function, batch_size, num, random_state, variances, active
                )
                progress.update(num)
            return votes

        train_votes = vote(num_train)
        eval_votes = vote(num_eval)
    factor_of_latent = train_votes.argmax(axis=0)
    latents = np.arange(len(variances))
    scores = {
        "train_accuracy": float(train_votes[factor_of_latent, latents].sum() / train_votes.sum()),
        "eval_accuracy": float(eval_votes[factor_of_latent, latents].sum() / eval_votes.sum()),
        "num_active_dims": len(active),
    }
    return scores, train_votes.T


def compute_variances(
    ground_truth_data: GroundTruthData,
    representation_function: RepresentationFunction,
    num_points: int,
    random_state: RandomState,
) -> NDArray[Any]:
    """disentanglement_lib's `_compute_variances`, without all observations in memory at once (10,000 may be 3 GB).

    The stream is the library's, since each observation draws what is its own, one after the other.

    Args:
        ground_truth_data: what to sample from.
        representation_function: observations to representations [N, num_latent].
        num_points: points to sample.
        random_state: what to sample with.

    Returns:
        The unbiased variance of each latent, float [num_latent].
    """
    factors = ground_truth_data.sample_factors(num_points, random_state)
    codes = [
        representation_function(
            ground_truth_data.sample_observations_from_factors(
                factors[start : start + _ENCODED_AT_A_TIME], random_state
            )
        )
        for start in range(0, num_points, _ENCODED_AT_A_TIME)
    ]
    return np.var(np.concatenate(codes), axis=0, ddof=1)
