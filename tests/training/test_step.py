import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.objectives import BetaTCVAE, BetaVAE, FactorVAE
from disentanglement_challenge.training.processes import ALONE
from disentanglement_challenge.training.state import TrainingState
from disentanglement_challenge.training.step import Player, TrainingStep

SMALL = [
    "encoder.num_latent = 3",
    "conv_encoder.width = 0.125",
    "deconv_decoder.width = 0.125",
    "fc_discriminator.width = 0.02",
]
ELSEWHERE = ["dataset", "model"]  # what shared.gin binds and a step does not import
RATE = 0.0001


def make_step(objective, seed=0):
    with gin_configuration(["shared.gin"], SMALL, ELSEWHERE):
        return TrainingStep(objective, (3, 64, 64), seed, torch.device("cpu"))


@pytest.fixture
def images():
    return torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def parameters(network):
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_both_players_move_by_their_own_gradient_at_the_same_point(images):
    """FactorVAE's step written out again: two separate discriminator passes, explicit losses, Adam's first step.

    Adam's first step is lr * g / (|g| + epsilon), whatever its betas.
    """
    gamma = 7.0
    step, other = make_step(FactorVAE(gamma)), make_step(FactorVAE(gamma))
    vae, discriminator = other.vae, other.second_player.network

    z_mean, z_logvar = vae.encode(images)
    z = z_mean + torch.exp(0.5 * z_logvar) * torch.randn(z_mean.shape, generator=other.noise)
    order = torch.rand(z.shape, generator=other.noise).argsort(0)
    permuted = torch.stack([z[order[:, i], i] for i in range(z.shape[1])], 1).detach()
    logits = discriminator(z)
    reconstruction = functional.binary_cross_entropy(torch.sigmoid(vae.decode(z)), images, reduction="sum") / len(
        images
    )
    kl = 0.5 * (z_mean**2 + z_logvar.exp() - z_logvar - 1).sum() / len(images)
    tc = logits[:, 0].mean() - logits[:, 1].mean()
    vae_loss = reconstruction + kl + gamma * tc
    targets = torch.tensor([0] * len(z) + [1] * len(z))
    discriminator_loss = functional.cross_entropy(
        torch.cat([discriminator(z.detach()), discriminator(permuted)]), targets
    )

    terms = step(images, 0)
    expected = {
        "loss": vae_loss,
        "reconstruction_loss": reconstruction,
        "kl_loss": kl,
        "regularizer": kl + gamma * tc,
        "elbo": -(reconstruction + kl),
        "total_correlation": tc,
        "discriminator_loss": discriminator_loss,
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(float(value.detach()), rel=1e-4, abs=1e-5), name
        assert not terms[name].requires_grad

    for loss, network, moved in (
        (vae_loss, vae, step.vae),
        (discriminator_loss, discriminator, step.second_player.network),
    ):
        gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        for before, gradient, after in zip(network.parameters(), gradients, moved.parameters(), strict=True):
            clear = gradient.abs() > 1e-4  # where rounding cannot turn the sign of the update
            update = (after - before).detach()[clear]
            np.testing.assert_allclose(update, (-RATE * gradient.sign())[clear], rtol=1e-2)


def test_a_second_batch_reaches_the_discriminator_and_nothing_else(images):
    step, other = make_step(FactorVAE(7.0, second_batch=True)), make_step(FactorVAE(7.0))
    first, second = images.chunk(2)
    losses = step.losses(images, 0)
    alone = other.losses(first, 0).named
    for name in ("reconstruction_loss", "kl_loss", "total_correlation", "loss"):
        assert losses.named[name].item() == pytest.approx(alone[name].item(), rel=1e-6), name

    other = make_step(FactorVAE(7.0))  # its noise again from the beginning
    vae, discriminator = other.vae, other.second_player.network
    sampled = []
    for batch in (first, second):
        z_mean, z_logvar = vae.encode(batch)
        sampled.append(z_mean + torch.exp(0.5 * z_logvar) * torch.randn(z_mean.shape, generator=other.noise))
    order = torch.rand(sampled[1].shape, generator=other.noise).argsort(0)
    permuted = torch.stack([sampled[1][order[:, i], i] for i in range(order.shape[1])], 1)
    logits = torch.cat([discriminator(sampled[0]), discriminator(permuted)])
    expected = functional.cross_entropy(logits, torch.tensor([0] * len(first) + [1] * len(second)))
    assert losses.second_player.item() == pytest.approx(float(expected.detach()), rel=1e-4)


def test_an_objective_without_a_second_player_makes_none(images):
    step = make_step(BetaVAE(beta=4.0))
    assert step.second_player is None
    before = parameters(step.vae)
    terms = step(images, 0)
    assert terms["regularizer"] == pytest.approx(4 * float(terms["kl_loss"]))
    assert all((a != b).any() for a, b in zip(before, parameters(step.vae), strict=True))


def test_the_seed_decides_weights_and_noise(images):
    results = []
    for seed in (0, 0, 1):
        step = make_step(FactorVAE(10.0), seed)
        for index in range(3):
            step(images, index)
        results.append(torch.cat([p.flatten() for p in parameters(step.vae)]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("objective", [FactorVAE(10.0), BetaVAE(4.0)])
def test_what_is_logged_is_what_is_differentiated(images, objective):
    losses = make_step(objective).losses(images, 0)
    assert losses.named["loss"] is losses.first_player
    assert losses.named.get("discriminator_loss") is losses.second_player
    assert losses.first_player.requires_grad


def test_beta_tc_vae_logs_a_loss_that_is_not_below_its_reconstruction(images):
    """The constant is logged and not differentiated, so the gradients are those without it, bit for bit."""
    with gin_configuration(["shared.gin"], SMALL, ELSEWHERE):
        step, other = (
            TrainingStep(BetaTCVAE(6.0), (3, 64, 64), 0, torch.device("cpu"), ALONE, n) for n in (1000, None)
        )
    losses, without = step.losses(images, 0), other.losses(images, 0)
    assert losses.named["loss"] >= losses.named["reconstruction_loss"] > without.named["loss"]
    constant = 5 * (3 - 1) * math.log(len(images) * 1000)
    assert (losses.named["loss"] - losses.first_player).item() == pytest.approx(constant, rel=1e-4)
    assert (losses.named["regularizer"] - without.named["regularizer"]).item() == pytest.approx(constant, rel=1e-4)
    step.update(losses)
    other.update(without)
    assert all(map(torch.equal, parameters(step.vae), parameters(other.vae)))


def test_looking_at_the_losses_moves_nothing(images):
    step = make_step(FactorVAE(10.0))
    before = parameters(step.vae)
    step.losses(images, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(step.vae), strict=True))


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("encoder.num_latent = 0", "num_latent"),
        ("encoder.num_latent = -3", "num_latent"),
        ("vae/AdamOptimizer.learning_rate = 0", "learning_rate"),
        ("vae/AdamOptimizer.beta1 = 1.5", "beta"),
    ],
)
def test_what_cannot_be_built(binding, message):
    with pytest.raises(ConfigError, match=message), gin_configuration(["shared.gin"], [*SMALL, binding], ELSEWHERE):
        TrainingStep(FactorVAE(1.0), (3, 64, 64), 0, torch.device("cpu"))


def test_an_explicit_learning_rate_overrides_the_optimizers_own():
    with gin_configuration(["shared.gin"], [*SMALL, "vae_optimizer.learning_rate = 0.5"], ELSEWHERE):
        step = TrainingStep(FactorVAE(1.0), (3, 64, 64), 0, torch.device("cpu"))
    assert step.first_player.optimizer.param_groups[0]["lr"] == 0.5
    assert step.second_player.optimizer.param_groups[0]["lr"] == RATE
    assert step.second_player.optimizer.param_groups[0]["betas"] == (0.5, 0.9)


def test_noise_that_begins_anew_on_another_device_follows_from_seed_and_step():
    """The state is one's that was made on a GPU, whose noise means nothing here."""
    streams = []
    for seed, done in ((0, 5), (0, 5), (0, 6), (1, 5)):
        state = TrainingState(make_step(BetaVAE(1.0), seed), seed)
        saved = {**state.state_dict(), "done": done, "devices": {0: "cuda"}}
        state.load_state_dict(saved)
        assert state.devices == {0: "cuda", done: "cpu"}
        streams.append(tuple(torch.rand(3, generator=state.step.noise).tolist()))
    assert streams[0] == streams[1]
    assert len(set(streams)) == 3


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), torch.optim.Adam])
def test_a_player_takes_up_the_state_of_any_optimizer(make):
    torch.manual_seed(0)
    players = [Player(network, make(network.parameters())) for network in (nn.Linear(3, 2), nn.Linear(3, 2))]
    one, other = players
    for player in (one, one, other):
        player.network(torch.ones(4, 3)).square().sum().backward()
        player.optimizer.step()
        player.optimizer.zero_grad()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for player in players:
        player.network(torch.ones(4, 3)).square().sum().backward()
        player.optimizer.step()
    for ours, theirs in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
