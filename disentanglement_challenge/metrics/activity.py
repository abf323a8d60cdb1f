"""Which latents vary with the image at all (Burda et al., "Importance Weighted Autoencoders", section 5.3)."""

from typing import Any

import gin
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState

from disentanglement_challenge.evaluation.table import sample_codes
from disentanglement_challenge.export.representor import RepresentationFunction


@gin.configurable("activity", denylist=["ground_truth_data", "representation_function", "random_state"])
def compute_activity(
    ground_truth_data: GroundTruthData,
    representation_function: RepresentationFunction,
    random_state: RandomState,
    num_train: int = 10000,
    batch_size: int = 16,
    threshold: float = 0.01,
) -> dict[str, Any]:
    """The variance of each latent's mean over images, and how many exceed the threshold (the paper's is 0.01).

    Args:
        ground_truth_data: what to sample from.
        representation_function: observations to representations [N, num_latent].
        random_state: what to sample with.
        num_train: points to sample.
        batch_size: how many are sampled at a time, on which the random stream depends.
        threshold: a latent of a larger variance is active.

    Returns:
        num_active, and activity: the variances, float64 [num_latent].
    """
    mus, _ = sample_codes(ground_truth_data, representation_function, num_train, random_state, batch_size)
    activity = mus.var(axis=1, dtype="float64")
    return {"num_active": int((activity > threshold).sum()), "activity": activity}
