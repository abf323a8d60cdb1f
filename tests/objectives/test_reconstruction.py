import numpy as np
import pytest
import torch
from gradients import numerical_gradients

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.objectives import make_reconstruction_loss
from disentanglement_challenge.objectives.reconstruction import BernoulliLoss, L2Loss

SHAPE = (2, 3, 2, 2)


def numpy_loss(true_images, outputs, bernoulli, activation, subtract_entropy=False):
    if activation == "logits":
        intensities = 1 / (1 + np.exp(-outputs))
    else:
        intensities = np.tanh(outputs) / 2 + 0.5
        intensities = np.clip(intensities, 1e-6, 1 - 1e-6) if bernoulli else intensities
    if not bernoulli:
        return ((true_images - intensities) ** 2).sum(axis=(1, 2, 3))
    loss = -(true_images * np.log(intensities) + (1 - true_images) * np.log(1 - intensities))
    if subtract_entropy:
        p = np.clip(true_images, 1e-6, 1 - 1e-6)
        loss = loss + p * np.log(p) + (1 - p) * np.log(1 - p)
    return loss.sum(axis=(1, 2, 3))


CASES = [
    (lambda activation: BernoulliLoss(activation), {"bernoulli": True}),
    (lambda activation: BernoulliLoss(activation, subtract_true_image_entropy=True),
     {"bernoulli": True, "subtract_entropy": True}),
    (lambda activation: L2Loss(activation), {"bernoulli": False}),
]  # fmt: skip


@pytest.mark.parametrize("activation", ["logits", "tanh"])
@pytest.mark.parametrize(("loss_fn", "options"), CASES)
def test_value_and_gradient(loss_fn, options, activation):
    random_state = np.random.RandomState(0)
    true_images, outputs = random_state.rand(*SHAPE), random_state.randn(*SHAPE) * 2
    true_images.flat[:4] = [0, 1, 0, 1]  # where the entropy's clip acts

    tensor = torch.tensor(outputs, requires_grad=True)
    losses = loss_fn(activation)(torch.tensor(true_images), tensor)
    expected = numpy_loss(true_images, outputs, activation=activation, **options)
    assert losses.shape == (2,)
    np.testing.assert_allclose(losses.detach().numpy(), expected, rtol=1e-12)

    (gradient,) = numerical_gradients(
        lambda moved: numpy_loss(true_images, moved, activation=activation, **options).sum(), [outputs]
    )
    losses.sum().backward()
    np.testing.assert_allclose(tensor.grad.numpy(), gradient, rtol=1e-6, atol=1e-8)


def test_a_perfect_reconstruction_costs_the_images_entropy_and_nothing_beside_it():
    images = torch.rand(3, 1, 8, 8, dtype=torch.float64) * 0.98 + 0.01
    torch.testing.assert_close(
        BernoulliLoss("logits", subtract_true_image_entropy=True)(images, images.logit()),
        torch.zeros(3, dtype=torch.float64),
    )
    torch.testing.assert_close(L2Loss("logits")(images, images.logit()), torch.zeros(3, dtype=torch.float64))


def test_extreme_outputs_stay_finite():
    images, outputs = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[200.0, -200.0]]]])
    torch.testing.assert_close(BernoulliLoss("logits")(images, outputs), torch.tensor([400.0]))
    assert BernoulliLoss("tanh")(images, outputs).item() == pytest.approx(-2 * np.log(1e-6), rel=0.01)


def test_gin_chooses_the_loss():
    with gin_configuration(bindings=["reconstruction_loss.loss_fn = @bernoulli_loss"]):
        loss = make_reconstruction_loss()
    assert isinstance(loss, BernoulliLoss)
    assert (loss.activation, loss.subtract_true_image_entropy) == ("logits", False)
    bindings = ["reconstruction_loss.loss_fn = @l2_loss", "reconstruction_loss.activation = 'tanh'"]
    with gin_configuration(bindings=bindings):
        loss = make_reconstruction_loss()
    assert isinstance(loss, L2Loss)
    assert loss.activation == "tanh"
    bindings = ["reconstruction_loss.loss_fn = @bernoulli_loss", "bernoulli_loss.subtract_true_image_entropy = True"]
    with gin_configuration(bindings=bindings):
        assert make_reconstruction_loss().subtract_true_image_entropy


def test_impossible_activations_and_missing_bindings():
    with pytest.raises(ConfigError, match=r"reconstruction_loss\.activation is 'relu'; .*'logits', 'tanh'"):
        make_reconstruction_loss(BernoulliLoss, "relu")
    with pytest.raises(ConfigError, match=r"bernoulli_loss\.subtract_true_image_entropy is 'False'"):
        BernoulliLoss("logits", "False")
    with pytest.raises(ConfigError, match=r"reconstruction_loss\.loss_fn"), gin_configuration():
        make_reconstruction_loss()
