"""What the architectures are made of: named activations, scaled sizes, checked image sizes, the residual block."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from disentanglement_challenge.checks import check_choice, check_number
from disentanglement_challenge.errors import ConfigError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    # 0.2 is TensorFlow's default slope, and so disentanglement_lib's; PyTorch's is 0.01.
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
    "elu": nn.ELU,
}


def activation_layer(name: str) -> nn.Module:
    """A new activation layer of one of the names in `ACTIVATIONS`.

    Raises:
        ConfigError: another name.
    """
    return ACTIVATIONS[check_choice("activation", name, ACTIVATIONS)]()


def scaled(count: int, width: float) -> int:
    """The number of channels or units that disentanglement_lib gives as `count`, multiplied by `width`.

    Raises:
        ConfigError: a width that is not a positive number, or that leaves no unit.
    """
    units = round(count * check_number("width", width, above=0))
    if units < 1:
        raise ConfigError(f"width {width} leaves nothing of a layer of {count} units")
    return units


def bottom_size(architecture: str, observation_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width of an image after the four stride-two stages that every convolutional architecture here has.

    TensorFlow's "same" padding is the same on both sides only while every stage's input is even, hence multiples of 16.

    Args:
        architecture: the name to use in the error.
        observation_shape: (channels, height, width).

    Raises:
        ConfigError: sides that are no multiples of 16.
    """
    _, height, width = observation_shape
    if height < 16 or width < 16 or height % 16 or width % 16:
        raise ConfigError(f"{architecture} takes images whose sides are multiples of 16, not {height}x{width}")
    return height // 16, width // 16


class ResidualBlock(nn.Module):
    """x + gain * conv(activation(conv(x))), with 3x3 kernels and no normalisation.

    The gain is learned and starts at zero, so that a block starts as the identity and a deep network trains from the
    start without normalisation (SkipInit: De and Smith, "Batch Normalization Biases Residual Blocks Towards the
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
        """[B, channels, H, W] -> [B, channels, H, W]."""
        return features + self.gain * self.branch(features)
