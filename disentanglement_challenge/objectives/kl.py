"""The KL divergence from the prior, which all objectives use."""

import torch
from torch import Tensor


def gaussian_kl(z_mean: Tensor, z_logvar: Tensor) -> Tensor:
    """Return KL(N(z_mean, exp(z_logvar)) || N(0, 1)), summed over latents: Kingma and Welling 2014, appendix B.

    Args:
        z_mean: [B, D].
        z_logvar: [B, D].

    Returns:
        [B], each at least 0 up to rounding.
    """
    return gaussian_kl_per_latent(z_mean, z_logvar).sum(dim=1)


def gaussian_kl_per_latent(z_mean: Tensor, z_logvar: Tensor) -> Tensor:
    """Return the terms of `gaussian_kl`, one for each latent: [B, D]."""
    return 0.5 * (z_mean.square() + torch.exp(z_logvar) - z_logvar - 1)
