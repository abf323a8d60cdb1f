"""AnnealedVAE."""

import gin
import torch
from torch import Tensor

from disentanglement_challenge.checks import check_number
from disentanglement_challenge.objectives.objective import Codes, Objective


@gin.configurable("annealed_vae")
class AnnealedVAE(Objective):
    """gamma * |KL - C(step)|: Burgess et al., "Understanding disentangling in beta-VAE", Eq. 8.

    The capacity C rises in a straight line from 0 to `c_max` nats over `iteration_threshold` steps and stays there.
    """

    def __init__(
        self, gamma: float = gin.REQUIRED, c_max: float = gin.REQUIRED, iteration_threshold: int = gin.REQUIRED
    ):
        self.gamma = check_number("annealed_vae.gamma", gamma, minimum=0)
        self.c_max = check_number("annealed_vae.c_max", c_max, minimum=0)
        self.iteration_threshold = check_number("annealed_vae.iteration_threshold", iteration_threshold, above=0)

    def regularizer(self, codes: Codes) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.regularizer`; logs the capacity."""
        kl_loss = codes.kl_loss
        step = torch.as_tensor(codes.step, dtype=kl_loss.dtype, device=kl_loss.device)
        capacity = self.c_max * (step / self.iteration_threshold).clamp(max=1)
        return self.gamma * (kl_loss - capacity).abs(), {"capacity": capacity}
