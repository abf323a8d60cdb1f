"""BottleneckVAE."""

import gin
from torch import Tensor

from disentanglement_challenge.checks import check_number
from disentanglement_challenge.objectives.objective import Codes, Objective


@gin.configurable("bottleneck_vae")
class BottleneckVAE(Objective):
    """gamma * |KL - target|: the challenge starter kit's example, an AnnealedVAE with constant capacity."""

    def __init__(self, gamma: float = gin.REQUIRED, target: float = gin.REQUIRED):
        self.gamma = check_number("bottleneck_vae.gamma", gamma, minimum=0)
        self.target = check_number("bottleneck_vae.target", target, minimum=0)

    def regularizer(self, codes: Codes) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.regularizer`."""
        return self.gamma * (codes.kl_loss - self.target).abs(), {}


@gin.configurable("BottleneckVAE")
class KitBottleneckVAE(BottleneckVAE):
    """BottleneckVAE under its name in the starter kit's gin files."""

    def __init__(self, gamma: float = gin.REQUIRED, target: float = gin.REQUIRED):
        super().__init__(gamma, target)
