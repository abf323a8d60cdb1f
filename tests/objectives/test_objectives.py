"""Every objective without a second player, value and gradient, against float64 numpy."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from gradients import numerical_gradients

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.objectives import (
    DIPVAE,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    BottleneckVAE,
    Codes,
    Objective,
    gaussian_kl,
)
from disentanglement_challenge.training.settings import TrainingSettings

STEP = 30


def numpy_kl(z_mean, z_logvar):
    return np.mean([sum(0.5 * (m * m + math.exp(v) - v - 1) for m, v in zip(*row, strict=True))
                    for row in zip(z_mean, z_logvar, strict=True)])  # fmt: skip


def numpy_dip(z_mean, z_logvar, lambda_od, lambda_d, add_posterior):
    covariance = np.cov(z_mean, rowvar=False, bias=True)
    if add_posterior:
        covariance = covariance + np.diag(np.exp(z_logvar).mean(axis=0))
    penalty = 0.0
    for i, j in np.ndindex(*covariance.shape):
        penalty += lambda_d * (covariance[i, j] - 1) ** 2 if i == j else lambda_od * covariance[i, j] ** 2
    return numpy_kl(z_mean, z_logvar) + penalty


def numpy_total_correlation(z_sampled, z_mean, z_logvar):
    def density(j, i, latent):
        variance = np.exp(z_logvar[i, latent])
        squared = (z_sampled[j, latent] - z_mean[i, latent]) ** 2
        return np.exp(-squared / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    batch, num_latent = z_mean.shape
    ratios = []
    for j in range(batch):
        joint = sum(np.prod([density(j, i, k) for k in range(num_latent)]) for i in range(batch))
        product = np.prod([sum(density(j, i, k) for i in range(batch)) for k in range(num_latent)])
        ratios.append(np.log(joint / product))
    return np.mean(ratios)


CASES = {
    "vae": (lambda: BetaVAE(beta=4), lambda m, v, z: 4 * numpy_kl(m, v)),
    "annealed_vae, rising": (
        lambda: AnnealedVAE(gamma=7, c_max=5, iteration_threshold=100),
        lambda m, v, z: 7 * abs(numpy_kl(m, v) - 5 * STEP / 100),
    ),
    "annealed_vae, at its maximum": (
        lambda: AnnealedVAE(gamma=7, c_max=50, iteration_threshold=20),
        lambda m, v, z: 7 * abs(numpy_kl(m, v) - 50),
    ),
    "bottleneck_vae, above": (lambda: BottleneckVAE(gamma=3, target=1), lambda m, v, z: 3 * abs(numpy_kl(m, v) - 1)),
    "bottleneck_vae, below": (lambda: BottleneckVAE(gamma=3, target=60), lambda m, v, z: 3 * abs(numpy_kl(m, v) - 60)),
    "dip_vae i": (
        lambda: DIPVAE(lambda_od=5, lambda_d_factor=10, dip_type="i"),
        lambda m, v, z: numpy_dip(m, v, 5, 50, add_posterior=False),
    ),
    "dip_vae ii": (
        lambda: DIPVAE(lambda_od=5, lambda_d_factor=2, dip_type="ii"),
        lambda m, v, z: numpy_dip(m, v, 5, 10, add_posterior=True),
    ),
    "beta_tc_vae": (
        lambda: BetaTCVAE(beta=6),
        lambda m, v, z: numpy_kl(m, v) + 5 * numpy_total_correlation(z, m, v),
    ),
}


@pytest.fixture
def arrays():
    random_state = np.random.RandomState(0)
    z_mean, z_logvar = random_state.randn(5, 3), random_state.randn(5, 3) * 0.5
    return z_mean, z_logvar, z_mean + np.exp(z_logvar / 2) * random_state.randn(5, 3)


def codes_of(z_mean, z_logvar, z_sampled, step=STEP):
    return Codes(z_mean, z_logvar, z_sampled, gaussian_kl(z_mean, z_logvar).mean(), step)


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient(case, arrays):
    objective, reference = CASES[case]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    losses = objective()(codes_of(*tensors))
    assert losses.regularizer.item() == pytest.approx(reference(*arrays), rel=1e-12)
    assert losses.second_player_loss is None
    gradients = torch.autograd.grad(losses.regularizer, tensors, allow_unused=True)
    for ours, expected in zip(gradients, numerical_gradients(reference, arrays), strict=True):
        np.testing.assert_allclose(np.zeros((5, 3)) if ours is None else ours.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_gaussian_kl_of_every_sample(arrays):
    z_mean, z_logvar, _ = map(torch.tensor, arrays)
    gaussian = torch.distributions.Normal(z_mean, (z_logvar / 2).exp())
    expected = torch.distributions.kl_divergence(gaussian, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(gaussian_kl(z_mean, z_logvar), expected)
    assert not gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3)).any()


@pytest.mark.parametrize("as_step", [int, torch.tensor])
def test_the_capacity_rises_in_a_straight_line_and_stays(as_step, arrays):
    objective = AnnealedVAE(gamma=1, c_max=25, iteration_threshold=100_000)
    tensors = [torch.tensor(array) for array in arrays]
    capacities = [
        objective(codes_of(*tensors, step=as_step(step))).terms["capacity"].item()
        for step in (0, 1, 50_000, 100_000, 100_001, 10**9)
    ]
    assert capacities == pytest.approx([0, 25e-5, 12.5, 25, 25, 25], rel=1e-6)


def test_terms_are_the_parts_of_the_regularizer(arrays):
    tensors = [torch.tensor(array) for array in arrays]
    codes = codes_of(*tensors)
    dip = DIPVAE(lambda_od=2, lambda_d_factor=3)(codes)
    parts = codes.kl_loss + 2 * dip.terms["off_diagonal"] + 6 * dip.terms["diagonal"]
    torch.testing.assert_close(dip.regularizer, parts)
    tc = BetaTCVAE(beta=3)(codes)
    torch.testing.assert_close(tc.regularizer, codes.kl_loss + 2 * tc.terms["total_correlation"])


def test_large_codes_do_not_overflow_the_total_correlation():
    z_mean = torch.tensor([[100.0, -100.0], [-100.0, 100.0]])
    losses = BetaTCVAE(beta=2)(codes_of(z_mean, torch.full((2, 2), -10.0), z_mean))
    assert losses.regularizer.isfinite()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BetaVAE(beta=-1), "vae.beta is -1; it must be a finite number, at least 0"),
        (lambda: BetaVAE(beta="4"), "vae.beta is '4'"),
        (lambda: BetaVAE(beta=True), "vae.beta is True"),
        (lambda: AnnealedVAE(gamma=-2.0, c_max=1, iteration_threshold=1), "annealed_vae.gamma is -2.0"),
        (lambda: AnnealedVAE(gamma=1, c_max=math.nan, iteration_threshold=1), "annealed_vae.c_max is nan"),
        (
            lambda: AnnealedVAE(gamma=1, c_max=1, iteration_threshold=0),
            "annealed_vae.iteration_threshold is 0; it must be a finite number, above 0",
        ),
        (lambda: BottleneckVAE(gamma=math.inf, target=1), "bottleneck_vae.gamma is inf"),
        (lambda: BottleneckVAE(gamma=1, target=-1), "bottleneck_vae.target is -1"),
        (lambda: DIPVAE(lambda_od=-1, lambda_d_factor=1), "dip_vae.lambda_od is -1"),
        (lambda: DIPVAE(lambda_od=1, lambda_d_factor=None), "dip_vae.lambda_d_factor is None"),
        (
            lambda: DIPVAE(lambda_od=1, lambda_d_factor=1, dip_type="iii"),
            "dip_vae.dip_type is 'iii'; it must be one of 'i', 'ii'",
        ),
        (lambda: BetaTCVAE(beta=-0.5), "beta_tc_vae.beta is -0.5"),
    ],
)
def test_impossible_hyperparameters(build, message):
    with pytest.raises(ConfigError) as raised:
        build()
    assert message in str(raised.value)


def test_a_new_objective_needs_only_a_regularizer(arrays):
    class Lasso(Objective):
        def regularizer(self, codes):
            return codes.z_mean.abs().sum(), {}

    codes = codes_of(*map(torch.tensor, arrays))
    assert Lasso()(codes).regularizer == codes.z_mean.abs().sum()
    assert Lasso().make_second_player(3, torch.Generator()) is None
    with pytest.raises(NotImplementedError, match="Objective overrides neither"):
        Objective()(codes)


def test_the_starter_kits_name_for_the_bottleneck_vae(arrays):
    """Its example's bindings, model.model = @BottleneckVAE() and the two below, as they are."""
    codes = codes_of(*map(torch.tensor, arrays))
    kits = ["model.model = @BottleneckVAE()", "BottleneckVAE.gamma = 4", "BottleneckVAE.target = 10."]
    small = ["model.batch_size = 4", "model.training_steps = 1", "model.random_seed = 0"]
    ours = [binding.replace("BottleneckVAE", "bottleneck_vae") for binding in kits]
    for bindings in (kits, ours):
        with gin_configuration([], [*bindings, *small]):
            model = TrainingSettings().model
        assert isinstance(model, BottleneckVAE)
        assert (model.gamma, model.target) == (4, 10.0)
        assert model(codes).regularizer == BottleneckVAE(gamma=4, target=10.0)(codes).regularizer


def test_the_constant_that_beta_tc_vae_leaves_out(arrays):
    """Written out: densities of Chen et al., appendix C.1, each divided by N * M, as the regularizer's are not."""
    z_mean, z_logvar, z_sampled = (torch.tensor(array) for array in arrays)
    codes = dataclasses.replace(codes_of(z_mean, z_logvar, z_sampled), num_images=1000)
    density = torch.distributions.Normal(z_mean[None], (z_logvar[None] / 2).exp()).log_prob(z_sampled[:, None])
    normaliser = math.log(1000 * len(z_mean))
    log_joint = density.sum(2).logsumexp(1) - normaliser
    log_product = (density.logsumexp(1) - normaliser).sum(1)
    expected = (log_joint - log_product).mean()
    result = BetaTCVAE(beta=6.0)(codes)
    torch.testing.assert_close(result.terms["total_correlation"], expected)
    torch.testing.assert_close(result.regularizer + result.constant, codes.kl_loss + 5 * expected)
    assert BetaTCVAE(beta=6.0)(codes_of(z_mean, z_logvar, z_sampled)).constant == 0
