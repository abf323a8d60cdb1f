"""The representation function as TorchScript, which the challenge's evaluator loads."""

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from disentanglement_challenge.errors import RepresentationError, lines_of
from disentanglement_challenge.export.archive import read_names
from disentanglement_challenge.export.metadata import METADATA, Metadata


def torchscript_bytes(model: nn.Module, images: Tensor, metadata: Metadata | None) -> bytes:
    """The model as the content of a TorchScript file.

    Args:
        model: in evaluation mode; traced on `images` unless it is a ScriptModule already.
        images: float32 [N, channels, height, width].
        metadata: written into the file.

    Raises:
        RepresentationError: the model cannot be traced.
    """
    buffer = io.BytesIO()
    with _torchscript_warnings_off():
        script = model if isinstance(model, torch.jit.ScriptModule) else _trace(model, images)
        torch.jit.save(script, buffer, {METADATA: metadata.to_json()} if metadata else None)
    return buffer.getvalue()


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Loads a TorchScript file onto the CPU.

    Raises:
        RepresentationError: it is not TorchScript, or damaged.
    """
    try:
        names = read_names(path)
    except RepresentationError:
        if zipfile.is_zipfile(path):
            raise
        names = []
    try:
        with _torchscript_warnings_off():
            return torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, EOFError) as error:
        raise RepresentationError(f"{path} is not TorchScript: {_what_is(path, names)}") from error


def _trace(model: nn.Module, images: Tensor) -> torch.jit.ScriptModule:
    try:
        return torch.jit.trace(model, images)
    except Exception as error:  # Tracing runs the caller's own code, which may raise anything.
        raise RepresentationError(
            f"{type(model).__name__} cannot be traced on {tuple(images.shape)}: {lines_of(error)[0]}"
        ) from error


def _what_is(path: Path, names: list[str]) -> str:
    is_zipped_pickle = any(name.endswith("/data.pkl") for name in names)
    is_torchscript = any(name.endswith("/constants.pkl") for name in names)
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    if is_pickle or (is_zipped_pickle and not is_torchscript):
        return "it is a pickle (torch.save), which is never loaded here; write it with export_model"
    return "it is damaged, or something else; write it with export_model"


@contextmanager
def _torchscript_warnings_off() -> Iterator[None]:
    # TorchScript is deprecated upstream; it is what the challenge's evaluator loads.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit")
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*deprecated.*")
        yield
