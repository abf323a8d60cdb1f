"""Every step on fake CUDA tensors, which have a device and a shape and no content: no GPU is needed to find an operand
that lies on the CPU, or a read of a value by the host, either of which a CUDA graph cannot have.

PyTorch goes back through them only where a GPU is, so the pass back is left to the GPU's tests, but for the one that is
written out here; the optimisers get gradients as it would leave them. PyTorch's build for the CPU alone cannot compute
on fake CUDA tensors; the tests then are skipped.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from shared_steps import OBJECTIVES, SETTINGS
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.batches import to_network
from disentanglement_challenge.objectives import BetaVAE, FactorVAE
from disentanglement_challenge.objectives.pass_back import _Discriminate
from disentanglement_challenge.training.acceleration import BFloat16Step, _in_bfloat16
from disentanglement_challenge.training.step import TrainingStep
from disentanglement_challenge.training.watch import LossWatch

pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="needs PyTorch's build for CUDA")

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
            player.computes, player.used = player.network, player.parameters
            if kind is BFloat16Step:
                with mode:
                    player.compute_by(_in_bfloat16(player.network))
            group = player.optimizer.param_groups[0]
            player.optimizer = torch.optim.Adam(
                player.parameters, lr=group["lr"], betas=group["betas"], fused=True, capturable=True
            )
    made.noise = None  # fake tensors are drawn from no generator
    with mode:
        yield made, torch.empty(4 * objective.num_batches, 64, 64, 3, dtype=torch.uint8, device=device)


def update(step, losses):
    """As `TrainingStep.update`, with gradients of the weights' own shapes in place of the pass back's."""
    assert losses.first_player.requires_grad
    for player in step.players:
        player.clear_gradients()
        for parameter in player.used:
            parameter.grad = torch.empty_like(parameter)
        player.take_gradients()
        player.optimizer.step()


def advance(kind, objective, monkeypatch, bindings=()):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(TrainingStep, "update", update)
    # Without a GPU autocast turns itself off.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
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


class Context(SimpleNamespace):
    """What autograd hands to a function of one's own."""

    saved_tensors = ()

    def set_materialize_grads(self, value):
        pass

    def mark_non_differentiable(self, *tensors):
        pass

    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors


def test_the_pass_back_through_the_discriminator(monkeypatch):
    with fake_step(TrainingStep, FactorVAE(20.0), (), monkeypatch) as (step, _):
        network = step.second_player.network
        codes = torch.empty(8, step.vae.num_latent, device="cuda:0")
        with OneDevice(), torch.no_grad():
            context, inputs = Context(), (codes, codes, list(network)[1::2], *network.parameters())
            of_codes, of_all, *kept = _Discriminate.forward(*inputs)
            _Discriminate.setup_context(context, inputs, (of_codes, of_all, *kept))
            gradients = _Discriminate.backward(context, of_codes, of_all, *[None] * len(kept))
        for gradient, value in zip(gradients, (codes, None, None, *network.parameters()), strict=True):
            assert (gradient is None) == (value is None)
            assert gradient is None or (gradient.shape, gradient.device) == (value.shape, value.device)


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
