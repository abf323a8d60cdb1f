"""Initialise weights like tf.layers."""

import torch
from torch import nn


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of all dense and convolution layers Glorot-uniform and set the biases to zero, in place.

    These are the defaults of tf.layers, which disentanglement_lib does not change: uniform on +-sqrt(6 / (fan_in +
    fan_out)), the fans counted over the kernel's area (Glorot and Bengio, "Understanding the difficulty of training
    deep feedforward neural networks", Eq. 16). Layers are visited in the order of `module.modules()`: the same
    architecture and the same generator state give the same weights.

    Args:
        module: the module, on the generator's device.
        generator: the random generator to draw from.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
