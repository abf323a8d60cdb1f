"""Encoders map images to the mean and log variance of a Gaussian with independent latents.

An encoder function takes (input_shape, num_latent) and returns a module from images [B, C, H, W], float32 in
[0, 1], to (z_mean [B, D], z_logvar [B, D]). To add one, write such a function, register it with gin and bind
`encoder.encoder_fn`.

Features are flattened channels first here and channels last in disentanglement_lib, so the weights of the next dense
layer are in a different order.
"""

import math

import gin
from torch import Tensor, nn

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.models.layers import (
    ResidualBlock,
    activation_layer,
    bottom_size,
    scaled,
)


class GaussianEncoder(nn.Module):
    """Hidden layers [B, C, H, W] -> [B, hidden_units] with two dense layers on top, for the means and log variances."""

    def __init__(self, hidden: nn.Module, hidden_units: int, num_latent: int):
        super().__init__()
        self.hidden = hidden
        self.z_mean = nn.Linear(hidden_units, num_latent)
        self.z_logvar = nn.Linear(hidden_units, num_latent)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images [B, C, H, W]; return (z_mean [B, D], z_logvar [B, D])."""
        features = self.hidden(images)
        return self.z_mean(features), self.z_logvar(features)


@gin.configurable("conv_encoder", denylist=["input_shape", "num_latent"])
def conv_encoder(
    input_shape: tuple[int, int, int], num_latent: int, activation: str = "relu", width: float = 1
) -> GaussianEncoder:
    """Build disentanglement_lib's conv_encoder: beta-VAE, Higgins et al. 2017, table 1, row 3.

    Args:
        input_shape: (channels, height, width), the sides multiples of 16.
        num_latent: the number of latents D.
        activation: of the hidden layers, one of `layers.ACTIVATIONS`.
        width: multiplies the number of channels and units of every hidden layer.

    Raises:
        ConfigError: invalid image sides, activation or width.
    """
    height, breadth = bottom_size("conv_encoder", input_shape)
    narrow, wide, units = scaled(32, width), scaled(64, width), scaled(256, width)
    hidden = nn.Sequential(
        nn.Conv2d(input_shape[0], narrow, kernel_size=4, stride=2, padding=1),
        activation_layer(activation),
        nn.Conv2d(narrow, narrow, kernel_size=4, stride=2, padding=1),
        activation_layer(activation),
        nn.Conv2d(narrow, wide, kernel_size=2, stride=2),
        activation_layer(activation),
        nn.Conv2d(wide, wide, kernel_size=2, stride=2),
        activation_layer(activation),
        nn.Flatten(),
        nn.Linear(wide * height * breadth, units),
        activation_layer(activation),
    )
    return GaussianEncoder(hidden, units, num_latent)


@gin.configurable("fc_encoder", denylist=["input_shape", "num_latent"])
def fc_encoder(
    input_shape: tuple[int, int, int], num_latent: int, activation: str = "relu", width: float = 1
) -> GaussianEncoder:
    """Build disentanglement_lib's fc_encoder: beta-VAE, Higgins et al. 2017, table 1, row 1.

    Images may have any size. Args and errors are those of `conv_encoder`.
    """
    units = scaled(1200, width)
    hidden = nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(input_shape), units),
        activation_layer(activation),
        nn.Linear(units, units),
        activation_layer(activation),
    )
    return GaussianEncoder(hidden, units, num_latent)


@gin.configurable("residual_encoder", denylist=["input_shape", "num_latent"])
def residual_encoder(
    input_shape: tuple[int, int, int],
    num_latent: int,
    activation: str = "leaky_relu",
    base_channels: int = 64,
    blocks_per_stage: int = 1,
) -> GaussianEncoder:
    """Build an encoder with more capacity than conv_encoder, from stride-two convolutions and residual blocks.

    Each of four stages is a 4x4 stride-two convolution followed by `blocks_per_stage` residual blocks. The stages have
    1, 2, 4 and 4 times `base_channels` channels; a dense layer of 16 times `base_channels` follows.

    Args:
        input_shape: (channels, height, width), the sides multiples of 16.
        num_latent: the number of latents D.
        activation: of the hidden layers, one of `layers.ACTIVATIONS`.
        base_channels: the channels of the first stage.
        blocks_per_stage: the number of residual blocks in each stage.

    Raises:
        ConfigError: invalid image sides, activation or sizes.
    """
    check_count("residual_encoder.base_channels", base_channels)
    check_count("residual_encoder.blocks_per_stage", blocks_per_stage)
    height, breadth = bottom_size("residual_encoder", input_shape)
    hidden, channels = nn.Sequential(), input_shape[0]
    for factor in (1, 2, 4, 4):
        hidden.append(nn.Conv2d(channels, factor * base_channels, kernel_size=4, stride=2, padding=1))
        hidden.append(activation_layer(activation))
        channels = factor * base_channels
        hidden.extend([ResidualBlock(channels, activation) for _ in range(blocks_per_stage)])
    units = 16 * base_channels
    hidden.extend([nn.Flatten(), nn.Linear(channels * height * breadth, units), activation_layer(activation)])
    return GaussianEncoder(hidden, units, num_latent)
