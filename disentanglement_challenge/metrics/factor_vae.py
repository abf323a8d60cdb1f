"""The FactorVAE score (Kim and Mnih, "Disentangling by Factorising", section 4).

https://arxiv.org/abs/1802.05983
"""

from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.data.sampling import Sampler
from disentanglement_challenge.metrics.codes import precision, varying
from disentanglement_challenge.metrics.metric import Metric, Result, Setting, count


def _compute(
    sampler: Sampler,
    random_state: RandomState,
    batch_size: int,
    num_train: int,
    num_eval: int,
    num_variance_estimate: int,
    prune_threshold: float,
) -> Result:
    codes = sampler.codes(num_variance_estimate, random_state)
    num_latent, num_factors = codes.shape[1], len(sampler.factor_sizes)
    left = varying(codes)
    nothing = {"train_accuracy": 0.0, "eval_accuracy": 0.0, "num_active_dims": 0}
    no_votes = Result(nothing, np.zeros((num_latent, num_factors)))
    if not left.any():
        return no_votes
    codes = np.compress(left, codes, axis=1)
    dtype = precision(codes)
    codes = codes.astype(dtype, copy=False)
    variances = _variances(codes)
    exponents = None
    standard_deviations = np.sqrt(variances)
    if dtype == np.float64 and not (np.isfinite(variances) & (variances > np.finfo(np.float64).tiny)).all():
        # Scale latents near the limits of float64; a power of two changes no digit.
        _, exponents = np.frexp(np.abs(codes).max(axis=0))
        variances = _variances(np.ldexp(codes, -exponents))
        with np.errstate(over="ignore"):
            standard_deviations = np.ldexp(np.sqrt(variances), exponents)
    active = (standard_deviations >= prune_threshold) & (variances > 0)
    if not active.any():
        return no_votes

    def vote(num_votes: int) -> NDArray[np.int64]:
        votes = np.zeros((num_factors, int(active.sum())), dtype=np.int64)
        for _ in range(num_votes):
            factor = random_state.randint(num_factors)
            batch: NDArray[Any] = sampler.sharing(factor, batch_size, random_state)
            batch = np.compress(left, batch, axis=1).astype(dtype, copy=False)
            if exponents is not None:
                batch = np.ldexp(batch, -exponents)
            votes[factor, np.argmin(_variances(batch)[active] / variances[active])] += 1
            progress.update()
        return votes

    with tqdm(total=num_train + num_eval, desc="factor_vae_metric", unit="vote", delay=2, leave=False) as progress:
        train_votes, eval_votes = vote(num_train), vote(num_eval)
    factor_of_latent, latents = train_votes.argmax(axis=0), np.arange(int(active.sum()))
    matrix = np.zeros((num_latent, num_factors))
    matrix[np.flatnonzero(left)[active]] = train_votes.T
    values = {
        "train_accuracy": float(train_votes[factor_of_latent, latents].sum() / num_train),
        "eval_accuracy": float(eval_votes[factor_of_latent, latents].sum() / num_eval),
        "num_active_dims": num_latent,  # the library gives all latents, unless all are pruned
    }
    return Result(values, matrix)


def _draw(
    sampler: Sampler,
    random_state: RandomState,
    batch_size: int,
    num_train: int,
    num_eval: int,
    num_variance_estimate: int,
    prune_threshold: float,
) -> None:
    # `_compute` makes no votes without an active latent, which the stand-in's codes do not decide for a model's.
    sampler.codes(num_variance_estimate, random_state)
    for _ in range(num_train + num_eval):
        sampler.sharing(random_state.randint(len(sampler.factor_sizes)), batch_size, random_state)


def _variances(codes: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.var(codes, axis=0, ddof=1)


METRIC = Metric(
    name="factor_vae_metric",
    key="eval_accuracy",
    label="FactorVAE",
    explanation="How often a latent varied least while a factor was fixed. A latent predicts the factor with most of "
    "its votes; the score is the accuracy of these predictions.",
    compute=_compute,
    draw=_draw,
    settings={
        "factor_vae_score.num_variance_estimate": count(10000, least=2),
        "factor_vae_score.num_train": count(10000),
        "factor_vae_score.num_eval": count(5000),
        "factor_vae_score.batch_size": count(64, least=2),
        "prune_dims.threshold": Setting(0.05, "prune_threshold"),
    },
    column=1,
    tolerance=0.0,
    library="factor_vae.compute_factor_vae",
    gin_name="factor_vae_score",
    aliases=("factor_vae", "factor_vae_score"),
    missing=0.0,
    is_count=True,
    matrix_label="FactorVAE votes",
)
