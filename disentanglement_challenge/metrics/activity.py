"""Active latents: those that vary with the image (Burda et al., "Importance Weighted Autoencoders", section 5.3).

https://arxiv.org/abs/1509.00519
"""

import numpy as np

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.metrics.metric import Metric, Result, Setting, count


def _compute(points: Points, threshold: float) -> Result:
    with np.errstate(over="ignore", invalid="ignore"):
        variances = points.codes.var(axis=0, dtype=np.float64)
    return Result({"num_active": int((variances > threshold).sum()), "activity": variances})


METRIC = Metric(
    name="activity",
    key="num_active",
    label="active latents",
    explanation="The number of latents whose mean has a variance over images above a threshold.",
    compute=_compute,
    settings={
        "activity.num_train": count(10000),
        "activity.batch_size": count(16),
        "activity.threshold": Setting(0.01),  # the paper's
    },
    draws=("activity.num_train",),
    bounds=(0.0, float("inf")),
    gin_name="activity",
    every_latent=True,
    codes_alone=True,
)
