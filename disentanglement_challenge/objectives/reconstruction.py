"""Reconstruction losses compare decoded images with the true ones; they sum over pixels, for each sample.

gin's `reconstruction_loss.activation` says how the decoder's output becomes intensities: "logits" by a sigmoid, "tanh"
by tanh(x) / 2 + 0.5. What `reconstruction_loss.loss_fn` names takes the activation and returns the loss function, so
that gin is read once when training starts and not in every step.
"""

from collections.abc import Callable
from typing import Protocol

import gin
import torch
from torch import Tensor
from torch.nn import functional

from disentanglement_challenge.checks import check_choice, check_switch

ACTIVATIONS = ("logits", "tanh")

# disentanglement_lib keeps probabilities this far from 0 and 1 before a logarithm.
CLIP = 1e-6


class ReconstructionLoss(Protocol):
    """A function from true images [B, C, H, W] in [0, 1] and the decoder's output [B, C, H, W] to losses [B]."""

    activation: str

    def __call__(self, true_images: Tensor, reconstructed_images: Tensor) -> Tensor: ...


@gin.configurable("reconstruction_loss")
def make_reconstruction_loss(
    loss_fn: Callable[[str], ReconstructionLoss] = gin.REQUIRED, activation: str = "logits"
) -> ReconstructionLoss:
    """Build the loss of gin's `reconstruction_loss` bindings.

    Args:
        loss_fn: `BernoulliLoss` (gin: @bernoulli_loss) or `L2Loss` (@l2_loss).
        activation: "logits" or "tanh".

    Raises:
        ConfigError: another activation.
    """
    return loss_fn(check_choice("reconstruction_loss.activation", activation, ACTIVATIONS))


@gin.configurable("bernoulli_loss", denylist=["activation"])
class BernoulliLoss:
    """Cross entropy of the pixels: disentanglement_lib's bernoulli_loss.

    Pixels are not binary, so the cross entropy is at least the images' own entropy; `subtract_true_image_entropy` takes
    that bound off, which changes the number and not the gradient.
    """

    def __init__(self, activation: str, subtract_true_image_entropy: bool = False):
        self.activation = activation
        self.subtract_true_image_entropy = check_switch(
            "bernoulli_loss.subtract_true_image_entropy", subtract_true_image_entropy
        )

    def __call__(self, true_images: Tensor, reconstructed_images: Tensor) -> Tensor:
        """Return the losses [B] of true images and decoder output, both [B, C, H, W]."""
        if self.activation == "logits":
            loss = functional.binary_cross_entropy_with_logits(reconstructed_images, true_images, reduction="none")
        else:
            intensities = to_intensities(reconstructed_images, self.activation).clamp(CLIP, 1 - CLIP)
            loss = -(true_images * intensities.log() + (1 - true_images) * (1 - intensities).log())
        if self.subtract_true_image_entropy:
            probabilities = true_images.clamp(CLIP, 1 - CLIP)
            loss = loss - torch.special.entr(probabilities) - torch.special.entr(1 - probabilities)
        return loss.sum(dim=(1, 2, 3))


@gin.configurable("l2_loss", denylist=["activation"])
class L2Loss:
    """Squared error of the intensities: disentanglement_lib's l2_loss."""

    def __init__(self, activation: str):
        self.activation = activation

    def __call__(self, true_images: Tensor, reconstructed_images: Tensor) -> Tensor:
        """Return the losses [B] of true images and decoder output, both [B, C, H, W]."""
        return (true_images - to_intensities(reconstructed_images, self.activation)).square().sum(dim=(1, 2, 3))


def to_intensities(outputs: Tensor, activation: str) -> Tensor:
    """Convert the decoder's output to intensities in [0, 1], of the same shape, by one of `ACTIVATIONS`."""
    return torch.sigmoid(outputs) if activation == "logits" else torch.tanh(outputs) / 2 + 0.5
