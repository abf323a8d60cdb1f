"""Decoders map codes to images.

A decoder function takes (input_shape, num_latent) and returns a module from codes [B, D] to logits [B, C, H, W];
the reconstruction loss converts logits to intensities. To add one, write such a function, register it with gin and bind
`decoder.decoder_fn`.
"""

import math

import gin
from torch import nn

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.models.layers import (
    ResidualBlock,
    activation_layer,
    bottom_size,
    scaled,
)


@gin.configurable("deconv_decoder", denylist=["input_shape", "num_latent"])
def deconv_decoder(
    input_shape: tuple[int, int, int], num_latent: int, activation: str = "relu", width: float = 1
) -> nn.Module:
    """Build disentanglement_lib's deconv_decoder: beta-VAE, Higgins et al. 2017, table 1, row 3.

    Args:
        input_shape: (channels, height, width), the sides multiples of 16.
        num_latent: the number of latents D.
        activation: of the hidden layers, one of `layers.ACTIVATIONS`.
        width: multiplies the number of channels and units of every hidden layer.

    Raises:
        ConfigError: invalid image sides, activation or width.
    """
    height, breadth = bottom_size("deconv_decoder", input_shape)
    narrow, wide, units = scaled(32, width), scaled(64, width), scaled(256, width)
    return nn.Sequential(
        nn.Linear(num_latent, units),
        activation_layer(activation),
        nn.Linear(units, wide * height * breadth),
        activation_layer(activation),
        nn.Unflatten(1, (wide, height, breadth)),
        nn.ConvTranspose2d(wide, wide, kernel_size=4, stride=2, padding=1),
        activation_layer(activation),
        nn.ConvTranspose2d(wide, narrow, kernel_size=4, stride=2, padding=1),
        activation_layer(activation),
        nn.ConvTranspose2d(narrow, narrow, kernel_size=4, stride=2, padding=1),
        activation_layer(activation),
        nn.ConvTranspose2d(narrow, input_shape[0], kernel_size=4, stride=2, padding=1),
    )


@gin.configurable("fc_decoder", denylist=["input_shape", "num_latent"])
def fc_decoder(
    input_shape: tuple[int, int, int], num_latent: int, activation: str = "tanh", width: float = 1
) -> nn.Module:
    """Build disentanglement_lib's fc_decoder: beta-VAE, Higgins et al. 2017, table 1, row 1.

    Images may have any size. Args and errors are those of `deconv_decoder`.
    """
    units = scaled(1200, width)
    return nn.Sequential(
        nn.Linear(num_latent, units),
        activation_layer(activation),
        nn.Linear(units, units),
        activation_layer(activation),
        nn.Linear(units, units),
        activation_layer(activation),
        nn.Linear(units, math.prod(input_shape)),
        nn.Unflatten(1, tuple(input_shape)),
    )


@gin.configurable("residual_decoder", denylist=["input_shape", "num_latent"])
def residual_decoder(
    input_shape: tuple[int, int, int],
    num_latent: int,
    activation: str = "leaky_relu",
    base_channels: int = 64,
    blocks_per_stage: int = 1,
) -> nn.Module:
    """Build the reverse of residual_encoder: four stages of residual blocks and a stride-two transposed convolution.

    The kernels of the transposed convolutions are 4x4.

    Args:
        input_shape: (channels, height, width), the sides multiples of 16.
        num_latent: the number of latents D.
        activation: of the hidden layers, one of `layers.ACTIVATIONS`.
        base_channels: the channels of the last stage's blocks; the earlier stages have 4, 4 and 2 times as many.
        blocks_per_stage: the number of residual blocks in each stage.

    Raises:
        ConfigError: invalid image sides, activation or sizes.
    """
    check_count("residual_decoder.base_channels", base_channels)
    check_count("residual_decoder.blocks_per_stage", blocks_per_stage)
    height, breadth = bottom_size("residual_decoder", input_shape)
    channels, units = [factor * base_channels for factor in (4, 4, 2, 1)], 16 * base_channels
    layers = nn.Sequential(
        nn.Linear(num_latent, units),
        activation_layer(activation),
        nn.Linear(units, channels[0] * height * breadth),
        nn.Unflatten(1, (channels[0], height, breadth)),
    )
    for inward, outward in zip(channels, [*channels[1:], input_shape[0]], strict=True):
        layers.append(activation_layer(activation))
        layers.extend([ResidualBlock(inward, activation) for _ in range(blocks_per_stage)])
        layers.append(nn.ConvTranspose2d(inward, outward, kernel_size=4, stride=2, padding=1))
    return layers
