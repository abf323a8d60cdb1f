"""Against pythae's losses, an implementation from other hands: the objectives that it has with the same semantics.

Its FactorVAE is the paper's, with a second batch. Its AnnealedVAE takes |KL - C| of each sample and not of the batch,
and its beta-TCVAE estimates the KL term from samples too, of which only the total correlation can be compared.
"""

from types import SimpleNamespace

import pytest
import torch
from pythae.models.beta_tc_vae.beta_tc_vae_model import BetaTCVAE as PythaeBetaTCVAE
from pythae.models.beta_vae.beta_vae_model import BetaVAE as PythaeBetaVAE
from pythae.models.factor_vae.factor_vae_model import FactorVAE as PythaeFactorVAE
from pythae.models.factor_vae.factor_vae_utils import FactorVAEDiscriminator

from disentanglement_challenge.objectives import BetaTCVAE, BetaVAE, Codes, FactorVAE, gaussian_kl
from disentanglement_challenge.objectives.factor_vae import permute_codes

BATCH, NUM_LATENT = 12, 5
IMAGES = torch.full((BATCH, 1), 0.5, dtype=torch.float64)
OURS = {"reconstruction_loss": "mse"}  # of images that are reconstructed perfectly: 0


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(BATCH, NUM_LATENT, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


def peer(**settings):
    """What pythae's loss functions read of the model that they are methods of."""
    return SimpleNamespace(model_config=SimpleNamespace(**OURS), **settings)


def codes_of(tensors, **drawn):
    return Codes(*tensors, kl_loss=gaussian_kl(*tensors[:2]).mean(), step=0, **drawn)


def assert_same(ours, theirs, inputs):
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    for mine, yours in zip(
        torch.autograd.grad(ours, inputs, retain_graph=True),
        torch.autograd.grad(theirs, inputs, retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(mine, yours, rtol=1e-8, atol=1e-10)


def test_beta_vae(tensors):
    z_mean, z_logvar, z_sampled = tensors
    theirs, _, _ = PythaeBetaVAE.loss_function(peer(beta=4.0), IMAGES, IMAGES, z_mean, z_logvar, z_sampled)
    assert_same(BetaVAE(4.0)(codes_of(tensors)).regularizer, theirs, [z_mean, z_logvar])


def test_factor_vae_with_its_second_batch(tensors):
    z_mean, z_logvar, z_sampled = tensors
    generator = torch.Generator().manual_seed(4)
    z_independent = torch.randn(BATCH, NUM_LATENT, generator=generator, dtype=torch.float64)
    discriminator = FactorVAEDiscriminator(NUM_LATENT, hidden_units=20).double()

    uniform = torch.rand(BATCH, NUM_LATENT, generator=generator)
    codes = codes_of(tensors, z_independent=z_independent, drawn=uniform)
    losses = FactorVAE(30.0, second_batch=True)(codes, discriminator)
    _, loss, discriminator_loss = PythaeFactorVAE.loss_function(
        peer(gamma=30.0, discriminator=discriminator),
        IMAGES,
        IMAGES,
        z_mean,
        z_logvar,
        z_sampled,
        permute_codes(z_independent, uniform),
    )
    assert_same(losses.regularizer, loss, tensors)
    assert_same(losses.second_player_loss, discriminator_loss, list(discriminator.parameters()))


def test_beta_tc_vae_s_total_correlation(tensors):
    z_mean, z_logvar, z_sampled = tensors

    def theirs(beta):
        model = peer(alpha=1.0, beta=beta, gamma=1.0, use_mss=False)
        model._compute_log_gauss_density = lambda *a: PythaeBetaTCVAE._compute_log_gauss_density(model, *a)
        # A data set of 1 / batch size images, for which the estimate's constant is log(1).
        return PythaeBetaTCVAE.loss_function(model, IMAGES, IMAGES, z_mean, z_logvar, z_sampled, 1 / BATCH)[0]

    def ours(beta):
        return BetaTCVAE(beta)(codes_of(tensors)).regularizer

    assert_same(ours(5.0) - ours(2.0), theirs(5.0) - theirs(2.0), tensors)
