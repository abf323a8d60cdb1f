"""The representation function as a file: TorchScript (the challenge's format), torch.export or ONNX; never a pickle.

The file's suffix determines the format. Signatures are the starter kit's (utils_pytorch.py).
"""

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import gin
import torch
from torch import nn

from disentanglement_challenge.arithmetic import float32_products
from disentanglement_challenge.environment import get_config
from disentanglement_challenge.errors import ConfigError, RepresentationError, lines_of
from disentanglement_challenge.experiment import MODEL_SUFFIXES, Experiment
from disentanglement_challenge.export.archive import read_archive_metadata
from disentanglement_challenge.export.metadata import Metadata
from disentanglement_challenge.export.program import load_program, program_bytes
from disentanglement_challenge.export.representor import check_representation
from disentanglement_challenge.export.torchscript import load_torchscript, torchscript_bytes
from disentanglement_challenge.extras import require_extra
from disentanglement_challenge.files import is_file, make_folder, replacing

PathLike = str | os.PathLike[str]


def get_model_path(base_path: PathLike | None = None, experiment_name: str | None = None, make: bool = True) -> str:
    """Return the evaluator's path of the model: base_path/experiment_name/representation/pytorch_model.pt.

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
    metadata: Metadata | None = None,
) -> str:
    """Write the model, on the CPU and in evaluation mode, and return the path.

    The written file is loaded back and must give the model's output, for single images and for a batch. Only then it
    replaces an existing file.

    Args:
        model: a module from float32 [N, channels, height, width] to float32 [N, num_latent]; it is traced unless it is
            a ScriptModule. It is not changed.
        path: defaults to `get_model_path()`. The suffixes .pt2 and .onnx give torch.export and ONNX, others
            TorchScript.
        input_shape: the shape to trace and check with.
        use_script_module: must be True. With False the kit wrote a pickle of the module, which is never loaded here.
        images: any number of float32 images to check with; by default three of uniform noise.
        metadata: written into the file, for `read_metadata`.

    Raises:
        RepresentationError: the model's output is invalid, it cannot be exported, or the file's output differs.
        OutputError: the file cannot be written.
    """
    if not use_script_module:
        raise RepresentationError(
            "use_script_module is False, which would write a pickle; pickles are never loaded, so it must be True"
        )
    target = Path(get_model_path() if path is None else path)
    try:
        model = copy.deepcopy(model).cpu().eval()
    except RuntimeError as error:  # of a tensor with a history
        raise RepresentationError(f"{type(model).__name__} cannot be copied: {lines_of(error)[0]}") from error
    if images is None:
        images = torch.rand(3, *input_shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # each call gets its own copy of the images, as a model may change them
        with _as_scored():
            expected = _representation(model, images)
        with replacing(target) as temporary:
            temporary.write_bytes(_format(target).to_bytes(model, images.new_zeros(*input_shape), metadata))
            try:
                loaded = _format(target).load(temporary)
            except RepresentationError as error:
                raise RepresentationError(str(error).replace(str(temporary), str(target))) from error
            with _as_scored():
                _check(loaded, model, images, expected)
    return str(target)


@contextmanager
def _as_scored() -> Iterator[None]:
    """Compute in IEEE float32 inside the block; not for use around torch.export, which reads older settings."""
    with float32_products(), torch.autocast("cpu", enabled=False):
        yield


def import_model(path: PathLike | None = None) -> nn.Module:
    """Load a representation function onto the CPU; `path` defaults to `get_model_path()`.

    Nothing is unpickled: a file of `torch.save(model)` is refused, as loading it could run any code.

    Returns:
        A module from float32 [N, channels, height, width] to [N, num_latent]; a ScriptModule, except for .pt2 and .onnx
        files.

    Raises:
        RepresentationError: the file is missing, or does not have the format of its suffix.
    """
    target = Path(get_model_path(make=False) if path is None else path)
    return _format(target).load(_existing(target)).eval()


def import_confined(path: Path) -> nn.Module:
    """Load a model like `import_model`, but allow all operators; for use in a confined process."""
    load = _format(path).load
    return (partial(load_torchscript, is_confined=True) if load is load_torchscript else load)(_existing(path)).eval()


def read_metadata(path: PathLike) -> Metadata | None:
    """Return the metadata that `export_model` wrote into the file; None if it has none.

    Raises:
        RepresentationError: the file is missing or damaged, or its metadata are invalid.
    """
    target = Path(path)
    try:
        return _format(target).read_metadata(_existing(target))
    except ValueError as error:
        raise RepresentationError(f"{target}: {error}") from error


@gin.configurable("export", allowlist=["formats"])
def more_formats(formats: Sequence[str] = ()) -> list[str]:
    """Return the suffixes, without the dot, of the formats that a training run exports in addition to TorchScript.

    Raises:
        ConfigError: a format is unknown, or its packages are not installed.
    """
    known = [suffix.removeprefix(".") for suffix in MODEL_SUFFIXES[1:]]
    if not isinstance(formats, list | tuple) or not all(suffix in known for suffix in formats):
        listed = " and ".join(map(repr, known))
        raise ConfigError(f"export.formats is {formats!r}; it must be a list of {listed}, or empty")
    if "onnx" in formats:
        require_extra("onnx", "an ONNX model")
    return list(dict.fromkeys(formats))


class _Format(NamedTuple):
    to_bytes: Callable[[nn.Module, torch.Tensor, Metadata | None], bytes]
    load: Callable[[Path], nn.Module]
    read_metadata: Callable[[Path], Metadata | None]


def _format(path: Path) -> _Format:
    if path.suffix == ".onnx":
        require_extra("onnx", "an ONNX model")
        # Importing it takes a second, so import it only when it is used.
        from disentanglement_challenge.export.onnx import load_onnx, onnx_bytes, read_onnx_metadata

        return _Format(onnx_bytes, load_onnx, read_onnx_metadata)
    if path.suffix == ".pt2":
        return _Format(program_bytes, load_program, read_archive_metadata)
    return _Format(torchscript_bytes, load_torchscript, read_archive_metadata)


def _existing(path: Path) -> Path:
    try:
        if is_file(path):
            path.open("rb").close()
            return path
    except OSError as error:
        raise RepresentationError(f"cannot read {path}: {error.strerror}") from error
    if os.path.lexists(path):
        raise RepresentationError(f"{path} is a directory or a broken link; expected a model file")
    raise RepresentationError(f"there is no model {path}; train one first, or name an experiment with a model")


def _representation(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    try:
        representation = model(images.clone())
    except Exception as error:  # the caller's own code may raise anything
        reason = lines_of(error)[-1]
        raise RepresentationError(f"{type(model).__name__} fails on images {tuple(images.shape)}: {reason}") from error
    check_representation(representation, len(images))
    return representation


def _check(loaded: nn.Module, model: nn.Module, images: torch.Tensor, expected: torch.Tensor) -> None:
    try:
        at_once = loaded(images.clone())
        one_by_one = torch.cat([loaded(images[i : i + 1].clone()) for i in range(len(images))])
    except Exception as error:  # a model traced with one batch size may fail in many ways at another
        reason = lines_of(error)[-1]
        raise RepresentationError(
            f"the exported file of {type(model).__name__} fails with another batch size: {reason:.300}"
        ) from error
    for computed in (at_once, one_by_one):
        # With another batch size the same arithmetic may round differently; larger differences are errors.
        if computed.shape != expected.shape or not torch.allclose(computed, expected, rtol=1e-3, atol=1e-4):
            raise RepresentationError(
                f"the output of the exported file differs from that of {type(model).__name__}; its forward may depend "
                "on the batch"
            )
