"""Compute both gradients of a discriminator in one backward pass.

Encoder and decoder need the gradient of the codes' logits, for the codes alone: half of the rows that the
discriminator sees. The discriminator needs that of its own loss, for its weights, over all rows. Both losses depend on
a row's two logits through their difference alone, so on the way back through the layers both gradients of a row are the
same one times a number each: the gradient of the difference itself, which goes back once.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

aten: Any = torch.ops.aten

# Of each activation the gradient of its input, from that of its output and the output: nothing else need be kept.
_BACK: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda layer, gradient, output: aten.threshold_backward(gradient, output, 0),
    nn.LeakyReLU: lambda layer, gradient, output: aten.leaky_relu_backward(
        gradient, output, layer.negative_slope, layer.negative_slope > 0
    ),
    nn.Tanh: lambda layer, gradient, output: aten.tanh_backward(gradient, output),
    nn.ELU: lambda layer, gradient, output: aten.elu_backward(gradient, layer.alpha, 1, 1, True, output),
}


def is_plain(network: nn.Module) -> bool:
    """Return whether `discriminate` supports a network: a sequence of dense layers with activations between them.

    One with hooks is not: they belong to the calls of its modules, which `discriminate` does not make.
    """
    if type(network) is not nn.Sequential or len(network) % 2 == 0:
        return False
    if any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in network.modules()):
        return False
    dense, activations = list(network)[::2], list(network)[1::2]
    have_biases = all(type(layer) is nn.Linear and layer.bias is not None for layer in dense)
    return have_biases and all(type(a) in _BACK for a in activations)


def discriminate(network: nn.Sequential, codes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log odds of codes and others, first logit minus second, from one pass through the network.

    Args:
        network: for which `is_plain` is true, with two logits.
        codes: [B, D].
        others: [N, D], taken without gradient.

    Returns:
        [B], of the codes, whose gradient reaches the codes and no weight; and [B + N], of both, whose gradient reaches
        the weights and no code.
    """
    return _Discriminate.apply(codes, others, network, *network.parameters())


class _Discriminate(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, codes: Tensor, others: Tensor, network: nn.Sequential, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        context.set_materialize_grads(False)  # a pass back for one of the two computes nothing for the other
        kind = codes.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else codes.dtype
        weights = [parameter.to(dtype) for parameter in parameters[::2]]
        inputs = [torch.cat([codes, others]).to(dtype)]
        with torch.autocast(kind, enabled=False):
            for index, weight in enumerate(weights):
                output = functional.linear(inputs[-1], weight, parameters[2 * index + 1].to(dtype))
                if index + 1 < len(weights):
                    inputs.append(network[2 * index + 1](output))
        context.save_for_backward(*weights, *inputs)
        context.activations = list(network)[1::2]
        context.num_codes, context.dtype, context.parameter_dtype = len(codes), codes.dtype, parameters[0].dtype
        logits = output.float() if dtype.itemsize < 4 else output
        log_odds = logits[:, 0] - logits[:, 1]
        return log_odds[: len(codes)].clone(), log_odds

    @staticmethod
    @once_differentiable
    def backward(context: Any, of_codes: Tensor | None, of_all: Tensor | None) -> tuple[Tensor | None, ...]:
        count = len(context.activations) + 1
        weights, inputs = context.saved_tensors[:count], context.saved_tensors[count:]
        rows = len(inputs[0]) if of_all is not None else context.num_codes
        # The gradient of each row's log odds, and what it has to be multiplied by for the weights.
        one = weights[0].new_ones(rows, 1)
        gradient = torch.cat([one, -one], dim=1)
        factor = None if of_all is None else of_all.to(weights[0].dtype)[:, None]
        of_parameters: list[Tensor | None] = [None] * (2 * count)
        for index in reversed(range(count)):
            if factor is not None:
                own = factor * gradient
                of_parameters[2 * index] = (own.T @ inputs[index]).to(context.parameter_dtype)
                of_parameters[2 * index + 1] = own.sum(dim=0).to(context.parameter_dtype)
            if index > 0:
                activation = context.activations[index - 1]
                gradient = _BACK[type(activation)](activation, gradient @ weights[index], inputs[index][:rows])
        if of_codes is None:
            return (None, None, None, *of_parameters)
        to_codes = of_codes[:, None] * (gradient[: context.num_codes] @ weights[0]).to(context.dtype)
        return (to_codes, None, None, *of_parameters)
