"""Compute both gradients of a discriminator in one backward pass.

Encoder and decoder need the gradient of the codes' logits, for the codes alone: half of the rows that the
discriminator sees. The discriminator needs that of its own loss, for its weights, over all rows. Both losses depend on
a row's two logits through their difference alone, so on the way back through the layers both gradients of a row are the
same one times a number each: the gradient of the difference itself, which goes back once.
"""

from collections.abc import Callable, Sequence
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
    kind = codes.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else codes.dtype
    parameters = [parameter.to(dtype) for parameter in network.parameters()]
    with torch.autocast(kind, enabled=False):
        of_codes, of_all, *_ = _Discriminate.apply(codes, others, list(network)[1::2], *parameters)
    return of_codes, of_all


class _Discriminate(torch.autograd.Function):
    """`discriminate` as autograd takes it, in the parameters' type; what goes into each layer comes along.

    All tensors may have one more dimension in front, of as many networks, each with rows of its own: that is what
    `torch.vmap` makes of it.
    """

    @staticmethod
    def forward(
        codes: Tensor, others: Tensor, activations: Sequence[nn.Module], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        inputs = [torch.cat([codes, others], dim=-2).to(parameters[0].dtype)]
        for weight, bias, activation in zip(parameters[::2], parameters[1::2], activations, strict=False):
            inputs.append(activation(_dense(inputs[-1], weight, bias)))
        logits = _dense(inputs[-1], *parameters[-2:])
        logits = logits.float() if logits.dtype.itemsize < 4 else logits
        log_odds = logits[..., 0] - logits[..., 1]
        return log_odds[..., : codes.shape[-2]].clone(), log_odds, *inputs

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        codes, _, context.activations, *parameters = inputs
        context.set_materialize_grads(False)  # a pass back for one of the two computes nothing for the other
        context.mark_non_differentiable(*output[2:])
        context.save_for_backward(*parameters[::2], *output[2:])
        context.num_codes, context.dtype = codes.shape[-2], codes.dtype

    @staticmethod
    @once_differentiable
    def backward(
        context: Any, of_codes: Tensor | None, of_all: Tensor | None, *of_inputs: None
    ) -> tuple[Tensor | None, ...]:
        count = len(context.activations) + 1
        weights, inputs = context.saved_tensors[:count], context.saved_tensors[count:]
        rows = inputs[0].shape[-2] if of_all is not None else context.num_codes
        # The gradient of each row's log odds, and what it has to be multiplied by for the weights.
        one = inputs[0].new_ones(*inputs[0].shape[:-2], rows, 1)
        gradient = torch.cat([one, -one], dim=-1)
        factor = None if of_all is None else of_all.to(weights[0].dtype)[..., None]
        of_parameters: list[Tensor | None] = [None] * (2 * count)
        for index in reversed(range(count)):
            if factor is not None:
                own = factor * gradient
                of_parameters[2 * index] = own.mT @ inputs[index]
                of_parameters[2 * index + 1] = own.sum(dim=-2)
            if index > 0:
                activation, output = context.activations[index - 1], inputs[index][..., :rows, :]
                gradient = _BACK[type(activation)](activation, gradient @ weights[index], output)
        if of_codes is None:
            return (None, None, None, *of_parameters)
        to_codes = of_codes[..., None] * (gradient[..., : context.num_codes, :] @ weights[0]).to(context.dtype)
        return (to_codes, None, None, *of_parameters)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        codes: Tensor,
        others: Tensor,
        activations: Sequence[nn.Module],
        *parameters: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        def in_front(tensor: Tensor, dim: int | None) -> Tensor:
            return tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)

        of_codes, of_others, _, *of_parameters = in_dims
        stacked = map(in_front, parameters, of_parameters)
        outputs = _Discriminate.apply(in_front(codes, of_codes), in_front(others, of_others), activations, *stacked)
        return outputs, (0,) * len(outputs)


def _dense(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a dense layer to rows [B, inputs], or N layers, [N, outputs, inputs], to their own rows [N, B, inputs]."""
    if weight.dim() == 2:
        return functional.linear(rows, weight, bias)
    return torch.baddbmm(bias.unsqueeze(-2), rows, weight.mT)
