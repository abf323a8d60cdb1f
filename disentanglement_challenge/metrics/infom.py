"""InfoM, modularity from mutual information (Hsu et al., "Disentanglement via Latent Quantization", section 4).

https://arxiv.org/abs/2305.18378
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics import infomec
from disentanglement_challenge.metrics.metric import Metric, Result


def _compute(points: Points, discrete_latents: bool, n_neighbors: int) -> Result:
    if points.factors.shape[1] == 1:
        raise DataError("there is one factor; InfoM compares at least two")
    information = infomec.normalised_information(points.codes, points.factors, discrete_latents, n_neighbors)
    active = infomec.active_latents(points.codes)
    values = {"InfoM": infomec.mean_largest_share(information[active]), "num_active": int(np.count_nonzero(active))}
    return Result(values, information)


METRIC = Metric(
    name="infom",
    key="InfoM",
    label="InfoM",
    explanation="Mutual information between latent and factor as a share of the factor's entropy. The score is high "
    "if each active latent has information about only one factor; 0 is chance.",
    compute=_compute,
    settings={**infomec.settings("infom"), **infomec.neighbors("infom")},
    draws=("infom.num_train",),
    gin_name="infom",
    missing=0.0,
)


def infom(codes: ArrayLike, factors: ArrayLike, **settings: Any) -> float:
    """Compute InfoM of these points, without sampling; `score` samples.

    Args:
        codes: [N, num_latent], numbers.
        factors: [N, num_factors], values of any sortable kind; at least two factors.
        **settings: discrete_latents (for quantised codes) and n_neighbors.
    """
    return float(METRIC.of_arrays(codes, factors, **settings).values[METRIC.key])
