"""BottleneckVAE."""

import gin
from torch import Tensor

from disentanglement_challenge.objectives.objective import Codes, Objective, non_negative


@gin.configurable("bottleneck_vae")
class BottleneckVAE(Objective):
    """gamma * |KL - target|: the challenge starter kit's example, an AnnealedVAE whose capacity never moves."""

    def __init__(self, gamma: float = gin.REQUIRED, target: float = gin.REQUIRED):
        self.gamma = non_negative("bottleneck_vae.gamma", gamma)
        self.target = non_negative("bottleneck_vae.target", target)

    def regularizer(self, codes: Codes) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.regularizer`."""
        return self.gamma * (codes.kl_loss - self.target).abs(), {}
