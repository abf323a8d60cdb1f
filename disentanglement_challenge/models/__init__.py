"""Encoders, decoders and the discriminator, each configurable with gin under disentanglement_lib's names."""

from disentanglement_challenge.models import decoders, discriminator, encoders
from disentanglement_challenge.models.initialisation import initialise
from disentanglement_challenge.models.vae import (
    VAE,
    MeanEncoder,
    make_decoder,
    make_discriminator,
    make_gaussian_encoder,
    make_vae,
    sample_from_latent_distribution,
)

__all__ = [
    "VAE",
    "MeanEncoder",
    "decoders",
    "discriminator",
    "encoders",
    "initialise",
    "make_decoder",
    "make_discriminator",
    "make_gaussian_encoder",
    "make_vae",
    "sample_from_latent_distribution",
]
