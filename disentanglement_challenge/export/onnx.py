"""The representation function as an ONNX model, run by ONNX Runtime on the CPU."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from disentanglement_challenge.errors import RepresentationError, lines_of
from disentanglement_challenge.export.metadata import METADATA, Metadata
from disentanglement_challenge.export.program import export_program


def onnx_bytes(model: nn.Module, images: Tensor, metadata: Metadata | None) -> bytes:
    """Return the content of an .onnx file of the model, for any number of images.

    Args:
        model: the model in evaluation mode.
        images: float32 [N, channels, height, width]; all sizes but N are fixed in the file.
        metadata: written into the model's metadata.

    Raises:
        RepresentationError: the model cannot be captured, or uses an operator that ONNX does not have.
    """
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = registry.level
    registry.setLevel(logging.ERROR)  # it warns of each function of torchvision, which is not installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch uses its own deprecated functions
            exported = torch.onnx.export(
                export_program(model, images),
                dynamo=True,
                input_names=["images"],
                output_names=["representation"],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise RepresentationError(f"cannot export {type(model).__name__} to ONNX: {lines_of(error)[0]}") from error
    finally:
        registry.setLevel(before)
    assert exported is not None  # PyTorch returns None only if it writes a file
    proto = exported.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del part.metadata_props[:]  # the exporter's notes contain paths of this machine
    if metadata is not None:
        onnx.helper.set_model_props(proto, {METADATA: metadata.to_json()})
    return bytes(proto.SerializeToString())


def load_onnx(path: Path) -> nn.Module:
    """Load an .onnx file as a module from images to representations, on the CPU.

    Raises:
        RepresentationError: it is damaged, needs other files, or has other inputs than one tensor of float32 images.
    """
    content = path.read_bytes()
    tensors = (part for part in _parts(_parsed(path, content)) if isinstance(part, onnx.TensorProto))
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise RepresentationError(f"{path} has tensors in other files, which are never read; save them in the model")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")  # the same bytes as parsed above
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # the error contains what it would print
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's many types of error have no other common base
        reason = " ".join(str(error).split())
        raise RepresentationError(f"cannot run {path} as an ONNX model: {reason:.200}") from error
    inputs = session.get_inputs()
    if [value.type for value in inputs] != ["tensor(float)"]:
        kinds = ", ".join(value.type for value in inputs) or "nothing"
        raise RepresentationError(f"{path} has the inputs {kinds}; it must have one, tensor(float) of images")
    return _Session(session, inputs[0].name)


def read_onnx_metadata(path: Path) -> Metadata | None:
    """Read the metadata that `onnx_bytes` wrote, or return None.

    Raises RepresentationError if the file is damaged, and ValueError if the metadata are invalid.
    """
    proto = _parsed(path, path.read_bytes())
    texts = [entry.value for entry in proto.metadata_props if entry.key == METADATA]
    return Metadata.from_json(texts[0]) if texts else None


def _parsed(path: Path, content: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's
        raise RepresentationError(f"{path} is not an ONNX model: {' '.join(str(error).split()):.200}") from error


def _parts(message: Any) -> Iterator[Any]:
    """Yield the message and all messages in it, as attributes, loops and functions contain tensors too."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _parts(part)


class _Session(nn.Module):
    is_on_cpu = True  # even if `make_representor` is told to use CUDA

    def __init__(self, session: onnxruntime.InferenceSession, input_name: str) -> None:
        super().__init__()
        self._session = session
        self._input_name = input_name

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, C, H, W], on any device, to representations [N, num_latent] on the CPU."""
        (output, *others) = self._session.run(None, {self._input_name: images.cpu().contiguous().numpy()})
        if others:
            raise ValueError(f"it returns {1 + len(others)} tensors; it must return one, the representation")
        return torch.from_numpy(output)
