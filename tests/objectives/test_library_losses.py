"""Objectives and reconstruction losses against disentanglement_lib's own code, which runs in a process of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from disentanglement_challenge.objectives import (
    DIPVAE,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    Codes,
    gaussian_kl,
    make_reconstruction_loss,
)
from disentanglement_challenge.objectives.factor_vae import clipped_log_probabilities
from disentanglement_challenge.objectives.reconstruction import BernoulliLoss, L2Loss

HERE = Path(__file__).parent
STEP = 30


@pytest.fixture(scope="module")
def given():
    random_state = np.random.RandomState(0)
    z_mean, z_logvar = random_state.randn(8, 10), random_state.randn(8, 10)
    outputs = random_state.randn(4, 8, 8, 3)
    outputs[:, 0, 0] = (-30, 0, 30)  # where tanh meets the clip; nearer to it float32 alone decides the digits
    return {
        "z_mean": z_mean,
        "z_logvar": z_logvar,
        "z_sampled": z_mean + np.exp(z_logvar / 2) * random_state.randn(8, 10),
        "true_images": random_state.rand(4, 8, 8, 3),
        "outputs": outputs,
        "step": STEP,
    }


@pytest.fixture(scope="module")
def library(given, tmp_path_factory):
    pytest.importorskip("tensorflow")  # the losses are operations of its
    folder = tmp_path_factory.mktemp("library")
    np.savez(folder / "in.npz", **given)
    command = [sys.executable, HERE / "library_losses.py", folder / "in.npz", folder / "out.npz"]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(HERE.parents[1]), "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "out.npz")


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("vae", BetaVAE(4.0)),
        ("annealed_vae", AnnealedVAE(7.0, 5.0, 100)),
        ("dip_vae_i", DIPVAE(5.0, 10.0, "i")),
        ("dip_vae_ii", DIPVAE(5.0, 1.0, "ii")),
        ("beta_tc_vae", BetaTCVAE(6.0)),
    ],
)
def test_regularizers(name, objective, given, library):
    tensors = [torch.tensor(given[key], requires_grad=True) for key in ("z_mean", "z_logvar", "z_sampled")]
    regularizer = objective(Codes(*tensors, gaussian_kl(*tensors[:2]).mean(), STEP)).regularizer
    gradients = torch.autograd.grad(regularizer, tensors, allow_unused=True, materialize_grads=True)
    # The library computes in float32, and its covariance as a difference of two moments.
    for part, ours in enumerate([regularizer.detach(), *gradients]):
        np.testing.assert_allclose(ours.numpy(), library[f"{name}/{part}"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["logits", "tanh"])
@pytest.mark.parametrize(("name", "loss_fn"), [("bernoulli_loss", BernoulliLoss), ("l2_loss", L2Loss)])
def test_reconstruction_losses(name, loss_fn, activation, given, library):
    # float32, as in the library: its clip at 1 - 1e-6 is itself rounded to float32.
    true_images, outputs = (torch.tensor(given[key], dtype=torch.float32) for key in ("true_images", "outputs"))
    outputs.requires_grad_()
    loss = make_reconstruction_loss(loss_fn, activation)
    losses = loss(true_images.permute(0, 3, 1, 2), outputs.permute(0, 3, 1, 2))
    (gradient,) = torch.autograd.grad(losses.sum(), outputs)
    np.testing.assert_allclose(losses.detach().numpy(), library[f"{name}/{activation}/0"], rtol=1e-5)
    np.testing.assert_allclose(gradient.numpy(), library[f"{name}/{activation}/1"], rtol=1e-3, atol=1e-5)


def test_clipped_probabilities(given, library):
    z = torch.tensor(given["z_sampled"], dtype=torch.float32)[:, :2] * 20
    assert library["clipped"].min() == np.float32(1e-6)  # the clip is met
    log_odds = 2 * (z[:, 0] - z[:, 1])
    for column, sign in enumerate((1, -1)):
        ours = clipped_log_probabilities(sign * log_odds).exp()
        np.testing.assert_allclose(ours.numpy(), library["clipped"][:, column], rtol=1e-4)
