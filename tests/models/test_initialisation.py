import math

import pytest
import torch
from torch import nn

from disentanglement_challenge.models import initialise
from disentanglement_challenge.models.decoders import deconv_decoder
from disentanglement_challenge.models.discriminator import fc_discriminator
from disentanglement_challenge.models.encoders import conv_encoder


@pytest.mark.parametrize("build", [conv_encoder, deconv_decoder, lambda _, num_latent: fc_discriminator(num_latent)])
def test_weights_fill_the_glorot_range_evenly_and_biases_are_zero(build):
    module = build((3, 64, 64), 10)
    initialise(module, torch.Generator().manual_seed(0))
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            weight = layer.weight.detach()
            area = weight[0, 0].numel() if weight.dim() == 4 else 1
            bound = math.sqrt(6 / (area * (weight.shape[0] + weight.shape[1])))
            assert weight.abs().max() <= bound
            assert not layer.bias.any()
            # A uniform variable on +-bound has variance bound^2 / 3 and mean 0; five standard errors of each.
            count = weight.numel()
            assert abs(weight.mean()) < 5 * bound / math.sqrt(3 * count)
            assert abs(weight.var() / (bound**2 / 3) - 1) < 5 * math.sqrt(0.8 / count)


def test_the_seed_decides_the_weights_and_the_global_generator_does_not():
    def weights(global_seed, seed):
        torch.manual_seed(global_seed)
        module = conv_encoder((1, 64, 64), 4)
        initialise(module, torch.Generator().manual_seed(seed))
        return nn.utils.parameters_to_vector(module.parameters())

    assert torch.equal(weights(0, seed=3), weights(1, seed=3))
    assert not torch.equal(weights(0, seed=3), weights(0, seed=4))
