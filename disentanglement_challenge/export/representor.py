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
"""Maps observations [N, ...] to representations [N, num_latent]; those made here, and `Sandbox`, have a `device`."""


def make_representor(model: nn.Module, cuda: bool | None = None) -> RepresentationFunction:
    """Make the representation function that disentanglement_lib's metrics call.

    Args:
        model: a module from float32 [N, channels, height, width] to [N, num_latent]; it is moved to the device and set
            to evaluation mode.
        cuda: whether to run on CUDA; by default `use_cuda()`.

    Returns:
        A function from a float ndarray [N, height, width, channels] in [0, 1] to a float32 ndarray [N, num_latent],
        computed in IEEE float32. It raises RepresentationError for any other input, or if the model's output has
        another shape or is not finite.
    """
    on_cuda = (use_cuda() if cuda is None else cuda) and not getattr(model, "is_on_cpu", False)
    device = torch.device("cuda" if on_cuda else "cpu")
    return _Representor(model.to(device).eval(), device, torch.float32)


def module_representor(module: nn.Module) -> RepresentationFunction:
    """Make the representation function of a module in use, without changing the module.

    Its output equals that of `make_representor` for the module's exported file.

    Args:
        module: a module from [N, channels, height, width] to [N, num_latent]. Its device and floating-point type are
            those of its first parameter or buffer; without any, CPU and float32. Each call sets evaluation mode, and
            restores the previous mode afterwards.

    Returns:
        A function like `make_representor`'s.
    """
    tensors = list(chain(module.parameters(), module.buffers()))
    device = tensors[0].device if tensors else torch.device("cpu")
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    return _Representor(module, device, dtype)


def encoding_batch(representation_function: RepresentationFunction) -> int:
    """Return the batch size for encoding on the function's device; by default the CPU's."""
    # Measured with conv_encoder on 2 cores: 22,000 images a second with 64, but 8,300 with 512, whose activations
    # exceed the caches. A GPU needs enough images to fill it.
    device = getattr(representation_function, "device", torch.device("cpu"))
    return 1024 if torch.device(device).type == "cuda" else 64


class _Representor:
    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self._model = model
        self._dtype = dtype
        # The memory formats to try: that of the images, which is faster, then the other.
        self._layouts = [torch.channels_last, torch.contiguous_format]

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        inputs = torch.from_numpy(np.moveaxis(_readable(check_images(images)), 3, 1))
        with torch.no_grad(), _ieee_float32(self.device), _evaluating(self._model):
            before = self._versions()
            representation = check_representation(self._compute(inputs), len(images))
            if self._versions() != before:
                raise RepresentationError(
                    "the model changes its parameters or buffers when it runs; it must be a function of the image"
                )
            return representation

    def _versions(self) -> list[int]:
        """Return the in-place change counters of a scripted model's state, as anybody may have written the model."""
        if not isinstance(self._model, torch.jit.ScriptModule):
            return []
        return [tensor._version for tensor in (*self._model.parameters(), *self._model.buffers())]

    @property
    def takes_pixels(self) -> bool:
        """Return whether to send bytes instead of floats, which takes a quarter of the time to a GPU."""
        return self.device.type == "cuda"

    def prepare(self, pixels: NDArray[Any]) -> Tensor:
        """Return images [N, height, width, channels] in units of 1/255, ready to be sent to the device; thread-safe."""
        ready = torch.from_numpy(_readable_pixels(pixels))
        return ready.pin_memory() if self.device.type == "cuda" else ready

    def encode_pixels(self, prepared: Tensor) -> NDArray[np.float32]:
        """Encode prepared images, divided on the device; equals a call with the same images as floats, bit for bit."""
        with torch.no_grad(), _ieee_float32(self.device), _evaluating(self._model):
            inputs = divided(prepared.to(self.device, non_blocking=True)).permute(0, 3, 1, 2)
            return check_representation(self._compute(inputs), len(prepared))

    def _compute(self, inputs: Tensor) -> object:
        # A model may change its input, so each call, including the second attempt, gets a copy.
        copy = inputs.to(self.device, self._dtype, memory_format=self._layouts[0], copy=True)
        try:
            return self._model(copy)
        except Exception as error:  # the model's own code may raise anything
            if len(self._layouts) > 1:
                # The kit's own example, for instance, flattens with `view`, which needs channels first.
                del self._layouts[0]
                return self._compute(inputs)
            # TorchScript reports the failing operation in its last line, after its own trace.
            reason = lines_of(error)[-1]
            raise RepresentationError(f"the model fails on images {tuple(inputs.shape)}: {reason:.300}") from error


def check_images(images: object) -> NDArray[Any]:
    """Return the images; raise RepresentationError unless they are a float ndarray [N, height, width, channels]."""
    if not isinstance(images, np.ndarray):
        raise RepresentationError(f"the images are {type(images).__name__}; they must be an ndarray")
    if not np.issubdtype(images.dtype, np.floating):
        raise RepresentationError(
            f"the images are {images.dtype}; they must be floats in [0, 1], so divide bytes by 255"
        )
    if images.ndim != 4:
        raise RepresentationError(f"the images have shape {images.shape}; it must be (N, height, width, channels)")
    return images


def check_representation(representation: object, num_images: int) -> NDArray[np.float32]:
    """Return a model's output as float32 [num_images, num_latent]; raise RepresentationError if it is anything else."""
    if not isinstance(representation, torch.Tensor):
        raise RepresentationError(
            f"the model returns {type(representation).__name__}; it must return one tensor (N, num_latent)"
        )
    if representation.ndim != 2 or len(representation) != num_images or representation.shape[1] == 0:
        raise RepresentationError(
            f"the model returns shape {tuple(representation.shape)} for {num_images} images; "
            f"it must be ({num_images}, num_latent)"
        )
    if not representation.is_floating_point():
        raise RepresentationError(f"the model returns {representation.dtype}; it must return a float tensor")
    codes = representation.float()  # large float64 values become infinite
    if not torch.isfinite(codes).all():
        raise RepresentationError(
            "the model's representation has NaN or infinite values in float32; all must be finite"
        )
    return codes.detach().cpu().numpy()  # a model may compute gradients of its own


def _readable_pixels(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(pixels) if pixels.flags.writeable else pixels.copy()


def _readable(images: NDArray[Any]) -> NDArray[Any]:
    """Convert images for PyTorch: to a supported dtype, writable, and not reversed along an axis."""
    if images.dtype not in (np.float16, np.float32, np.float64):
        images = images.astype(np.float64)
    if not images.flags.writeable or any(stride < 0 for stride in images.strides):
        images = images.copy()
    return images


@contextmanager
def _ieee_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 as in IEEE 754 inside the block, whatever training or the caller has set.

    On NVIDIA GPUs PyTorch's default for convolutions is TF32, and on the CPU a caller may choose bfloat16.
    """
    with float32_products(), torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set the model to evaluation mode inside the block; restore the mode of each of its modules afterwards."""
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
