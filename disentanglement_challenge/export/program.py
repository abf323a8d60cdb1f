"""The representation function as a torch.export program (.pt2), written by PyTorch and read without its loader.

`torch.export.load` unpickles sample inputs and constants, evaluates text of the file as expressions, and calls any
function below `torch` that the file names. This reader accepts the part of the format (PyTorch's
torch/_export/serde/schema.py, major version 8) that plain networks need: tensors are bytes, the graph is JSON, and
operators are ATen's. Anything else is refused by name.
"""

import io
import json
import operator
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from disentanglement_challenge.errors import RepresentationError, lines_of
from disentanglement_challenge.export.archive import read_archive
from disentanglement_challenge.export.metadata import METADATA, Metadata
from disentanglement_challenge.export.operators import is_allowed

_SCHEMA_MAJOR = 8
_OPERATOR = re.compile(r"torch\.ops\.aten\.([a-zA-Z0-9_]+)\.([a-zA-Z0-9_]+)")
# Operators that only exporters write, in addition to those that any model may call.
_WRITTEN_BY_EXPORTERS = {
    "_assert_async", "_assert_scalar", "_assert_tensor_metadata", "_linalg_det", "_linalg_eigh", "_linalg_slogdet",
    "_linalg_solve_ex", "_linalg_svd", "_native_batch_norm_legit_functional", "_to_copy", "rrelu_with_noise_functional",
    "as_strided_copy", "detach_copy", "diagonal_copy", "expand_copy", "narrow_copy", "permute_copy", "select_copy",
    "slice_copy", "split_copy", "split_with_sizes_copy", "squeeze_copy", "sym_constrain_range",
    "sym_constrain_range_for_size", "sym_is_contiguous", "sym_numel", "sym_size", "sym_storage_offset", "sym_stride",
    "t_copy", "transpose_copy", "unbind_copy", "unfold_copy", "unsqueeze_copy", "view_copy",
}  # fmt: skip
_PYTHON_OPERATORS = {
    f"_operator.{function.__name__}": function
    for function in (operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.neg)
}
# Dtypes by the format's numbers.
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_MEMORY_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
# Kinds of arguments that are used unchanged, and those that `_argument` converts.
_PLAIN = {"as_int", "as_ints", "as_string", "as_bool", "as_bools"}
_READ = {
    "as_device", "as_float", "as_floats", "as_layout", "as_memory_format", "as_none", "as_optional_tensor",
    "as_optional_tensors", "as_scalar_type", "as_sym_int", "as_sym_ints", "as_tensor", "as_tensors",
}  # fmt: skip


def export_program(model: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    """Capture the model as a program for any number of images; raise RepresentationError if that fails.

    Args:
        model: the model in evaluation mode; its weights are made contiguous.
        images: float32 [N, channels, height, width]; all sizes but N are fixed in the program.
    """
    try:
        # PyTorch warns when it writes weights in another memory format, such as channels last.
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # Capturing with one image would give a program for exactly one image.
        example = images[:1].expand(2, *images.shape[1:]).contiguous()
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("N", min=1)},))
    except Exception as error:  # capturing runs the caller's own code, which may raise anything
        raise RepresentationError(
            f"cannot export {type(model).__name__} with torch.export: {lines_of(error)[0]}"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains paths of this machine
    return program


def program_bytes(model: nn.Module, images: Tensor, metadata: Metadata | None) -> bytes:
    """Return the content of a .pt2 file of the model; arguments and errors are those of `export_program`."""
    program = export_program(model, images)
    # Example inputs would be written as a pickle.
    program._example_inputs = None
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: metadata.to_json()} if metadata else {})
    return buffer.getvalue()


def load_program(path: Path) -> nn.Module:
    """Load a .pt2 file as a module from images to representations, on the CPU.

    Raises:
        RepresentationError: it is damaged, or has a part that this reader does not accept.
    """
    entries = read_archive(path)
    if "archive_format" not in entries or "models/model.json" not in entries:
        raise RepresentationError(f"{path} is not a torch.export program; TorchScript files must end in .pt")
    try:
        return _Program(entries)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RepresentationError(f"cannot read the torch.export program {path}: {reason:.200}") from error


class _Program(nn.Module):
    """A module that runs the file's graph, operator by operator."""

    def __init__(self, entries: dict[str, bytes]) -> None:
        super().__init__()
        content = json.loads(entries["models/model.json"])
        version = content["schema_version"]["major"]
        if version != _SCHEMA_MAJOR:
            raise ValueError(f"its format's major version is {version}; it must be {_SCHEMA_MAJOR}")
        graph = content["graph_module"]["graph"]
        stored = {
            **_tensors(entries, "weights", "model_weights"),
            **_tensors(entries, "constants", "model_constants"),
        }

        self._inputs: dict[str, str] = {}
        images = []
        for specification in content["graph_module"]["signature"]["input_specs"]:
            ((kind, value),) = specification.items()
            if kind == "user_input":
                images.append(value["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                buffer = f"tensor_{len(self._inputs)}"
                self.register_buffer(buffer, stored[value[f"{kind}_name"]])
                self._inputs[value["arg"]["name"]] = buffer
            else:
                raise ValueError(f"it has an input of kind {kind!r}, which is not supported")
        if len(images) != 1:
            raise ValueError(f"it has {len(images)} inputs; it must have one, the images")
        (self._images,) = images
        outputs = [
            (kind, value)
            for specification in content["graph_module"]["signature"]["output_specs"]
            for kind, value in specification.items()
            if kind != "user_input_mutation"  # it changes its input, which is a copy for each call
        ]
        if [kind for kind, _ in outputs] != ["user_output"]:
            kinds = ", ".join(kind for kind, _ in outputs)
            raise ValueError(f"it has outputs of the kinds {kinds}; it must have one tensor, the representation")
        self._output = outputs[0][1]["arg"]["as_tensor"]["name"]
        self._nodes = [_Node(node) for node in graph["nodes"]]

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, C, H, W] to representations [N, num_latent]."""
        values: dict[str, Any] = {name: getattr(self, buffer) for name, buffer in self._inputs.items()}
        values[self._images] = images
        for node in self._nodes:
            node.run(values, images.device)
        output: Tensor = values[self._output]
        return output


class _Node:
    """One operator of the graph, with the names of its inputs and outputs."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.function = _function(content["target"])
        self.arguments = [
            (argument["name"] if argument["kind"] == 2 else None, *_only(argument["arg"]))
            for argument in content["inputs"]
        ]
        self.results: list[str] = []
        self.is_tuple = len(content["outputs"]) != 1
        for kind, value in map(_only, content["outputs"]):
            if kind == "as_tensors":
                self.is_tuple = True
                self.results += [tensor["name"] for tensor in value]
            elif kind in ("as_tensor", "as_sym_int"):
                self.results.append(value["name" if kind == "as_tensor" else "as_name"])
            else:
                raise ValueError(f"{content['target']} returns {kind}, which is not supported")

    def run(self, values: dict[str, Any], device: torch.device) -> None:
        positional, named = [], {}
        for name, kind, value in self.arguments:
            if name is None:
                positional.append(_argument(kind, value, values, device))
            else:
                named[name] = _argument(kind, value, values, device)
        result = self.function(*positional, **named)
        values.update(zip(self.results, result if self.is_tuple else [result], strict=True))


def _only(union: dict[str, Any]) -> tuple[str, Any]:
    ((kind, value),) = union.items()
    if kind not in _PLAIN | _READ:
        raise ValueError(f"it uses {kind}, which is not supported")
    return kind, value


def _argument(kind: str, value: Any, values: dict[str, Any], device: torch.device) -> Any:
    if kind in _PLAIN:
        return value
    if kind == "as_float":
        return float(value)  # JSON has no infinity; the format uses the string "-Infinity"
    if kind in ("as_floats", "as_tensors", "as_optional_tensors", "as_sym_ints"):
        return [_argument(kind[:-1], item, values, device) for item in value]
    if kind == "as_tensor":
        return values[value["name"]]
    if kind == "as_optional_tensor":
        return None if "as_none" in value else values[value["as_tensor"]["name"]]
    if kind == "as_sym_int":
        return value["as_int"] if "as_int" in value else values[value["as_name"]]
    if kind == "as_scalar_type":
        return _DTYPES[value]
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[value]
    # Layouts are strided; the program creates tensors on the images' device.
    return {"as_none": None, "as_layout": torch.strided, "as_device": device}[kind]


def _function(target: str) -> Any:
    if target in _PYTHON_OPERATORS:
        return _PYTHON_OPERATORS[target]
    match = _OPERATOR.fullmatch(target)
    name, overload = match.groups() if match else ("", "")
    function = getattr(getattr(torch.ops.aten, name, None), overload, None) if match else None
    is_run = (
        isinstance(function, torch._ops.OpOverload)
        # Operators without overloads are only TorchScript's, such as `save`, which writes files.
        and torch._C._dispatch_has_kernel(function.name())
        and (name in _WRITTEN_BY_EXPORTERS or is_allowed(f"aten::{name}"))
    )
    if not is_run:
        raise ValueError(f"it calls {target!r:.100}; only operators of torch.ops.aten are allowed")
    return function


def _tensors(entries: dict[str, bytes], folder: str, name: str) -> dict[str, Tensor]:
    """Return the tensors of one of the archive's folders, by their names in its configuration."""
    tensors = {}
    for tensor, payload in json.loads(entries[f"data/{folder}/{name}_config.json"])["config"].items():
        if payload["use_pickle"]:
            raise ValueError(f"its tensor {tensor!r} is a pickle, which is never loaded here")
        meta = payload["tensor_meta"]
        content = bytearray(entries[f"data/{folder}/{payload['path_name']}"])
        size, stride = ([number["as_int"] for number in meta[key]] for key in ("sizes", "strides"))
        dtype, offset = _DTYPES[meta["dtype"]], meta["storage_offset"]["as_int"]
        flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        tensors[tensor] = torch.as_strided(flat, size, stride, offset)
    return tensors
