"""The beta-VAE score (Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
Framework", section 3).

https://openreview.net/forum?id=Sy2fzU9gl
"""

import warnings
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.data.sampling import Sampler
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics.metric import Metric, Result, count

# Codes whose differences would overflow are first scaled by a power of two.
_SHIFT = 64
# Larger features would overflow the classifier's own sums; they are scaled down to a size at which it converges.
_LARGEST, _IN_REACH = 2.0**200, 2.0**10


def _compute(sampler: Sampler, random_state: RandomState, batch_size: int, num_train: int, num_eval: int) -> Result:
    from sklearn.linear_model import LogisticRegression

    with tqdm(total=num_train + num_eval, desc="beta_vae", unit="point", delay=2, leave=False) as progress:
        features, labels = _features(sampler, random_state, batch_size, num_train, progress)
        features_eval, labels_eval = _features(sampler, random_state, batch_size, num_eval, progress)
    if (labels == labels[0]).all():
        raise DataError(f"only one factor was fixed in {num_train} draws; a classifier needs at least two")
    largest = max(features.max(), features_eval.max())
    if largest > _LARGEST:
        exponent = int(np.frexp(_IN_REACH)[1] - np.frexp(largest)[1])
        features, features_eval = np.ldexp(features, exponent), np.ldexp(features_eval, exponent)
    # As in the library, even if it has not converged after 100 steps.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        model = LogisticRegression().fit(features, labels)
        accuracies = [
            float(np.mean(model.predict(points) == truth))
            for points, truth in ((features, labels), (features_eval, labels_eval))
        ]
    return Result(dict(zip(("train_accuracy", "eval_accuracy"), accuracies, strict=True)))


def _features(
    sampler: Sampler, random_state: RandomState, batch_size: int, num: int, progress: Any
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return mean absolute differences of pairs [num, num_latent], and the factor that each pair shares [num]."""
    labels = np.empty(num, dtype=np.int64)
    rows, shifted = [], []
    for point in range(num):
        labels[point] = random_state.randint(len(sampler.factor_sizes))
        first, second = sampler.pairs(int(labels[point]), batch_size, random_state)
        with np.errstate(over="ignore", invalid="ignore"):
            difference = np.mean(np.abs(first - second), axis=0)
        fits = first.dtype in (np.float32, np.float64) and bool(np.isfinite(difference).all())
        if not fits:
            first, second = (np.ldexp(codes.astype(np.float64), -_SHIFT) for codes in (first, second))
            difference = np.mean(np.abs(first - second), axis=0)
        rows.append(difference)
        shifted.append(not fits)
        progress.update()
    features = np.array(rows, dtype=np.float64)
    shifts = np.where(shifted, _SHIFT, 0)[:, np.newaxis]
    with np.errstate(over="ignore"):
        unshifted = np.ldexp(features, shifts)
    if np.isfinite(unshifted).all():
        return unshifted, labels
    return np.ldexp(features, shifts - _SHIFT), labels


def _draw(sampler: Sampler, random_state: RandomState, batch_size: int, num_train: int, num_eval: int) -> None:
    for _ in range(num_train + num_eval):
        sampler.pairs(random_state.randint(len(sampler.factor_sizes)), batch_size, random_state)


METRIC = Metric(
    name="beta_vae_sklearn",
    key="eval_accuracy",
    label="beta-VAE",
    explanation="The accuracy of a linear classifier that predicts which factor pairs of images share, from the mean "
    "absolute difference of their latents. Uninformative latents score the share of the most frequent factor.",
    compute=_compute,
    settings={
        "beta_vae_sklearn.batch_size": count(64),
        "beta_vae_sklearn.num_train": count(10000),
        "beta_vae_sklearn.num_eval": count(5000),
    },
    draw=_draw,
    tolerance=1e-3,
    library="beta_vae.compute_beta_vae_sklearn",
    gin_name="beta_vae_sklearn",
    aliases=("beta_vae",),
    collapsed=None,
)
