"""A model as the function that disentanglement_lib's metrics call (the starter kit's `make_representor`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from disentanglement_challenge.arithmetic import float32_products
from disentanglement_challenge.data.batches import divided
from disentanglement_challenge.environment import use_cuda
from disentanglement_challenge.errors import RepresentationError, lines_of

RepresentationFunction = Callable[[NDArray[Any]], NDArray[Any]]
"""Observations [N, ...] to representations [N, num_latent]. Those made here, and `Sandbox`, have a `device`."""


def make_representor(model: nn.Module, cuda: bool | None = None) -> RepresentationFunction:
    """Makes the representation function that disentanglement_lib's metrics call.

    Args:
        model: a module from float32 [N, channels, height, width] to [N, num_latent]; it is moved to the device and set
            to evaluation mode.
        cuda: whether to run on CUDA; by default `use_cuda()`.

    Returns:
        A function from a float ndarray [N, height, width, channels] in [0, 1] to a float32 ndarray [N, num_latent],
        computed in IEEE float32. It raises RepresentationError for any other input, and where the model's answer has
        another shape or a value that is not finite.
    """
    on_cuda = (use_cuda() if cuda is None else cuda) and not getattr(model, "is_on_cpu", False)
    device = torch.device("cuda" if on_cuda else "cpu")
    return _Representor(model.to(device).eval(), device, torch.float32)


def module_representor(module: nn.Module) -> RepresentationFunction:
    """Makes the representation function of a module that is in use, which is left as it is.

    It computes what `make_representor` computes from the module's exported file.

    Args:
        module: from [N, channels, height, width] to [N, num_latent], on its own device and in its own floating-point
            type, which are those of its first parameter or buffer: CPU and float32 where it has none. In each call it
            is in evaluation mode, and afterwards in the mode that it was in.

    Returns:
        As `make_representor`.
    """
    tensors = list(chain(module.parameters(), module.buffers()))
    device = tensors[0].device if tensors else torch.device("cpu")
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    return _Representor(module, device, dtype)


def encoding_batch(representation_function: RepresentationFunction) -> int:
    """How many images to encode at once, for the device that the function computes on; the CPU's where it says none."""
    # Measured with conv_encoder on 2 cores: 22,000 images a second at 64, 8,300 at 512, whose activations leave the
    # caches. A GPU wants enough images to fill it.
    device = getattr(representation_function, "device", torch.device("cpu"))
    return 1024 if torch.device(device).type == "cuda" else 64


class _Representor:
    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self._model = model
        self._dtype = dtype
        # As the images lie, which is the faster, and the other.
        self._layouts = [torch.channels_last, torch.contiguous_format]

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        inputs = torch.from_numpy(np.moveaxis(_readable(check_images(images)), 3, 1))
        with torch.no_grad(), _ieee_float32(self.device), _evaluating(self._model):
            before = self._versions()
            representation = check_representation(self._compute(inputs), len(images))
            if self._versions() != before:
                raise RepresentationError(
                    "the model changes its own parameters or buffers as it computes; it must be a function of the image"
                )
            return representation

    def _versions(self) -> list[int]:
        """How often the state of a scripted model, which anybody may have written, was changed in place."""
        if not isinstance(self._model, torch.jit.ScriptModule):
            return []
        return [tensor._version for tensor in (*self._model.parameters(), *self._model.buffers())]

    @property
    def takes_pixels(self) -> bool:
        """Whether bytes are better than floats: they travel to a GPU in a quarter of the time."""
        return self.device.type == "cuda"

    def prepare(self, pixels: NDArray[Any]) -> Tensor:
        """Images [N, height, width, channels] in units of 1/255, ready to travel to the device; by any thread."""
        ready = torch.from_numpy(_readable_pixels(pixels))
        return ready.pin_memory() if self.device.type == "cuda" else ready

    def encode_pixels(self, prepared: Tensor) -> NDArray[np.float32]:
        """What a call makes of the same images as floats, to the last bit; they are divided on the device."""
        with torch.no_grad(), _ieee_float32(self.device), _evaluating(self._model):
            inputs = divided(prepared.to(self.device, non_blocking=True)).permute(0, 3, 1, 2)
            return check_representation(self._compute(inputs), len(prepared))

    def _compute(self, inputs: Tensor) -> object:
        # A model may work in place: each call of it, the second attempt too, gets a copy.
        copy = inputs.to(self.device, self._dtype, memory_format=self._layouts[0], copy=True)
        try:
            return self._model(copy)
        except Exception as error:  # The model is somebody's own code, which may raise anything.
            if len(self._layouts) > 1:
                # Such as the kit's own example, which flattens by `view`, and that wants channels first.
                del self._layouts[0]
                return self._compute(inputs)
            # TorchScript reports the failing operation in its last line and its own trace in the others.
            reason = lines_of(error)[-1]
            raise RepresentationError(f"the model fails on images {tuple(inputs.shape)}: {reason:.300}") from error


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
    codes = representation.float()  # in which float64 may be infinite
    if not torch.isfinite(codes).all():
        raise RepresentationError("the model's representation holds NaN or infinity in float32; it cannot be scored")
    return codes.cpu().numpy()


def _readable_pixels(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(pixels) if pixels.flags.writeable else pixels.copy()


def _readable(images: NDArray[Any]) -> NDArray[Any]:
    """The images as PyTorch takes them: of a dtype that it has, writable, and not reversed along an axis."""
    if images.dtype not in (np.float16, np.float32, np.float64):
        images = images.astype(np.float64)
    if not images.flags.writeable or any(stride < 0 for stride in images.strides):
        images = images.copy()
    return images


@contextmanager
def _ieee_float32(device: torch.device) -> Iterator[None]:
    """Products and sums of float32 as IEEE 754 has them, whatever training or the caller set; put back at the end.

    On NVIDIA's GPUs PyTorch's default for convolutions is TF32, and on the CPU a caller may ask for bfloat16.
    """
    with float32_products(), torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and afterwards each of its modules in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
