"""The variational autoencoder and the gin-configured builders of its parts, under disentanglement_lib's names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gin
import torch
from torch import Tensor, nn

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.errors import ConfigError, lines_of
from disentanglement_challenge.models.initialisation import initialise

InputShape = tuple[int, int, int]


class VAE(nn.Module):
    """An encoder and a decoder that share a latent space of `num_latent` dimensions."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, num_latent: int):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.num_latent = num_latent

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images [B, C, H, W], float32 in [0, 1]; return (z_mean [B, D], z_logvar [B, D])."""
        return self.encoder(images)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes [B, D]; return logits [B, C, H, W]."""
        return self.decoder(codes)


class MeanEncoder(nn.Module):
    """The representation that is exported and scored: the encoder's mean, as in disentanglement_lib's mean.gin."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Encode images [B, C, H, W], float32 in [0, 1]; return z_mean [B, D]."""
        z_mean, _ = self.encoder(images)
        return z_mean


def sample_from_latent_distribution(z_mean: Tensor, z_logvar: Tensor, noise: Tensor) -> Tensor:
    """Return z_mean + exp(z_logvar / 2) * noise: Kingma and Welling, "Auto-Encoding Variational Bayes", section 2.4.

    Args:
        z_mean: [B, D].
        z_logvar: [B, D].
        noise: [B, D], from the standard normal distribution.

    Returns:
        [B, D], differentiable in the first two.
    """
    return z_mean + torch.exp(z_logvar / 2) * noise


@gin.configurable("encoder", denylist=["input_shape"])
def make_gaussian_encoder(
    input_shape: InputShape,
    num_latent: int = gin.REQUIRED,
    encoder_fn: Callable[[InputShape, int], nn.Module] = gin.REQUIRED,
) -> nn.Module:
    """Build the encoder of gin's `encoder` bindings.

    Args:
        input_shape: (channels, height, width).
        num_latent: the number of latents D.
        encoder_fn: see `encoders`.

    Raises:
        ConfigError: num_latent is not a positive integer, or encoder_fn raises it.
    """
    check_count("encoder.num_latent", num_latent)
    return encoder_fn(input_shape, num_latent)


@gin.configurable("decoder", denylist=["input_shape", "num_latent"])
def make_decoder(
    input_shape: InputShape,
    num_latent: int,
    decoder_fn: Callable[[InputShape, int], nn.Module] = gin.REQUIRED,
) -> nn.Module:
    """Build the decoder of gin's `decoder` bindings.

    Args:
        input_shape: (channels, height, width).
        num_latent: the number of latents D of the encoder.
        decoder_fn: see `decoders`.

    Raises:
        ConfigError: what decoder_fn raises.
    """
    return decoder_fn(input_shape, num_latent)


@gin.configurable("discriminator", denylist=["num_latent"])
def make_discriminator(num_latent: int, discriminator_fn: Callable[[int], nn.Module] = gin.REQUIRED) -> nn.Module:
    """Build the discriminator of gin's `discriminator` bindings.

    Args:
        num_latent: the number of latents D of the encoder.
        discriminator_fn: see `discriminator`.

    Raises:
        ConfigError: what discriminator_fn raises.
    """
    return discriminator_fn(num_latent)


def make_vae(input_shape: InputShape, generator: torch.Generator) -> VAE:
    """Build the VAE of gin's `encoder` and `decoder` bindings on the CPU, with weights drawn from the generator.

    Args:
        input_shape: (channels, height, width).
        generator: on the CPU; its state decides the weights.

    Raises:
        ConfigError: an input shape that is not three positive integers, or an architecture that cannot be built.
    """
    if len(input_shape) != 3:
        raise ConfigError(f"input_shape is {input_shape!r}; it is (channels, height, width)")
    for size in input_shape:
        check_count(f"a side of input_shape {tuple(input_shape)}", size)
    encoder = make_gaussian_encoder(input_shape)
    # num_latent belongs to gin's `encoder` alone, so the decoder's is read off the codes, as in disentanglement_lib.
    with _tried("encoder.encoder_fn", encoder):
        z_mean, _ = encoder(torch.zeros(1, *input_shape))
        num_latent = z_mean.shape[1]
    decoder = make_decoder(input_shape, num_latent)
    with _tried("decoder.decoder_fn", decoder):
        shape = tuple(decoder(z_mean).shape)
    if shape != (1, *input_shape):
        raise ConfigError(f"decoder.decoder_fn makes a network that gives {shape}, not {(1, *input_shape)}")
    vae = VAE(encoder, decoder, num_latent)
    initialise(vae, generator)
    return vae


@contextmanager
def _tried(name: str, network: nn.Module) -> Iterator[None]:
    """Try a new network in the block; raise ConfigError with this name if that fails."""
    try:
        network.eval()
        with torch.no_grad():
            yield
        network.train()
    except Exception as error:  # It may be somebody's own code, and raise anything.
        raise ConfigError(f"{name} makes a network that does not fit its place: {lines_of(error)[0]}") from error
