"""The representation function as a file: TorchScript out, TorchScript in, and never a pickle.

Signatures are the starter kit's (utils_pytorch.py).
"""

import copy
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from disentanglement_challenge.environment import get_config, use_cuda
from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import make_folder, replacing

PathLike = str | os.PathLike[str]
RepresentationFunction = Callable[[NDArray[Any]], NDArray[Any]]
"""Observations [N, ...] to representations [N, num_latent]."""


def get_model_path(base_path: PathLike | None = None, experiment_name: str | None = None, make: bool = True) -> str:
    """Where the evaluator looks for the model: base_path/experiment_name/representation/pytorch_model.pt.

    Args:
        base_path: defaults to AICROWD_OUTPUT_PATH.
        experiment_name: defaults to AICROWD_EVALUATION_NAME.
        make: whether to create the folder, and the results folder beside the model.

    Raises:
        OutputError: a folder cannot be created.
    """
    config = get_config()
    base = config.base_path if base_path is None else base_path
    name = config.experiment_name if experiment_name is None else experiment_name
    experiment = Experiment(Path(base) / name)
    if make:
        make_folder(experiment.representation_results)
    return str(experiment.model)


def export_model(
    model: nn.Module,
    path: PathLike | None = None,
    input_shape: Sequence[int] = (1, 3, 64, 64),
    use_script_module: bool = True,
    images: torch.Tensor | None = None,
) -> str:
    """Writes the model as TorchScript, on the CPU and in evaluation mode, and returns the path.

    The written file is loaded back and must compute what the model computes, one image at a time and all at once,
    before it takes its place; whatever stood there stays until then.

    Args:
        model: a module from float32 [N, channels, height, width] to float32 [N, num_latent]; traced unless it is a
            ScriptModule already. It is left as it was.
        path: defaults to `get_model_path()`.
        input_shape: shape to trace and check with.
        use_script_module: must be True. The kit wrote a pickle of the module otherwise, which nothing here would load.
        images: float32 images to check with, of any number; by default three of uniform noise.

    Raises:
        RepresentationError: the model cannot be traced, or the file does not compute what the model does.
        OutputError: the file cannot be written.
    """
    if not use_script_module:
        raise RepresentationError(
            "use_script_module=False would write a pickle, which is never loaded here; leave it at True"
        )
    target = Path(get_model_path() if path is None else path)
    model = copy.deepcopy(model).cpu().eval()
    if images is None:
        images = torch.rand(3, *input_shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), _torchscript_warnings_off():
        script = model if isinstance(model, torch.jit.ScriptModule) else _trace(model, input_shape)
        with replacing(target) as temporary:
            torch.jit.save(script, str(temporary))
            _check(import_model(temporary), model, images)
    return str(target)


def _trace(model: nn.Module, input_shape: Sequence[int]) -> torch.jit.ScriptModule:
    try:
        return torch.jit.trace(model, torch.zeros(*input_shape))
    except Exception as error:  # Tracing runs the caller's own code, which may raise anything.
        message = str(error).strip().splitlines()[0]
        raise RepresentationError(
            f"{type(model).__name__} cannot be traced on {tuple(input_shape)}: {message}"
        ) from error


def _check(loaded: torch.jit.ScriptModule, model: nn.Module, images: torch.Tensor) -> None:
    expected = model(images)
    if expected.ndim != 2 or len(expected) != len(images):
        raise RepresentationError(
            f"{type(model).__name__} maps {tuple(images.shape)} to {tuple(expected.shape)}; it must be (N, num_latent)"
        )
    at_once = loaded(images)
    one_by_one = torch.cat([loaded(images[i : i + 1]) for i in range(len(images))])
    for computed in (at_once, one_by_one):
        # The same arithmetic in another batch size may round differently, and no more than that.
        if computed.shape != expected.shape or not torch.allclose(computed, expected, rtol=1e-3, atol=1e-4):
            raise RepresentationError(
                f"the exported file does not compute what {type(model).__name__} computes; "
                "does its forward depend on the batch?"
            )


def import_model(path: PathLike | None = None) -> torch.jit.ScriptModule:
    """Loads a TorchScript representation function onto the CPU; `path` defaults to `get_model_path()`.

    Nothing is unpickled: a file written by `torch.save(model)` is refused, as loading one runs whatever code it holds.

    Raises:
        RepresentationError: there is no such file, or it is not TorchScript.
    """
    target = Path(get_model_path(make=False) if path is None else path)
    if not target.is_file():
        raise RepresentationError(f"no model at {target}; train one first, or name the experiment that has one")
    try:
        with _torchscript_warnings_off():
            return torch.jit.load(str(target), map_location="cpu").eval()
    except (RuntimeError, ValueError, EOFError) as error:
        raise RepresentationError(f"{target} is not TorchScript: {_what_is(target)}") from error


def _what_is(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        pickled = any(name.endswith("data.pkl") for name in names)
    except (zipfile.BadZipFile, OSError):
        with path.open("rb") as file:
            pickled = file.read(1) == b"\x80"
    if pickled:
        return "it is a pickle (torch.save), which is never loaded here; write it with export_model"
    return "it is damaged, or something else; write it with export_model"


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

    def representation_function(images: NDArray[Any]) -> NDArray[Any]:
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
        inputs = torch.from_numpy(np.moveaxis(images, 3, 1)).to(device, torch.float32)
        with torch.no_grad():
            try:
                representation = model(inputs)
            except Exception as error:  # The model is somebody's own code, which may raise anything.
                # TorchScript reports the failing operation in its last line and its own trace in the others.
                message = str(error).strip().splitlines()[-1]
                raise RepresentationError(f"the model fails on images {tuple(inputs.shape)}: {message}") from error
        return _checked(representation, len(images))

    return representation_function


def _checked(representation: object, num_images: int) -> NDArray[Any]:
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


@contextmanager
def _torchscript_warnings_off() -> Iterator[None]:
    # TorchScript is deprecated upstream; it is what the challenge's evaluator loads.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit")
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*deprecated.*")
        yield
