import pytest
import torch
from messages import facts
from torch import nn

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.models import make_gaussian_encoder
from disentanglement_challenge.models.decoders import deconv_decoder, fc_decoder, residual_decoder
from disentanglement_challenge.models.discriminator import fc_discriminator
from disentanglement_challenge.models.encoders import conv_encoder, fc_encoder, residual_encoder
from disentanglement_challenge.models.layers import activation_layer

ENCODERS = [conv_encoder, fc_encoder, residual_encoder]
DECODERS = [deconv_decoder, fc_decoder, residual_decoder]


def number_of_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def convolution(area, inputs, outputs):
    return area * inputs * outputs + outputs


def dense(inputs, outputs):
    return inputs * outputs + outputs


# Layer by layer from the sizes in disentanglement_lib's architectures.py, for ten latents.
EXPECTED = {
    conv_encoder: lambda channels: (
        convolution(16, channels, 32) + convolution(16, 32, 32) + convolution(4, 32, 64) + convolution(4, 64, 64)
        + dense(4 * 4 * 64, 256) + 2 * dense(256, 10)
    ),
    deconv_decoder: lambda channels: (
        dense(10, 256) + dense(256, 1024)
        + convolution(16, 64, 64) + convolution(16, 64, 32) + convolution(16, 32, 32) + convolution(16, 32, channels)
    ),
    fc_encoder: lambda channels: dense(4096 * channels, 1200) + dense(1200, 1200) + 2 * dense(1200, 10),
    fc_decoder: lambda channels: dense(10, 1200) + 2 * dense(1200, 1200) + dense(1200, 4096 * channels),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("architecture", EXPECTED)
def test_the_library_s_architectures_have_the_library_s_parameter_counts(architecture, channels):
    assert number_of_parameters(architecture((channels, 64, 64), 10)) == EXPECTED[architecture](channels)


def test_the_discriminator_has_six_hidden_layers_of_a_thousand_units_and_two_logits():
    discriminator = fc_discriminator(10)
    sizes = [(layer.in_features, layer.out_features) for layer in discriminator if isinstance(layer, nn.Linear)]
    assert sizes == [(10, 1000)] + [(1000, 1000)] * 5 + [(1000, 2)]
    slopes = [layer.negative_slope for layer in discriminator if isinstance(layer, nn.LeakyReLU)]
    assert slopes == [0.2] * 6


@pytest.mark.parametrize("blocks", [1, 2])
def test_residual_parameter_counts(blocks):
    def block(channels):
        return blocks * (2 * convolution(9, channels, channels) + 1)

    encoder = residual_encoder((3, 64, 64), 10, base_channels=8, blocks_per_stage=blocks)
    assert number_of_parameters(encoder) == (
        convolution(16, 3, 8) + block(8) + convolution(16, 8, 16) + block(16) + convolution(16, 16, 32) + block(32)
        + convolution(16, 32, 32) + block(32) + dense(4 * 4 * 32, 128) + 2 * dense(128, 10)
    )  # fmt: skip
    decoder = residual_decoder((3, 64, 64), 10, base_channels=8, blocks_per_stage=blocks)
    assert number_of_parameters(decoder) == (
        dense(10, 128) + dense(128, 4 * 4 * 32) + block(32) + convolution(16, 32, 32) + block(32)
        + convolution(16, 32, 16) + block(16) + convolution(16, 16, 8) + block(8) + convolution(16, 8, 3)
    )  # fmt: skip


@pytest.mark.parametrize("num_latent", [1, 10, 3072])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoder_fn", ENCODERS)
def test_encoder_shapes(encoder_fn, channels, num_latent):
    z_mean, z_logvar = encoder_fn((channels, 64, 64), num_latent)(torch.rand(2, channels, 64, 64))
    assert z_mean.shape == z_logvar.shape == (2, num_latent)


@pytest.mark.parametrize("num_latent", [1, 10, 3072])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("decoder_fn", DECODERS)
def test_decoder_shapes(decoder_fn, channels, num_latent):
    assert decoder_fn((channels, 64, 64), num_latent)(torch.randn(2, num_latent)).shape == (2, channels, 64, 64)


@pytest.mark.parametrize("num_latent", [1, 3072])
def test_discriminator_shape(num_latent):
    assert fc_discriminator(num_latent)(torch.randn(5, num_latent)).shape == (5, 2)


@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
@pytest.mark.parametrize(
    ("module", "example"),
    [(encoder_fn((3, 64, 64), 4), torch.rand(7, 3, 64, 64)) for encoder_fn in ENCODERS]
    + [(decoder_fn((3, 64, 64), 4), torch.randn(7, 4)) for decoder_fn in DECODERS]
    + [(fc_discriminator(4), torch.randn(7, 4))],
)
@torch.no_grad()
def test_traced_with_one_batch_size_works_for_others(module, example):
    traced = torch.jit.trace(module, example[:1])
    for batch_size in (1, 2, 7):
        torch.testing.assert_close(traced(example[:batch_size]), module(example[:batch_size]))


@torch.no_grad()
def test_a_residual_block_starts_as_the_identity():
    encoder, deeper = (residual_encoder((1, 64, 64), 4, base_channels=4, blocks_per_stage=n) for n in (1, 3))
    blocks = [layer for layer in deeper.hidden if hasattr(layer, "branch")]
    features = torch.randn(2, 4, 8, 8)
    assert len(blocks) == 12
    torch.testing.assert_close(blocks[0](features), features)
    assert number_of_parameters(deeper) > number_of_parameters(encoder)


def test_width_multiplies_every_hidden_layer():
    def sizes(module):
        return [layer.weight.shape[0] for layer in module.modules() if hasattr(layer, "weight")]

    assert sizes(conv_encoder((1, 64, 64), 10, width=2)) == [64, 64, 128, 128, 512, 10, 10]
    assert sizes(fc_encoder((1, 64, 64), 10, width=0.5)) == [600, 600, 10, 10]
    assert sizes(fc_discriminator(10, width=0.1)) == [100] * 6 + [2]
    decoder = deconv_decoder((3, 64, 64), 10, width=2)
    outputs = [layer.out_channels for layer in decoder if isinstance(layer, nn.ConvTranspose2d)]
    assert outputs == [128, 64, 64, 3]


def test_activations_by_name():
    values = torch.tensor([-1.0, 2.0])
    torch.testing.assert_close(activation_layer("relu")(values), torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(activation_layer("leaky_relu")(values), torch.tensor([-0.2, 2.0]))
    torch.testing.assert_close(activation_layer("tanh")(values), values.tanh())
    torch.testing.assert_close(activation_layer("elu")(values), torch.tensor([torch.e**-1 - 1, 2.0]))
    with pytest.raises(ConfigError, match=r"activation is 'swish'; .*'relu', 'leaky_relu', 'tanh', 'elu'"):
        activation_layer("swish")


def test_default_activations_are_the_library_s():
    def kinds(module):
        return {type(layer) for layer in module.modules()} & {nn.ReLU, nn.Tanh, nn.LeakyReLU, nn.ELU}

    assert kinds(conv_encoder((1, 64, 64), 2)) == kinds(fc_encoder((1, 64, 64), 2)) == {nn.ReLU}
    assert kinds(deconv_decoder((1, 64, 64), 2)) == {nn.ReLU}
    assert kinds(fc_decoder((1, 64, 64), 2)) == {nn.Tanh}


def test_gin_sets_the_knobs():
    bindings = [
        "encoder.num_latent = 6",
        "encoder.encoder_fn = @residual_encoder",
        "residual_encoder.base_channels = 4",
        "residual_encoder.blocks_per_stage = 2",
        "residual_encoder.activation = 'elu'",
    ]
    with gin_configuration(bindings=bindings):
        encoder = make_gaussian_encoder((1, 64, 64))
    assert encoder.z_mean.out_features == 6
    assert sum(isinstance(layer, nn.ELU) for layer in encoder.modules()) == 4 + 8 + 1


@pytest.mark.parametrize("architecture", ["conv_encoder", "residual_encoder", "deconv_decoder", "residual_decoder"])
@pytest.mark.parametrize(("height", "width"), [(60, 64), (64, 8), (0, 64)])
def test_convolutions_name_the_size_they_cannot_take(architecture, height, width):
    build = {function.__name__: function for function in ENCODERS + DECODERS}[architecture]
    with pytest.raises(ConfigError, match=facts(architecture, "multiples of 16", f"{height}x{width}")):
        build((3, height, width), 10)


def test_other_multiples_of_sixteen_work():
    encoder, decoder = conv_encoder((3, 32, 80), 4), deconv_decoder((3, 32, 80), 4)
    z_mean, _ = encoder(torch.rand(2, 3, 32, 80))
    assert decoder(z_mean).shape == (2, 3, 32, 80)


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf"), 1e308, "2", True])
def test_impossible_widths(width):
    with pytest.raises(ConfigError, match=r"width is .*above 0"):
        conv_encoder((1, 64, 64), 10, width=width)


def test_a_width_that_leaves_nothing():
    with pytest.raises(ConfigError, match=facts("width", "32 units", "larger width")):
        conv_encoder((1, 64, 64), 10, width=0.001)


@pytest.mark.parametrize("parameter", ["base_channels", "blocks_per_stage"])
@pytest.mark.parametrize("build", [residual_encoder, residual_decoder])
def test_impossible_residual_sizes(build, parameter):
    with pytest.raises(ConfigError, match=rf"{build.__name__}\.{parameter} is 0; .*at least 1"):
        build((1, 64, 64), 10, **{parameter: 0})
