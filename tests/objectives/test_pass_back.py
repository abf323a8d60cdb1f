import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from disentanglement_challenge.models.layers import ACTIVATIONS
from disentanglement_challenge.objectives import Codes, FactorVAE
from disentanglement_challenge.objectives.pass_back import discriminate, is_plain

B, D, UNITS = 8, 5, 16


def network(activation="leaky_relu", dtype=torch.float64):
    torch.manual_seed(0)
    layers = [nn.Linear(D, UNITS), ACTIVATIONS[activation](), nn.Linear(UNITS, UNITS), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(UNITS, 2)).to(dtype)


def codes(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    real, others = (torch.randn(B, D, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return real.requires_grad_(), others


def losses(log_odds, all_log_odds):
    first = log_odds.square().mean()
    return first, all_log_odds.sigmoid().log().mean() - (-all_log_odds[B:]).sigmoid().log().mean()


def difference(logits):
    return logits[:, 0] - logits[:, 1]


def expected(discriminator, real, others):
    """PyTorch's own gradients, of two passes through the network."""
    both = torch.cat([real.detach(), others])
    first, second = losses(difference(discriminator(real)), difference(discriminator(both)))
    (of_codes,) = torch.autograd.grad(first, real)
    return first, second, of_codes, torch.autograd.grad(second, list(discriminator.parameters()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_losses_and_both_gradients_are_those_of_two_passes(activation):
    discriminator, (real, others) = network(activation), codes()
    first, second = losses(*discriminate(discriminator, real, others))
    torch.autograd.backward([first, second])
    wanted = expected(discriminator, *codes())
    for value, other in zip(
        (first, second, real.grad, *(p.grad for p in discriminator.parameters())),
        (*wanted[:3], *wanted[3]),
        strict=True,
    ):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-14)


def test_each_gradient_can_be_asked_for_alone():
    discriminator, (real, others) = network(), codes()
    first, second = losses(*discriminate(discriminator, real, others))
    _, _, of_codes, of_weights = expected(discriminator, *codes())
    torch.testing.assert_close(torch.autograd.grad(first, real, retain_graph=True)[0], of_codes, rtol=1e-12, atol=0)
    for value, other in zip(torch.autograd.grad(second, list(discriminator.parameters())), of_weights, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-14)


def test_the_pass_back_takes_the_rows_that_have_a_gradient_and_no_more():
    discriminator, (real, others) = network(), codes()
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(list(losses(*discriminate(discriminator, real, others))))
    inputs = [(D, UNITS), (UNITS, UNITS), (UNITS, 2)]
    forward = sum(2 * (2 * B) * a * b for a, b in inputs)
    to_weights = forward
    # Each row goes back once, and through the first layer only the codes' own.
    to_codes = 2 * B * D * UNITS + sum(2 * (2 * B) * a * b for a, b in inputs[1:])
    assert counter.get_total_flops() == forward + to_weights + to_codes


def test_in_bfloat16_it_computes_as_autocast_does():
    """The same log odds, and gradients that are as near to those of float64."""
    results = []
    for stacked in (True, False):
        discriminator, (real, others) = network(dtype=torch.float32), codes(torch.float32)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            if stacked:
                log_odds, all_log_odds = discriminate(discriminator, real, others)
            else:
                log_odds = difference(discriminator(real).float())
                all_log_odds = difference(discriminator(torch.cat([real.detach(), others])).float())
        first, second = losses(log_odds, all_log_odds)
        of_weights = torch.autograd.grad(second, list(discriminator.parameters()), retain_graph=True)
        results.append((log_odds, all_log_odds, *torch.autograd.grad(first, real), *of_weights))
    wanted = expected(network(), *codes())
    assert torch.equal(results[0][1], results[1][1])
    for ours, autocast, truth in zip(results[0][2:], results[1][2:], (wanted[2], *wanted[3]), strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - truth).norm()) < 2 * float((autocast - truth).norm()) + 1e-3 * float(truth.norm())


def test_every_activation_that_gin_knows_is_taken():
    assert all(is_plain(network(activation)) for activation in ACTIVATIONS)


class Other(nn.Module):
    """A discriminator of somebody's own."""

    def __init__(self):
        super().__init__()
        self.layers = network()

    def forward(self, z):
        return self.layers(z)


def test_a_discriminator_of_another_kind_is_called_as_it_is():
    """Also one with a hook, which a pass of its own would leave out; the losses are the same."""
    hooked = network()
    hooked[0].register_forward_hook(lambda module, inputs, output: None)
    results = []
    for discriminator, is_apart in ((network(), True), (Other(), False), (hooked, False)):
        assert is_plain(discriminator) is is_apart
        real, _ = codes()
        drawn = torch.rand(B, D, generator=torch.Generator().manual_seed(2))
        result = FactorVAE(7.0)(Codes(real, real, real, kl_loss=real.sum(), step=0, drawn=drawn), discriminator)
        assert result.is_apart is is_apart
        results.append((float(result.regularizer.detach()), float(result.second_player_loss.detach())))
    assert results[1] == pytest.approx(results[0], rel=1e-12)
    assert results[2] == pytest.approx(results[0], rel=1e-12)
