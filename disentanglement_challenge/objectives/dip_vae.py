"""DIP-VAE-I and DIP-VAE-II."""

import gin
import torch
from torch import Tensor

from disentanglement_challenge.checks import check_choice, check_number
from disentanglement_challenge.objectives.objective import Codes, Objective


@gin.configurable("dip_vae")
class DIPVAE(Objective):
    """KL + lambda_od * (squared off-diagonal covariances) + lambda_d * (squared distances of the variances from 1).

    Kumar et al., "Variational Inference of Disentangled Latent Concepts from Unlabeled Observations". Type "i", Eq. 6,
    takes the covariance of the means, Cov[mu(x)]; type "ii", Eq. 7, that of the codes, Cov[mu(x)] +
    E[diag(sigma(x)^2)]. lambda_d = lambda_d_factor * lambda_od.
    """

    def __init__(self, lambda_od: float = gin.REQUIRED, lambda_d_factor: float = gin.REQUIRED, dip_type: str = "i"):
        self.lambda_od = check_number("dip_vae.lambda_od", lambda_od, minimum=0)
        self.lambda_d = check_number("dip_vae.lambda_d_factor", lambda_d_factor, minimum=0) * lambda_od
        self.dip_type = check_choice("dip_vae.dip_type", dip_type, ("i", "ii"))

    def regularizer(self, codes: Codes) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.regularizer`; logs the penalties without their weights."""
        covariance = covariance_of(codes.z_mean)
        variances = covariance.diagonal()
        off_diagonal = (covariance - torch.diag(variances)).square().sum()
        if self.dip_type == "ii":
            variances = variances + codes.z_logvar.exp().mean(dim=0)
        diagonal = (variances - 1).square().sum()
        regularizer = codes.kl_loss + self.lambda_od * off_diagonal + self.lambda_d * diagonal
        return regularizer, {"off_diagonal": off_diagonal, "diagonal": diagonal}


def covariance_of(z_mean: Tensor) -> Tensor:
    """Return the covariance over the batch, normalised by B as in disentanglement_lib: [B, D] -> [D, D]."""
    centred = z_mean - z_mean.mean(dim=0)
    # A sum over the batch, which autocast takes for a layer as it is a matrix product.
    with torch.autocast(z_mean.device.type, enabled=False):
        return centred.T @ centred / len(z_mean)
