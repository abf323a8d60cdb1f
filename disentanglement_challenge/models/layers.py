"""Building blocks of the architectures: activations, layer sizes, image sizes and the residual block."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from disentanglement_challenge.checks import LARGEST_COUNT, check_choice, check_number
from disentanglement_challenge.errors import ConfigError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    # 0.2 is TensorFlow's default slope, and so disentanglement_lib's; PyTorch's is 0.01.
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
    "elu": nn.ELU,
}


def activation_layer(name: str) -> nn.Module:
    """Return a new activation layer with this name of `ACTIVATIONS`.

    Raises:
        ConfigError: the name is unknown.
    """
    return ACTIVATIONS[check_choice("activation", name, ACTIVATIONS)]()


def scaled(count: int, width: float) -> int:
    """Multiply disentanglement_lib's number of channels or units by `width`, and round it.

    Raises:
        ConfigError: the width is not a positive number, or beyond all layers, or the result is 0.
    """
    units = round(count * check_number("width", width, above=0, maximum=LARGEST_COUNT))
    if units < 1:
        raise ConfigError(f"width {width} scales a layer of {count} units to 0 units; use a larger width")
    return units


def bottom_size(architecture: str, input_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the height and width of an image after the four stride-two stages of the convolutional architectures.

    TensorFlow's "same" padding is symmetric only if the input of every stage has even sides, hence multiples of 16.

    Args:
        architecture: the name for the error text.
        input_shape: (channels, height, width).

    Raises:
        ConfigError: the sides are not multiples of 16.
    """
    _, height, width = input_shape
    if height < 16 or width < 16 or height % 16 or width % 16:
        raise ConfigError(f"{architecture} got images of {height}x{width}; both sides must be multiples of 16")
    return height // 16, width // 16


class ResidualBlock(nn.Module):
    """x + gain * conv(activation(conv(x))), with 3x3 kernels and no normalisation.

    The gain is learned and starts at zero. So a block starts as the identity, and a deep network trains without
    normalisation (SkipInit: De and Smith, "Batch Normalization Biases Residual Blocks Towards the
    Identity Function in Deep Networks").
    """

    def __init__(self, channels: int, activation: str):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            activation_layer(activation),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Apply the block to features [B, channels, H, W]; return the same shape."""
        return features + self.gain * self.branch(features)
