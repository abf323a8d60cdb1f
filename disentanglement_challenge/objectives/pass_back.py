"""Both gradients of a discriminator in one pass back.

Encoder and decoder need the gradient of the codes' logits, for the codes alone: half of the rows that the
discriminator sees. The discriminator needs that of its own loss, for its weights, over all rows. Through every layer
both are the same product with the same weights, so here they go back as rows of one matrix.
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
    """Whether a network is a sequence of dense layers with activations between, which `discriminate` can take.

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
    """Logits of codes and of others, from one pass through the network.

    Args:
        network: for which `is_plain` is true.
        codes: [B, D].
        others: [N, D], taken without gradient.

    Returns:
        [B, 2], the logits of the codes, whose gradient reaches the codes and no weight; and [B + N, 2], the logits of
        both, whose gradient reaches the weights and no code.
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
        return logits[: len(codes)].clone(), logits

    @staticmethod
    @once_differentiable
    def backward(context: Any, of_codes: Tensor | None, of_all: Tensor | None) -> tuple[Tensor | None, ...]:
        count = len(context.activations) + 1
        weights, inputs = context.saved_tensors[:count], context.saved_tensors[count:]
        on_top = context.num_codes if of_codes is not None else 0  # the rows whose gradient goes on to the codes
        gradient = torch.cat([part for part in (of_codes, of_all) if part is not None]).to(weights[0].dtype)
        of_parameters: list[Tensor | None] = [None] * (2 * count)
        for index in reversed(range(count)):
            if of_all is not None:
                own = gradient[on_top:]
                of_parameters[2 * index] = (own.T @ inputs[index]).to(context.parameter_dtype)
                of_parameters[2 * index + 1] = own.sum(dim=0).to(context.parameter_dtype)
            if index > 0:
                # Those of the codes, then all: as the gradient's.
                rows = inputs[index] if of_all is not None else inputs[index][:0]
                rows = torch.cat([inputs[index][:on_top], rows])
                activation = context.activations[index - 1]
                gradient = _BACK[type(activation)](activation, gradient @ weights[index], rows)
        to_codes = (gradient[:on_top] @ weights[0]).to(context.dtype) if on_top else None
        return (to_codes, None, None, *of_parameters)
