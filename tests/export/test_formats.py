"""torch.export programs and ONNX models: the content of the files; both compute the module's output."""

import hashlib
import json
import os
import warnings
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from encoders import SCRIPTED
from messages import facts
from torch import nn

from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.export.metadata import Metadata
from disentanglement_challenge.export.model_file import export_model, import_model, read_metadata
from disentanglement_challenge.export.representor import make_representor
from disentanglement_challenge.models import MeanEncoder
from disentanglement_challenge.models.encoders import conv_encoder, fc_encoder, residual_encoder

SHAPE = (3, 64, 64)
METADATA = Metadata.of("mpi3d_real", 5, "encoder.num_latent = 5\n")


class ManyOperators(nn.Module):
    """Operators of other people's networks: sizes from the images, constants, operators with several outputs."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), self.norm, nn.SiLU(), nn.AdaptiveAvgPool2d(3))
        self.dropout = nn.Dropout(0.5)
        self.scale = torch.tensor([0.5, 2.0, -1.0])

    def forward(self, images):
        pooled = self.layers(images)
        first, second = self.dropout(pooled).view(images.shape[0], -1).chunk(2, dim=1)
        ones = torch.ones(images.shape[0], 2, dtype=images.dtype, device=images.device)
        return torch.cat([first[:, :3] * self.scale, second, ones], dim=1)


MODELS = {
    "conv": lambda: MeanEncoder(conv_encoder(SHAPE, 5, activation="leaky_relu")),
    "wide": lambda: MeanEncoder(conv_encoder(SHAPE, 300, width=0.5)),
    "fc": lambda: MeanEncoder(fc_encoder(SHAPE, 5, activation="elu", width=0.05)),
    "residual": lambda: MeanEncoder(residual_encoder(SHAPE, 5, base_channels=4)),
    "channels last": lambda: MeanEncoder(conv_encoder(SHAPE, 5)).to(memory_format=torch.channels_last),
    "another's": ManyOperators,
}


def model_of(kind):
    torch.manual_seed(0)
    return MODELS[kind]().eval()


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
@pytest.mark.parametrize("kind", MODELS)
def test_every_format_computes_what_the_module_does_and_says_where_it_is_from(tmp_path, kind, suffix):
    model = model_of(kind)
    path = tmp_path / f"model{suffix}"
    assert export_model(model, path, metadata=METADATA) == str(path)
    representation_function = make_representor(import_model(path))
    for batch_size in (1, 2, 17):
        images = np.random.RandomState(batch_size).rand(batch_size, 64, 64, 3).astype(np.float32)
        with torch.no_grad():
            expected = model(torch.from_numpy(np.moveaxis(images, 3, 1).copy())).numpy()
        np.testing.assert_allclose(representation_function(images), expected, rtol=1e-4, atol=1e-5)
    assert read_metadata(path) == METADATA
    assert METADATA.gin_config_sha256 == hashlib.sha256(b"encoder.num_latent = 5\n").hexdigest()
    # A published file contains no paths of the machine where it was made.
    assert os.path.dirname(__file__).encode() not in path.read_bytes()
    assert os.path.dirname(nn.__file__).encode() not in path.read_bytes()


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_a_model_without_metadata_has_none(tmp_path, suffix):
    assert read_metadata(export_model(model_of("conv"), tmp_path / f"model{suffix}")) is None


def test_the_libraries_own_loaders_read_the_files_too(tmp_path):
    model, images = model_of("conv"), torch.rand(7, *SHAPE)
    expected = model(images).detach().numpy()
    program = torch.export.load(export_model(model, tmp_path / "model.pt2"))
    np.testing.assert_allclose(program.module()(images).detach().numpy(), expected, atol=1e-6)
    path = export_model(model, tmp_path / "model.onnx", metadata=METADATA)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    (computed,) = session.run(["representation"], {"images": images.numpy()})
    np.testing.assert_allclose(computed, expected, atol=1e-5)
    written = session.get_modelmeta().custom_metadata_map["disentanglement_challenge.json"]
    assert json.loads(written)["dataset"] == "mpi3d_real"


def test_a_program_that_pytorch_wrote_by_itself_is_read(tmp_path):
    """The file has sample inputs, which are a pickle and are ignored."""
    model = model_of("another's")
    sizes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.export.export(model, (torch.rand(3, *SHAPE),), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "model.pt2")
    images = torch.rand(5, *SHAPE)
    assert torch.allclose(import_model(tmp_path / "model.pt2")(images), model(images), atol=1e-6)


@pytest.mark.parametrize("kind", ["ByHand", "Norms", "Transformer", "ResNet", "Recurrent", "Resized", "Frequencies"])
@pytest.mark.parametrize("is_decomposed", [False, True])
def test_a_program_of_what_people_write_is_read(tmp_path, kind, is_decomposed):
    """Infinite constants (masks) are strings in the format; core ATen has other operators."""
    torch.manual_seed(0)
    model = SCRIPTED[kind]().eval()
    shape = (3, 4, 16) if kind == "Recurrent" else (3, 16, 16)  # a program has each step of a sequence
    program = torch.export.export(model, (torch.rand(3, *shape),), dynamic_shapes=({0: torch.export.Dim("N", min=1)},))
    torch.export.save(program.run_decompositions() if is_decomposed else program, tmp_path / "model.pt2")
    images = torch.rand(5, *shape)
    with torch.no_grad():
        assert torch.allclose(import_model(tmp_path / "model.pt2")(images), model(images), atol=1e-5)


def edited(path, entry, edit):
    """Rewrite an entry of the archive, with a correct check sum."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, edit(content) if name.partition("/")[2] == entry else content)


def edited_json(path, entry, edit):
    def change(content):
        parsed = json.loads(content)
        edit(parsed)
        return json.dumps(parsed).encode()

    edited(path, entry, change)


def first_node(program):
    return program["graph_module"]["graph"]["nodes"][0]


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten._print.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.__class__.mro",
        "torch.ops.aten.conv2d",
        "_operator.methodcaller",
        "torch.ops.higher_order.cond",
        "os.system",
    ],
)
def test_a_program_calls_nothing_but_operators(tmp_path, target):
    path = export_model(model_of("conv"), tmp_path / "model.pt2")
    edited_json(path, "models/model.json", lambda program: first_node(program).update(target=target))
    with pytest.raises(RepresentationError, match=facts(path, target, "torch.ops.aten")):
        import_model(path)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda program: program["schema_version"].update(major=9), ["version is 9", 8]),
        (lambda program: program["graph_module"]["signature"]["input_specs"].pop(), ["0 inputs"]),
        (lambda program: first_node(program)["inputs"][0].update(arg={"as_graph": {}}), ["as_graph"]),
        (lambda program: program.pop("graph_module"), ["graph_module"]),
        (lambda program: program["graph_module"].update(signature=[]), []),
    ],
)
def test_a_program_that_is_something_else_is_one_line(tmp_path, edit, said):
    path = export_model(model_of("conv"), tmp_path / "model.pt2")
    edited_json(path, "models/model.json", edit)
    with pytest.raises(RepresentationError, match=facts(path, "torch.export", *said)) as raised:
        import_model(path)
    assert "\n" not in str(raised.value)


def weights(edit):
    return lambda configuration: edit(configuration["config"]["encoder.z_mean.weight"])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (weights(lambda weight: weight.update(use_pickle=True)), ["'encoder.z_mean.weight'", "pickle"]),
        (weights(lambda weight: weight["tensor_meta"]["sizes"][0].update(as_int=1 << 40)), []),
        (weights(lambda weight: weight["tensor_meta"].update(dtype=99)), [99]),
        (weights(lambda weight: weight.update(path_name="../../secret")), ["secret"]),
        (weights(lambda weight: weight["tensor_meta"]["storage_offset"].update(as_int=-1)), []),
    ],
)
def test_weights_that_are_something_else_are_one_line(tmp_path, edit, said):
    path = export_model(model_of("conv"), tmp_path / "model.pt2")
    edited_json(path, "data/weights/model_weights_config.json", edit)
    with pytest.raises(RepresentationError, match=facts(path, "torch.export", *said)) as raised:
        import_model(path)
    assert "\n" not in str(raised.value)


def test_a_program_that_lacks_a_value_fails_in_one_line(tmp_path):
    path = export_model(model_of("conv"), tmp_path / "model.pt2")
    edit = {"arg": {"as_tensor": {"name": "nowhere"}}}
    edited_json(path, "models/model.json", lambda program: first_node(program)["inputs"][0].update(edit))
    with pytest.raises(RepresentationError, match="nowhere") as raised:
        make_representor(import_model(path))(np.zeros((1, 64, 64, 3)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_damaged_archive_is_told_by_its_sums(tmp_path, suffix):
    """One bit, in the middle of the weights: PyTorch's own reader loads it."""
    path = tmp_path / f"model{suffix}"
    export_model(model_of("wide"), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RepresentationError, match=str(path)):
        import_model(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_damaged_archive_that_is_compressed_is_one_line(tmp_path, suffix, compression):
    path = tmp_path / f"model{suffix}"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("m/data.pkl", os.urandom(1000))
    content = bytearray(path.read_bytes())
    start = content.find(b"data.pkl") + len("data.pkl")
    content[start + 4 : start + 60] = b"\xff" * 56
    path.write_bytes(content)
    with pytest.raises(RepresentationError, match=facts(path, "damaged")) as raised:
        import_model(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"model{suffix}"
    monkeypatch.setattr("disentanglement_challenge.export.archive.MAX_BYTES", 100 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(200 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(RepresentationError, match=facts(path, "0.2 GB", "0.1 GB")):
        import_model(path)


def onnx_model(tmp_path, inputs, nodes, initializers=()):
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def as_initializer(weights):
    return [onnx.helper.make_node("Add", ["x", "w"], ["y"])], [weights]


def in_an_attribute(weights):
    constant = onnx.helper.make_node("Constant", [], ["w"], value=weights)
    return [constant, onnx.helper.make_node("Add", ["x", "w"], ["y"])], []


def in_a_branch(weights):
    output = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [12])
    nodes, initializers = [onnx.helper.make_node("Add", ["x", "w"], ["z"])], [weights]
    branch = onnx.helper.make_graph(nodes, "branch", [], [output], initializers)
    condition = onnx.helper.make_tensor("c", onnx.TensorProto.BOOL, [], [True])
    return [onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], [condition]


@pytest.mark.parametrize("place", [as_initializer, in_an_attribute, in_a_branch])
def test_an_onnx_model_reads_no_other_file(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)  # ONNX Runtime would read files below it
    (tmp_path / "weights").write_bytes(bytes(4 * 12))
    weights = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [12], np.zeros(12, np.float32))
    del weights.float_data[:]
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights")
    images = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [12])
    path = onnx_model(tmp_path, [images], *place(weights))
    with pytest.raises(RepresentationError, match=facts(path, "other files")) as raised:
        import_model(path)
    assert "\n" not in str(raised.value)


def test_an_onnx_model_takes_images_and_nothing_else(tmp_path):
    both = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in "ab"]
    path = onnx_model(tmp_path, both, [onnx.helper.make_node("Add", ["a", "b"], ["y"])])
    with pytest.raises(RepresentationError, match=facts(path, "tensor(float), tensor(float)", "one")):
        import_model(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04K\x01."])
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_what_is_no_model_is_one_line(tmp_path, suffix, content):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(RepresentationError, match=str(path)) as raised:
        import_model(path)
    assert "\n" not in str(raised.value)
    if suffix == ".pt2" or content:  # an empty file is an empty ONNX model
        with pytest.raises(RepresentationError, match=str(path)):
            read_metadata(path)


def test_a_format_under_anothers_suffix_is_named(tmp_path):
    path = tmp_path / "model.pt2"
    export_model(model_of("conv"), path.with_suffix(".pt"))
    path.with_suffix(".pt").rename(path)
    with pytest.raises(RepresentationError, match=facts(path, "torch.export", "TorchScript", ".pt")):
        import_model(path)


class MeansAndVariances(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :4], images.flatten(1)[:, 4:8]


class Argmax(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :4].argmax(1, keepdim=True)


@pytest.mark.parametrize(
    ("model", "said"),
    [(MeansAndVariances(), ["tuple", "one tensor"]), (Argmax(), ["int64", "float tensor"])],
)
@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_what_is_no_representation_is_one_line_and_leaves_no_file(tmp_path, suffix, model, said):
    with pytest.raises(RepresentationError, match=facts(*said)):
        export_model(model, tmp_path / f"model{suffix}")
    assert not list(tmp_path.iterdir())


class FailsWhenCaptured(nn.Module):
    """A module that fails with an empty message when it is captured, as a layer with an assertion may."""

    def forward(self, images):
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            raise AssertionError
        return images.flatten(1)[:, :4]


class NeedsItsWeights(nn.Module):
    """A module whose control flow depends on the images, which cannot be captured."""

    def forward(self, images):
        return images.flatten(1)[:, :4] if images.sum() > 0 else images.flatten(1)[:, 4:8]


@pytest.mark.parametrize(
    ("model", "suffix"),
    [
        (NeedsItsWeights(), ".pt2"),
        (NeedsItsWeights(), ".onnx"),
        (FailsWhenCaptured(), ".pt"),
        (FailsWhenCaptured(), ".pt2"),
    ],
)
def test_what_cannot_be_captured_is_one_line_and_leaves_no_file(tmp_path, model, suffix):
    with pytest.raises(RepresentationError, match=rf"cannot (export|trace) {type(model).__name__}") as raised:
        export_model(model, tmp_path / f"model{suffix}")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_metadata_of_another_kind_is_one_line(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.trace(nn.Flatten(), torch.zeros(1, *SHAPE))
        script.save(tmp_path / "model.pt", _extra_files={"disentanglement_challenge.json": '{"dataset": 3}'})
    with pytest.raises(RepresentationError, match=facts(tmp_path / "model.pt", "num_latent, gin_config_sha256")):
        read_metadata(tmp_path / "model.pt")
