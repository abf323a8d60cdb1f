"""beta-VAE."""

import gin
from torch import Tensor

from disentanglement_challenge.checks import check_number
from disentanglement_challenge.objectives.objective import Codes, Objective


@gin.configurable("vae")
class BetaVAE(Objective):
    """beta * KL.

    Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", Eq. 4. With
    beta = 1 this is the plain VAE, hence disentanglement_lib's name for it.
    """

    def __init__(self, beta: float = gin.REQUIRED):
        self.beta = check_number("vae.beta", beta, minimum=0)

    def regularizer(self, codes: Codes) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.regularizer`."""
        return self.beta * codes.kl_loss, {}
