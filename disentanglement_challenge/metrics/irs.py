"""The interventional robustness score (Suter et al., "Robustly Disentangled Causal Mechanisms", section 4)."""

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.evaluation.table import sample_codes
from disentanglement_challenge.export.representor import RepresentationFunction
from disentanglement_challenge.library import irs as library
from disentanglement_challenge.library import utils

_LATENTS_AT_A_TIME = 128  # between two updates of the progress bar


def compute_irs(
    ground_truth_data: GroundTruthData,
    representation_function: RepresentationFunction,
    random_state: RandomState,
    diff_quantile: float = 0.99,
    num_train: int = 10000,
    batch_size: int = 16,
    num_bins: int = 20,
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Scores equal to those of disentanglement_lib's `compute_irs` with the histogram discretizer.

    The defaults are the challenge's settings.

    Args:
        ground_truth_data: what to sample from.
        representation_function: observations to representations [N, num_latent].
        random_state: what to sample with.
        diff_quantile: the quantile of a latent's deviations that stands for the largest.
        num_train: points to sample.
        batch_size: how many are sampled at a time, on which the random stream depends.
        num_bins: the bins of a factor's histogram.

    Returns:
        IRS and num_active_dims (in the library, the sum of the varying latents' values); and one minus the normalised
        deviation, float64 [num_latent, num_factors], nan for the latents that never vary.
    """
    mus, ys = sample_codes(ground_truth_data, representation_function, num_train, random_state, batch_size)
    bins = utils._histogram_discretize(ys, num_bins=num_bins)
    active = mus.var(axis=1) > 0
    active_mus = mus[active]
    matrix = np.full((len(mus), len(ys)), np.nan)
    score = 0.0
    if active_mus.any():
        # A latent's row is a matter of that latent alone, so the library can be given some at a time.
        starts = tqdm(range(0, len(active_mus), _LATENTS_AT_A_TIME), desc="irs", unit="block", delay=2, leave=False)
        blocks = [
            library.scalable_disentanglement_score(
                bins.T, active_mus[start : start + _LATENTS_AT_A_TIME].T, diff_quantile
            )
            for start in starts
        ]
        per_latent, weights = (
            np.concatenate([block[key] for block in blocks]) for key in ("disentanglement_scores", "max_deviations")
        )
        score = float(np.average(per_latent, weights=weights if weights.sum() > 0 else None))
        matrix[active] = np.concatenate([block["IRS_matrix"] for block in blocks])
    return {"IRS": score, "num_active_dims": float(active_mus.sum())}, matrix
