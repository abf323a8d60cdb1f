"""Every step on fake CUDA tensors, which have a device and a shape and no content: no GPU is needed to find an operand
that lies on the CPU, or a read of a value by the host, either of which a CUDA graph cannot have.

PyTorch's build for the CPU alone cannot compute on them; the tests then are skipped, and counted with the GPU's.
"""

from contextlib import contextmanager

import pytest
import torch
from shared_steps import OBJECTIVES, SETTINGS
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.batches import to_network
from disentanglement_challenge.objectives import BetaVAE, FactorVAE
from disentanglement_challenge.training.acceleration import BFloat16Step
from disentanglement_challenge.training.step import TrainingStep
from disentanglement_challenge.training.watch import LossWatch

pytestmark = pytest.mark.skipif(
    torch.version.cuda is None, reason="needs a GPU, and this PyTorch is built without CUDA"
)

EVERY = {**OBJECTIVES, "factor_vae_second_batch": lambda: FactorVAE(20.0, second_batch=True)}
ARCHITECTURES = {
    "conv": [],
    "fc": ["encoder.encoder_fn = @fc_encoder", "decoder.decoder_fn = @fc_decoder"],
    "residual": ["encoder.encoder_fn = @residual_encoder", "decoder.decoder_fn = @residual_decoder"],
}
LOSSES = {"bernoulli": "@bernoulli_loss", "l2": "@l2_loss"}


class OneDevice(TorchDispatchMode):
    """Raises where an operation takes or makes a tensor of the CPU; one of CUDA's own scalars counts as none."""

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        output = operation(*arguments, **(named or {}))
        for tensor in tree_leaves((arguments, named, output)):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "cuda":
                raise AssertionError(f"{operation} has a tensor on {tensor.device}")
        return output


@contextmanager
def fake_step(kind, objective, bindings, monkeypatch):
    """A step whose networks and optimisers are fake and on CUDA, and fake images."""
    device = torch.device("cuda", 0)
    with gin_configuration(["shared.gin"], [*SETTINGS, *bindings], skip_unknown=["dataset", "model"]):
        made = kind(objective, (3, 64, 64), 0, torch.device("cpu"))
        mode = FakeTensorMode()
        for player in made.players:
            for module in player.network.modules():
                for name, parameter in list(module._parameters.items()):
                    if parameter is not None:
                        fake = FakeTensor(mode, torch.empty_like(parameter, device="meta"), device)
                        module._parameters[name] = torch.nn.Parameter(fake)
            player.parameters = list(player.network.parameters())
            group = player.optimizer.param_groups[0]
            player.optimizer = torch.optim.Adam(
                player.parameters, lr=group["lr"], betas=group["betas"], fused=True, capturable=True
            )
    made.noise = None  # fake tensors are drawn from no generator
    with mode:
        yield made, torch.empty(4 * objective.num_batches, 64, 64, 3, dtype=torch.uint8, device=device)


def advance(kind, objective, monkeypatch, bindings=()):
    device = torch.device("cuda", 0)
    with fake_step(kind, objective, bindings, monkeypatch) as (step, pixels):
        with OneDevice():
            index = torch.full((), 3, device=device)
            for _ in range(2):  # the first makes the optimisers' state
                terms = step(to_network(pixels, device), index)
            LossWatch(10, 1).add(terms)
        assert {term.device.type for term in terms.values()} == {"cuda"}
        assert {tensor.device.type for tensor in step.tensors()} == {"cuda"}


@pytest.mark.parametrize("kind", [TrainingStep, BFloat16Step])
@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_every_objective(objective, kind, monkeypatch):
    advance(kind, objective(), monkeypatch)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("bindings", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_every_architecture_and_loss(bindings, loss, monkeypatch):
    advance(TrainingStep, FactorVAE(20.0), monkeypatch, [*bindings, f"reconstruction_loss.loss_fn = {loss}"])


class Reading(BetaVAE):
    def regularizer(self, codes):
        return (2 if float(codes.kl_loss.detach()) > 0 else 1) * codes.kl_loss, {}


class OnTheHost(BetaVAE):
    def regularizer(self, codes):
        return codes.kl_loss * torch.ones(()), {}


def test_a_read_and_an_operand_on_the_cpu_are_found(monkeypatch):
    with pytest.raises((DataDependentOutputException, AssertionError)):
        advance(TrainingStep, Reading(1.0), monkeypatch)
    with pytest.raises(AssertionError, match="on cpu"):
        advance(TrainingStep, OnTheHost(1.0), monkeypatch)
