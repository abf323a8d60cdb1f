"""Build optimisers, under the names of disentanglement_lib's gin files.

The library's files bind TensorFlow's spellings (`vae/AdamOptimizer.beta1`), so the function here takes those.
"""

from collections.abc import Callable, Iterable

import gin
import torch
from torch import nn

from disentanglement_challenge.checks import check_number
from disentanglement_challenge.errors import ConfigError

OptimizerFn = Callable[..., torch.optim.Optimizer]


@gin.configurable("AdamOptimizer", denylist=["parameters"])
def adam_optimizer(
    parameters: Iterable[nn.Parameter],
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    name: str = "Adam",
    use_locking: bool = False,
) -> torch.optim.Adam:
    """Build Adam (Kingma and Ba, 2015) with the arguments and defaults of `tf.train.AdamOptimizer`.

    `name` and `use_locking` are accepted because the library's gin files bind them, and mean nothing here. TensorFlow
    adds epsilon to the uncorrected second moment and PyTorch to the corrected one; at 1e-8 the two differ by less
    than rounding once the gradients are not themselves that small.

    Raises ConfigError where the learning rate, a beta or epsilon is out of range.
    """
    del name, use_locking
    check_number("AdamOptimizer.learning_rate", learning_rate, above=0)
    parameters = list(parameters)
    # A step that is replayed as a CUDA graph counts its updates on the device.
    capturable = all(parameter.is_cuda for parameter in parameters)
    try:
        return torch.optim.Adam(
            parameters, lr=learning_rate, betas=(beta1, beta2), eps=epsilon, fused=True, capturable=capturable
        )
    except ValueError as error:
        raise ConfigError(f"AdamOptimizer: {error}") from error


@gin.configurable("vae_optimizer", denylist=["parameters"])
def make_vae_optimizer(
    parameters: Iterable[nn.Parameter], optimizer_fn: OptimizerFn = gin.REQUIRED, learning_rate: float | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser of encoder and decoder (disentanglement_lib, methods/shared/optimizers.py)."""
    return _make_optimizer(parameters, optimizer_fn, learning_rate)


@gin.configurable("discriminator_optimizer", denylist=["parameters"])
def make_discriminator_optimizer(
    parameters: Iterable[nn.Parameter], optimizer_fn: OptimizerFn = gin.REQUIRED, learning_rate: float | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser of the discriminator (disentanglement_lib, methods/shared/optimizers.py)."""
    return _make_optimizer(parameters, optimizer_fn, learning_rate)


def _make_optimizer(
    parameters: Iterable[nn.Parameter], optimizer_fn: OptimizerFn, learning_rate: float | None
) -> torch.optim.Optimizer:
    # A rate left out here is left to the optimiser's own binding or default.
    return optimizer_fn(parameters) if learning_rate is None else optimizer_fn(parameters, learning_rate=learning_rate)
