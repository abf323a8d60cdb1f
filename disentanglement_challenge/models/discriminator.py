"""Discriminators for FactorVAE tell codes of the aggregate posterior from codes with independently permuted latents.

A discriminator function takes num_latent and returns a module from codes [B, D] to logits [B, 2], the first for "drawn
from q(z)", the second for "permuted". To add one, register it with gin and bind `discriminator.discriminator_fn`.
"""

import gin
from torch import nn

from disentanglement_challenge.models.layers import activation_layer, scaled


@gin.configurable("fc_discriminator", denylist=["num_latent"])
def fc_discriminator(num_latent: int, activation: str = "leaky_relu", width: float = 1) -> nn.Module:
    """Build disentanglement_lib's fc_discriminator, six layers of 1000: FactorVAE, Kim and Mnih 2018, appendix A.

    Args:
        num_latent: the number of latents D.
        activation: of the hidden layers, one of `layers.ACTIVATIONS`.
        width: multiplies the number of units of every hidden layer.

    Raises:
        ConfigError: an invalid activation or width.
    """
    units = scaled(1000, width)
    layers = nn.Sequential()
    for inputs in [num_latent] + [units] * 5:
        layers.extend([nn.Linear(inputs, units), activation_layer(activation)])
    return layers.append(nn.Linear(units, 2))
