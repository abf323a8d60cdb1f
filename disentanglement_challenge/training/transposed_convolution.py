"""Accelerate transposed convolutions with 4x4 kernels and stride two, which double an image's sides, on a CPU.

A transposed convolution is a convolution's gradient of its input, so its own gradients are that convolution's forward
pass and its gradient of the weight (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning",
chapter 4, https://arxiv.org/abs/1603.07285). PyTorch's kernels are quicker at these two than at the gradients of a
transposed convolution, most of all in bfloat16.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

aten: Any = torch.ops.aten

# PyTorch's kernel computes blocks of 16 channels. Four or fewer leave most of a block empty, and make 16 at the most of
# the convolution that `interleaved` is.
_FEW_CHANNELS = 4


@contextmanager
def composed_transposed_convolutions(network: nn.Module) -> Iterator[None]:
    """Compute the network's layers that satisfy `doubles_sides` with `double_sides`, inside the block.

    The layers themselves stay PyTorch's, as they are kept and exported.
    """
    layers = [layer for layer in network.modules() if doubles_sides(layer)]
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def doubles_sides(layer: nn.Module) -> TypeGuard[nn.ConvTranspose2d]:
    """Return whether a layer is a plain transposed convolution with a 4x4 kernel, stride two and padding one."""
    return (
        type(layer) is nn.ConvTranspose2d
        and layer.kernel_size == (4, 4)
        and layer.stride == (2, 2)
        and layer.padding == (1, 1)
        and layer.output_padding == (0, 0)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and "forward" not in vars(layer)
    )


def _forward(layer: nn.ConvTranspose2d, features: Tensor, output_size: list[int] | None = None) -> Tensor:
    if output_size is not None or features.dim() != 4:
        return nn.ConvTranspose2d.forward(layer, features, output_size)
    return double_sides(features, layer.weight, layer.bias)


def double_sides(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `conv_transpose2d(features, weight, bias, stride=2, padding=1)`, differentiable once.

    Args:
        features: [B, C, H, W].
        weight: [C, D, 4, 4].
        bias: [D], or None.

    Returns:
        [B, D, 2H, 2W], in autocast's precision where that is on.
    """
    kind = features.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype
    return _DoubleSides.apply(features.to(dtype), weight.to(dtype), bias if bias is None else bias.to(dtype))


class _DoubleSides(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(features, weight)
        if weight.shape[1] <= _FEW_CHANNELS:
            return interleaved(features, weight, bias)
        return functional.conv_transpose2d(features, weight, bias, stride=2, padding=1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = context.saved_tensors
        to_features, to_weight, to_bias = context.needs_input_grad
        return (
            functional.conv2d(gradient, weight, stride=2, padding=1) if to_features else None,
            _gradient_of_weight(features, gradient, weight) if to_weight else None,
            gradient.sum(dim=(0, 2, 3)) if to_bias else None,
        )


def _gradient_of_weight(gradient: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """Return the weight's gradient in `conv2d(inputs, weight, stride=2, padding=1)`, from the output's gradient."""
    stride, padding, dilation = [2, 2], [1, 1], [1, 1]
    mask = [False, True, False]
    return aten.convolution_backward(gradient, inputs, weight, None, stride, padding, dilation, False, [0, 0], 1, mask)[
        1
    ]


def interleaved(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `conv_transpose2d(features, weight, bias, stride=2, padding=1)` as a convolution and a pixel shuffle.

    Pixel 2i + a of the output, counted from a row above it, has tap 2 + a of the kernel from pixel i - 1 of the input
    and tap a from pixel i. So for each of two a, in both directions, it is a 2x2 convolution, and four of them
    interleave to the output (Shi et al., "Is the deconvolution layer the same as a convolutional layer?",
    https://arxiv.org/abs/1609.07009).
    """
    outputs = weight.shape[1]
    # Along each side of the kernel [pixel, a], where the last two of the four taps are those of pixel i - 1.
    kernel = weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).flip(2, 4)
    kernel = kernel.permute(3, 5, 1, 0, 2, 4).flatten(0, 2)
    four = functional.conv2d(features, kernel, bias if bias is None else bias.repeat(4), padding=1)
    # [B, row's a, column's a, D, H + 1, W + 1], and in the order of channels last, which is the quickest to write.
    rows = four.unflatten(1, (2, 2, outputs)).permute(0, 4, 1, 5, 2, 3)
    return rows.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)[:, :, 1:-1, 1:-1]
