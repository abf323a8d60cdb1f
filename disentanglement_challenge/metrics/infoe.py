"""InfoE, explicitness from predictive information (Hsu et al., "Disentanglement via Latent Quantization", section 4).

https://arxiv.org/abs/2305.18378

The share of a factor's entropy that an unregularised multinomial logistic regression on all latents removes; the mean
over factors. This is the paper's formula. The paper's code weights the values of a factor equally, which is the same if
they are equally frequent.
"""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics import infomec
from disentanglement_challenge.metrics.metric import Metric, Result
from disentanglement_challenge.metrics.mutual_information import discrete_entropy


def _compute(points: Points, discrete_latents: bool) -> Result:
    if discrete_latents:
        from sklearn.preprocessing import OneHotEncoder

        features = OneHotEncoder().fit_transform(points.codes)
    else:
        # Scale so that no variance underflows; a power of two changes no digit.
        codes = points.codes.astype(np.float64)
        codes = np.ldexp(codes, -np.frexp(np.abs(codes).max(axis=0))[1])
        features = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    entropies = discrete_entropy(points.factors)
    factors = tqdm(points.factors.T, desc="infoe", unit="factor", delay=2, leave=False)
    gains = 1 - np.array([_log_loss(features, values) for values in factors]) / entropies
    # With uninformative latents the solver may stop slightly above the entropy.
    gains = np.clip(gains, 0, 1)
    return Result({"InfoE": float(gains.mean()), **{f"InfoE:factor_{j}": float(gain) for j, gain in enumerate(gains)}})


def _log_loss(features: NDArray[np.float64], values: NDArray[np.int64]) -> float:
    """Compute the mean negative log likelihood of values [N] under a logistic regression fitted to them."""
    from sklearn.linear_model import LogisticRegression

    # The paper's 100 steps: if a hyperplane separates the values, there is no optimum to converge to.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=np.inf, max_iter=100).fit(features, values)
        probabilities = model.predict_proba(features)
    likelihoods = probabilities[np.arange(len(values)), np.searchsorted(model.classes_, values)]
    return float(-np.mean(np.log(np.clip(likelihoods, np.finfo(np.float64).tiny, 1))))


METRIC = Metric(
    name="infoe",
    key="InfoE",
    label="InfoE",
    explanation="The share of a factor's entropy that a linear classifier on all latents removes: 1 if it predicts "
    "each value with certainty. The mean over factors.",
    compute=_compute,
    settings=infomec.settings("infoe"),
    draws=("infoe.num_train",),
    gin_name="infoe",
)


def infoe(codes: ArrayLike, factors: ArrayLike, discrete_latents: bool = False) -> float:
    """Compute InfoE of these points, without sampling; `score` samples.

    Args:
        codes: [N, num_latent], numbers.
        factors: [N, num_factors], values of any sortable kind.
        discrete_latents: treat each value of a latent as a class; for quantised codes.
    """
    return float(METRIC.of_arrays(codes, factors, discrete_latents=discrete_latents).values[METRIC.key])
