import numpy as np
import pytest
import torch
from gradients import numerical_gradients
from torch import nn

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.objectives import Codes, FactorVAE, gaussian_kl
from disentanglement_challenge.objectives.factor_vae import permute_codes

BATCH, NUM_LATENT, UNITS, GAMMA = 6, 3, 4, 10.0


def numpy_losses(z_mean, z_logvar, z_sampled, z_permuted, *layers):
    """(regularizer, discriminator loss) of disentanglement_lib's FactorVAE, the discriminator applied to each apart."""
    first_weight, first_bias, second_weight, second_bias = layers

    def logits(z):
        return np.tanh(z @ first_weight.T + first_bias) @ second_weight.T + second_bias

    def clipped_probabilities(z):
        exponentials = np.exp(logits(z))
        return np.clip(exponentials / exponentials.sum(axis=1, keepdims=True), 1e-6, 1 - 1e-6)

    kl = np.mean(0.5 * (z_mean**2 + np.exp(z_logvar) - z_logvar - 1).sum(axis=1))
    tc = np.mean(logits(z_sampled)[:, 0] - logits(z_sampled)[:, 1])
    real, permuted = np.log(clipped_probabilities(z_sampled)[:, 0]), np.log(clipped_probabilities(z_permuted)[:, 1])
    return kl + GAMMA * tc, -(0.5 * real.mean() + 0.5 * permuted.mean())


def uniform(*shape, seed=2):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def discriminator():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(NUM_LATENT, UNITS), nn.Tanh(), nn.Linear(UNITS, 2)).double()


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(BATCH, NUM_LATENT, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


def losses_of(tensors, discriminator, gamma=GAMMA):
    drawn = uniform(BATCH, NUM_LATENT)
    codes = Codes(*tensors, kl_loss=gaussian_kl(*tensors[:2]).mean(), step=0, drawn=drawn)
    return FactorVAE(gamma)(codes, discriminator)


def test_values_and_gradients(tensors, discriminator):
    losses = losses_of(tensors, discriminator)
    z_permuted = permute_codes(tensors[2].detach(), uniform(BATCH, NUM_LATENT)).numpy()
    codes = [tensor.detach().numpy() for tensor in tensors]
    parameters = list(discriminator.parameters())
    layers = [parameter.detach().numpy() for parameter in parameters]

    expected = numpy_losses(*codes, z_permuted, *layers)
    assert losses.regularizer.item() == pytest.approx(expected[0], rel=1e-12)
    assert losses.second_player_loss.item() == pytest.approx(expected[1], rel=1e-12)
    assert losses.terms["total_correlation"].item() == pytest.approx(
        (losses.regularizer - gaussian_kl(*tensors[:2]).mean()).item() / GAMMA
    )

    losses.regularizer.backward(inputs=tensors, retain_graph=True)
    gradients = numerical_gradients(lambda *moved: numpy_losses(*moved, z_permuted, *layers)[0], codes)
    for tensor, gradient in zip(tensors, gradients, strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), gradient, rtol=1e-6, atol=1e-7)

    losses.second_player_loss.backward(inputs=parameters)
    gradients = numerical_gradients(lambda *moved: numpy_losses(*codes, z_permuted, *moved)[1], layers)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        np.testing.assert_allclose(parameter.grad.numpy(), gradient, rtol=1e-6, atol=1e-8)


def test_each_loss_moves_only_its_own_player(discriminator):
    encoder = nn.Linear(4, 2 * NUM_LATENT).double()

    def forward():
        z_mean, z_logvar = encoder(torch.ones(BATCH, 4, dtype=torch.float64)).chunk(2, dim=1)
        noise = torch.linspace(-1, 1, BATCH * NUM_LATENT, dtype=torch.float64).reshape(BATCH, NUM_LATENT)
        return losses_of([z_mean, z_logvar, z_mean + (z_logvar / 2).exp() * noise], discriminator)

    def gradients_of(players, loss):
        for parameter in [*encoder.parameters(), *discriminator.parameters()]:
            parameter.grad = None
        loss.backward(inputs=list(players.parameters()), retain_graph=True)
        return [[parameter.grad for parameter in player.parameters()] for player in (encoder, discriminator)]

    losses = forward()
    of_encoder, of_discriminator = gradients_of(encoder, losses.regularizer)
    assert all(gradient.any() for gradient in of_encoder)
    assert of_discriminator == [None] * 4
    of_encoder, of_discriminator = gradients_of(discriminator, losses.second_player_loss)
    assert of_encoder == [None] * 2
    assert all(gradient.any() for gradient in of_discriminator)


def test_the_discriminator_is_applied_once(tensors, discriminator):
    batches = []
    discriminator.register_forward_hook(lambda module, inputs, output: batches.append(inputs[0].shape))
    losses_of(tensors, discriminator)
    assert batches == [(2 * BATCH, NUM_LATENT)]


def test_a_certain_discriminator_meets_the_library_s_clip(tensors):
    discriminator = nn.Linear(NUM_LATENT, 2).double()
    with torch.no_grad():
        discriminator.weight.zero_()
        discriminator.bias.copy_(torch.tensor([-50.0, 50.0]))  # everything is called permuted
    losses = losses_of(tensors, discriminator)
    expected = -0.5 * (np.log(1e-6) + np.log(1 - 1e-6))
    assert losses.second_player_loss.item() == pytest.approx(expected, rel=1e-12)
    losses.second_player_loss.backward()
    assert not discriminator.bias.grad.any()


def test_permuted_codes_keep_every_latent_s_values():
    z = torch.randn(64, 10)
    permuted = permute_codes(z, uniform(*z.shape))
    torch.testing.assert_close(permuted.sort(dim=0).values, z.sort(dim=0).values, rtol=0, atol=0)
    assert not torch.equal(permuted, z)


def test_permuted_codes_are_independent_across_latents():
    count = 20_000
    z = torch.randn(count, 1).expand(count, 4)
    permuted = permute_codes(z, uniform(*z.shape))
    off_diagonal = torch.corrcoef(permuted.T) - torch.eye(4)
    assert off_diagonal.abs().max() < 5 / count**0.5  # five standard errors of a correlation of zero
    assert abs(torch.corrcoef(torch.stack([z[:, 0], permuted[:, 0]]))[0, 1]) < 5 / count**0.5


def test_every_permutation_is_as_likely_as_another():
    draws = permute_codes(torch.tensor([[0.0], [1.0], [2.0]]).expand(3, 6000), uniform(3, 6000)).T
    _, counts = draws.unique(dim=0, return_counts=True)
    # Chi-squared with five degrees of freedom exceeds 25.7 once in ten thousand draws.
    assert len(counts) == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 25.7


def test_permutations_are_seeded():
    cpu, objective = torch.device("cpu"), FactorVAE(GAMMA)
    drawn = [objective.draw((16, 4), cpu, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    first, again, other = (permute_codes(torch.arange(64.0).reshape(16, 4), numbers) for numbers in drawn)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gin_describes_the_second_player():
    with gin_configuration(bindings=["factor_vae.gamma = 10", "discriminator.discriminator_fn = @fc_discriminator"]):
        objective = FactorVAE()
        players = [objective.make_second_player(7, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    vectors = [nn.utils.parameters_to_vector(player.parameters()) for player in players]
    assert players[0](torch.randn(5, 7)).shape == (5, 2)
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


def test_impossible_gammas():
    with pytest.raises(ConfigError, match=r"factor_vae\.gamma is -1"):
        FactorVAE(-1)


def test_a_second_batch_is_what_the_permuted_codes_come_from(tensors, discriminator):
    generator = torch.Generator().manual_seed(3)
    z_independent = torch.randn(BATCH, NUM_LATENT, generator=generator, dtype=torch.float64)
    kl_loss, drawn = gaussian_kl(*tensors[:2]).mean(), uniform(BATCH, NUM_LATENT)
    codes = Codes(*tensors, kl_loss=kl_loss, step=0, z_independent=z_independent, drawn=drawn)
    objective = FactorVAE(GAMMA, second_batch=True)
    losses = objective(codes, discriminator)

    z_permuted = permute_codes(z_independent, uniform(BATCH, NUM_LATENT)).numpy()
    layers = [parameter.detach().numpy() for parameter in discriminator.parameters()]
    expected = numpy_losses(*(tensor.detach().numpy() for tensor in tensors), z_permuted, *layers)
    assert losses.regularizer.item() == pytest.approx(expected[0], rel=1e-12)
    assert losses.second_player_loss.item() == pytest.approx(expected[1], rel=1e-12)
    assert (objective.num_batches, FactorVAE(GAMMA).num_batches) == (2, 1)


def test_a_second_batch_is_wanted_or_not():
    with pytest.raises(ConfigError, match=r"factor_vae\.second_batch is 2; .*True or False"):
        FactorVAE(GAMMA, second_batch=2)
