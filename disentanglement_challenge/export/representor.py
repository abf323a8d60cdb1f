"""A loaded model as the function that disentanglement_lib's metrics call (the starter kit's `make_representor`)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from disentanglement_challenge.environment import use_cuda
from disentanglement_challenge.errors import RepresentationError, lines_of

RepresentationFunction = Callable[[NDArray[Any]], NDArray[Any]]
"""Observations [N, ...] to representations [N, num_latent]."""


def make_representor(model: nn.Module, cuda: bool | None = None) -> RepresentationFunction:
    """Makes the representation function that disentanglement_lib's metrics call.

    Args:
        model: a module from float32 [N, channels, height, width] to [N, num_latent].
        cuda: whether to run on CUDA; by default `use_cuda()`.

    Returns:
        A function from a float ndarray [N, height, width, channels] in [0, 1] to a float32 ndarray [N, num_latent].
        It raises RepresentationError for any other input, and where the model's answer has another shape or a value
        that is not finite.
    """
    device = torch.device("cuda" if (use_cuda() if cuda is None else cuda) else "cpu")
    model = model.to(device).eval()

    layouts = [torch.channels_last, torch.contiguous_format]  # as the images lie, which is the faster, and the other

    def compute(inputs: torch.Tensor) -> object:
        try:
            return model(inputs.contiguous(memory_format=layouts[0]))
        except Exception as error:  # The model is somebody's own code, which may raise anything.
            if len(layouts) > 1:
                # Such as the kit's own example, which flattens by `view`, and that wants channels first.
                del layouts[0]
                return compute(inputs)
            # TorchScript reports the failing operation in its last line and its own trace in the others.
            reason = lines_of(error)[-1]
            raise RepresentationError(f"the model fails on images {tuple(inputs.shape)}: {reason:.300}") from error

    def representation_function(images: NDArray[Any]) -> NDArray[Any]:
        inputs = torch.from_numpy(np.moveaxis(check_images(images), 3, 1)).to(device, torch.float32)
        with torch.no_grad():
            return check_representation(compute(inputs), len(images))

    return representation_function


def encoding_batch(representation_function: object) -> int:
    return 1024 if use_cuda() else 64


def module_representor(module: nn.Module) -> RepresentationFunction:
    return make_representor(module)


def check_images(images: object) -> NDArray[Any]:
    """The images, if they are a float ndarray [N, height, width, channels]; raises RepresentationError otherwise."""
    if not isinstance(images, np.ndarray):
        raise RepresentationError(f"a representation is computed from an ndarray, not from {type(images).__name__}")
    if not np.issubdtype(images.dtype, np.floating):
        raise RepresentationError(
            f"a representation is computed from floats in [0, 1], not from {images.dtype}; divide bytes by 255"
        )
    if images.ndim != 4:
        raise RepresentationError(
            f"a representation is computed from images (N, height, width, channels), not from shape {images.shape}"
        )
    return images


def check_representation(representation: object, num_images: int) -> NDArray[np.float32]:
    """What a model returned, as float32 [num_images, num_latent]; raises RepresentationError if it is anything else."""
    if not isinstance(representation, torch.Tensor):
        raise RepresentationError(
            f"the model returns {type(representation).__name__}; it must be one tensor (N, num_latent)"
        )
    if representation.ndim != 2 or len(representation) != num_images or representation.shape[1] == 0:
        raise RepresentationError(
            f"the model maps {num_images} images to shape {tuple(representation.shape)}; "
            f"it must be ({num_images}, num_latent)"
        )
    if not representation.is_floating_point():
        raise RepresentationError(f"the model returns {representation.dtype}; it must be a float tensor")
    if not torch.isfinite(representation).all():
        raise RepresentationError("the model's representation holds NaN or infinity; it cannot be scored")
    return representation.float().cpu().numpy()
