"""beta-TCVAE."""

import math

import gin
import torch
from torch import Tensor

from disentanglement_challenge.checks import check_number
from disentanglement_challenge.objectives.objective import Codes, Objective


@gin.configurable("beta_tc_vae")
class BetaTCVAE(Objective):
    """KL + (beta - 1) * TC.

    Chen et al., "Isolating Sources of Disentanglement in Variational Autoencoders", Eq. 4 with alpha = gamma = 1.
    """

    def __init__(self, beta: float = gin.REQUIRED):
        self.beta = check_number("beta_tc_vae.beta", beta, minimum=0)

    def regularizer(self, codes: Codes) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.regularizer`; logs the total correlation."""
        tc = total_correlation(codes.z_sampled, codes.z_mean, codes.z_logvar)
        return codes.kl_loss + (self.beta - 1) * tc, {"total_correlation": tc + left_out(codes)}

    def constant(self, codes: Codes) -> float:
        """See `Objective.constant`: with it the logged loss is not below the reconstruction loss."""
        return (self.beta - 1) * left_out(codes)


def left_out(codes: Codes) -> float:
    """Return (D - 1) * log(batch_size * dataset_size), which `total_correlation` omits; 0 for an unknown dataset_size.

    Chen et al., appendix C.1: each density of minibatch-weighted sampling is divided by batch_size * dataset_size.
    """
    batch_size, num_latent = codes.z_mean.shape
    return 0.0 if codes.num_images is None else (num_latent - 1) * math.log(batch_size * codes.num_images)


def total_correlation(z_sampled: Tensor, z_mean: Tensor, z_logvar: Tensor) -> Tensor:
    """Estimate KL(q(z) || prod_l q(z_l)) on the batch, up to a constant: disentanglement_lib's total_correlation.

    q(z) is taken as the mixture of the batch's own posteriors (the paper's minibatch-weighted sampling). The left-out
    constant, (D - 1) * log(batch_size * dataset_size), has no gradient.

    Args:
        z_sampled, z_mean, z_logvar: [B, D].

    Returns:
        A scalar.
    """
    distance = z_sampled[:, None, :] - z_mean[None, :, :]  # [B samples, B posteriors, D]
    log_density = -0.5 * (distance.square() * torch.exp(-z_logvar) + z_logvar + math.log(2 * math.pi))
    log_joint = log_density.sum(dim=2).logsumexp(dim=1)  # [B]
    log_product = log_density.logsumexp(dim=1).sum(dim=1)  # [B]
    return (log_joint - log_product).mean()
