import gin
import pytest
import torch

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.models import (
    MeanEncoder,
    decoders,
    make_decoder,
    make_discriminator,
    make_vae,
    sample_from_latent_distribution,
)

CONVOLUTIONAL = ["encoder.encoder_fn = @conv_encoder", "decoder.decoder_fn = @deconv_decoder"]


def build(num_latent=10, input_shape=(1, 64, 64), seed=0):
    with gin_configuration(bindings=[*CONVOLUTIONAL, f"encoder.num_latent = {num_latent}"]):
        return make_vae(input_shape, torch.Generator().manual_seed(seed))


def test_the_vae_that_gin_describes():
    vae = build(num_latent=6, input_shape=(3, 64, 64))
    images = torch.rand(2, 3, 64, 64)
    z_mean, z_logvar = vae.encode(images)
    assert vae.num_latent == 6
    assert z_mean.shape == z_logvar.shape == (2, 6)
    assert vae.decode(z_mean).shape == images.shape


def test_the_same_seed_gives_the_same_vae():
    first, again, other = build(seed=1).state_dict(), build(seed=1).state_dict(), build(seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("num_latent", ["0", "-3", "2.5", "10.", "'10'", "True", "None"])
def test_impossible_numbers_of_latents(num_latent):
    with pytest.raises(ConfigError, match=r"encoder\.num_latent is .*; .*integer of at least 1"):
        build(num_latent=num_latent)


@gin.configurable
def one_channel_decoder(input_shape, num_latent):
    return decoders.deconv_decoder((1, *input_shape[1:]), num_latent)


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("encoder.encoder_fn = @deconv_decoder", r"encoder\.encoder_fn makes a network that does not fit its place"),
        ("decoder.decoder_fn = @conv_encoder", r"decoder\.decoder_fn makes a network that does not fit its place"),
        ("decoder.decoder_fn = @one_channel_decoder", r"gives \(1, 1, 64, 64\), not \(1, 3, 64, 64\)"),
        ("encoder.num_latent = 4294967295", r"not enough memory.*encoder\.num_latent \(now 4294967295\)"),
        ("conv_encoder.width = 1e9", "not enough memory"),
    ],
)
def test_networks_that_cannot_be_built_are_one_line(binding, message):
    bindings = ["encoder.num_latent = 3", binding]
    with (
        pytest.raises(ConfigError, match=message) as raised,
        gin_configuration(["shared.gin"], bindings, skip_unknown=["dataset", "model"]),
    ):
        make_vae((3, 64, 64), torch.Generator())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("input_shape", [(64, 64), (0, 64, 64), (1, 64, 64, 1), (1.0, 64, 64)])
def test_impossible_input_shapes(input_shape):
    with pytest.raises(ConfigError, match="input_shape"):
        build(input_shape=input_shape)


def test_missing_bindings_are_named():
    with (
        pytest.raises(ConfigError, match=r"encoder\.encoder_fn"),
        gin_configuration(bindings=["encoder.num_latent = 1"]),
    ):
        make_vae((1, 64, 64), torch.Generator())
    with pytest.raises(ConfigError, match=r"decoder\.decoder_fn"), gin_configuration():
        make_decoder((1, 64, 64), 10)
    with pytest.raises(ConfigError, match=r"discriminator\.discriminator_fn"), gin_configuration():
        make_discriminator(10)


@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
@torch.no_grad()
def test_the_mean_encoder_is_the_mean_alone_and_can_be_traced():
    vae, images = build(), torch.rand(7, 1, 64, 64)
    representation = MeanEncoder(vae.encoder)
    assert torch.equal(representation(images), vae.encode(images)[0])
    traced = torch.jit.trace(representation, images[:1])
    for batch_size in (1, 2, 7):
        torch.testing.assert_close(traced(images[:batch_size]), representation(images[:batch_size]))


def test_samples_have_the_encoder_s_mean_and_variance():
    z_mean, z_logvar = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    count = 100_000
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(0))
    samples = sample_from_latent_distribution(z_mean.expand(count, 2), z_logvar.expand(count, 2), noise)
    # Five standard errors of a Gaussian's mean and variance.
    assert ((samples.mean(0) - z_mean[0]).abs() < 5 * (z_logvar[0].exp() / count).sqrt()).all()
    assert ((samples.var(0) / z_logvar[0].exp() - 1).abs() < 5 * (2 / count) ** 0.5).all()


def test_sampling_is_differentiable():
    z_mean, z_logvar = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    sample = sample_from_latent_distribution(z_mean, z_logvar, torch.randn(4, 3, dtype=torch.float64))
    sample.sum().backward()
    torch.testing.assert_close(z_mean.grad, torch.ones_like(z_mean))
    torch.testing.assert_close(z_logvar.grad, (sample - z_mean).detach() / 2)
