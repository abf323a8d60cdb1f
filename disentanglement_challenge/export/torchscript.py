"""The representation function as TorchScript, which the challenge's evaluator loads."""

import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from disentanglement_challenge.errors import RepresentationError, lines_of
from disentanglement_challenge.export.archive import read_archive
from disentanglement_challenge.export.metadata import METADATA, Metadata
from disentanglement_challenge.export.torchscript_code import Refused, check_code, check_graphs, graph_nodes
from disentanglement_challenge.export.torchscript_pickle import check_pickle

_C: Any = torch._C  # its stubs are wrong about the functions used here

# The entries that PyTorch's loader reads (torch/csrc/jit/serialization/import.cpp).
_READ = re.compile(r"version|\.data/version|byteorder|data\.pkl|constants\.pkl|(?:data|constants)/\d+")
_CODE = re.compile(r"code/.*\.py", re.DOTALL)


def torchscript_bytes(model: nn.Module, images: Tensor, metadata: Metadata | None) -> bytes:
    """Return the content of a TorchScript file of the model.

    Args:
        model: the model in evaluation mode; traced on `images` unless it is a ScriptModule.
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


def load_torchscript(path: Path, is_confined: bool = False) -> nn.Module:
    """Load a TorchScript file onto the CPU, after checking that its code only computes with tensors.

    Args:
        path: the file, which is read once; PyTorch gets these bytes.
        is_confined: whether the process is confined, so that the model may call any operator.

    Raises:
        RepresentationError: the file is not TorchScript, is damaged, or its code is refused.
    """
    try:
        entries = read_archive(path)
    except RepresentationError:
        if zipfile.is_zipfile(path):
            raise
        entries = {}
    if "constants.pkl" not in entries:
        raise RepresentationError(f"{path} is not TorchScript: {_what_is(path, entries)}")
    try:
        if not is_confined:
            _check(entries)
        unit = _C.CompilationUnit()
        with _torchscript_warnings_off():  # `torch.jit.load` does the same, but does not return the compilation unit
            module = _C.import_ir_module_from_buffer(unit, _archive(entries), torch.device("cpu"), {}, False)
        if not is_confined:
            check_graphs(unit.get_functions())
        _compute_in_float32(unit.get_functions())
        return torch.jit._recursive.wrap_cpp_module(module)
    except Refused as error:
        raise RepresentationError(
            f"{path} {lines_of(error)[0]}; a model may only compute with tensors: export it again without this, or "
            "score it with run.py --sandbox, in a confined process (Linux 5.13 or newer)"
        ) from error
    except (RuntimeError, ValueError, EOFError, RecursionError, MemoryError) as error:
        raise RepresentationError(f"{path} is not TorchScript: {_what_is(path, entries)}") from error


def _compute_in_float32(functions: Iterable[Any]) -> None:
    """Forbid TF32 in traced convolutions, which otherwise use the setting at the time of tracing on a GPU."""
    for function in functions:
        for node in graph_nodes(function.graph):
            if node.kind() == "aten::_convolution" and node.inputsSize() == 13:  # the last is allow_tf32
                function.graph.setInsertPoint(node)
                node.replaceInput(12, function.graph.insertConstant(False))


def _check(entries: dict[str, bytes]) -> None:
    check_code({name.removeprefix("code/"): entries[name] for name in entries if _CODE.fullmatch(name)})
    num_bytes = {name: len(content) for name, content in entries.items()}
    for folder in ("constants", "data"):
        check_pickle(entries.get(f"{folder}.pkl", b""), folder, num_bytes)


def _archive(entries: dict[str, bytes]) -> bytes:
    """Make a new archive with only the entries that PyTorch reads, so that its reader finds nothing else.

    Positions in the exporter's source files are left out: they appear in error messages, and are further pickles.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            if _READ.fullmatch(name) or _CODE.fullmatch(name):
                archive.writestr(f"model/{name}", content)
    return buffer.getvalue()


def _trace(model: nn.Module, images: Tensor) -> torch.jit.ScriptModule:
    try:
        return torch.jit.trace(model, images)
    except Exception as error:  # tracing runs the caller's own code, which may raise anything
        raise RepresentationError(
            f"cannot trace {type(model).__name__} on images {tuple(images.shape)}: {lines_of(error)[0]}"
        ) from error


def _what_is(path: Path, entries: dict[str, bytes]) -> str:
    if "model.json" in entries:
        return "it has the format of PyTorch before 1.4; load it in PyTorch 1.4 or older and save it again"
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    if is_pickle or ("data.pkl" in entries and "constants.pkl" not in entries):
        return "it is a pickle (torch.save), which is never loaded here; export the model with export_model"
    return "it is damaged or another kind of file; export the model with export_model"


@contextmanager
def _torchscript_warnings_off() -> Iterator[None]:
    # PyTorch deprecates TorchScript, but the challenge's evaluator needs it.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.jit")
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*deprecated.*")
        yield
