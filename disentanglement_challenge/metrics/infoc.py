"""InfoC, compactness from mutual information (Hsu et al., "Disentanglement via Latent Quantization", section 4).

https://arxiv.org/abs/2305.18378
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.metrics import infomec
from disentanglement_challenge.metrics.metric import Metric, Result


def _compute(points: Points, discrete_latents: bool, n_neighbors: int) -> Result:
    active = infomec.active_latents(points.codes)
    if np.count_nonzero(active) == 1:
        raise RepresentationError(
            "only one latent has a range above a twentieth of the largest; InfoC compares at least two"
        )
    information = infomec.normalised_information(points.codes, points.factors, discrete_latents, n_neighbors)
    values = {"InfoC": infomec.mean_largest_share(information[active].T), "num_active": int(np.count_nonzero(active))}
    return Result(values, information)


METRIC = Metric(
    name="infoc",
    key="InfoC",
    label="InfoC",
    explanation="Mutual information between latent and factor as a share of the factor's entropy. The score is high if "
    "only one active latent has information about each factor; 0 is chance.",
    compute=_compute,
    settings={**infomec.settings("infoc"), **infomec.neighbors("infoc")},
    draws=("infoc.num_train",),
    gin_name="infoc",
    missing=0.0,
)


def infoc(codes: ArrayLike, factors: ArrayLike, **settings: Any) -> float:
    """Compute InfoC of these points, without sampling; `score` samples.

    Args:
        codes: [N, num_latent], numbers.
        factors: [N, num_factors], values of any sortable kind.
        **settings: discrete_latents (for quantised codes) and n_neighbors.
    """
    return float(METRIC.of_arrays(codes, factors, **settings).values[METRIC.key])
