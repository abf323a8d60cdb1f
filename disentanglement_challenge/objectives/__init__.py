"""Objectives: the VAEs of the report's Table 4, one in each file, with the interface of `objective`."""

from disentanglement_challenge.objectives.annealed_vae import AnnealedVAE
from disentanglement_challenge.objectives.beta_tc_vae import BetaTCVAE
from disentanglement_challenge.objectives.beta_vae import BetaVAE
from disentanglement_challenge.objectives.bottleneck_vae import BottleneckVAE
from disentanglement_challenge.objectives.dip_vae import DIPVAE
from disentanglement_challenge.objectives.factor_vae import FactorVAE
from disentanglement_challenge.objectives.kl import gaussian_kl, gaussian_kl_per_latent
from disentanglement_challenge.objectives.objective import Codes, Objective, Regularization
from disentanglement_challenge.objectives.reconstruction import make_reconstruction_loss, to_intensities

__all__ = [
    "DIPVAE",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "BottleneckVAE",
    "Codes",
    "FactorVAE",
    "Objective",
    "Regularization",
    "gaussian_kl",
    "gaussian_kl_per_latent",
    "make_reconstruction_loss",
    "to_intensities",
]
