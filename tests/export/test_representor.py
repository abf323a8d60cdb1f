"""The representation function: copies for models that change their input, IEEE float32, the device, modules in use."""

import warnings

import numpy as np
import pytest
import torch
from encoders import SCRIPTED, Standardised
from messages import facts
from torch import Tensor, nn

from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.export import representor
from disentanglement_challenge.export.model_file import export_model, import_model
from disentanglement_challenge.export.representor import encoding_batch, make_representor, module_representor
from disentanglement_challenge.export.sandbox import Sandbox
from disentanglement_challenge.models import MeanEncoder
from disentanglement_challenge.models.encoders import conv_encoder, fc_encoder, residual_encoder

IMAGES = np.random.RandomState(0).rand(5, 16, 16, 3).astype(np.float32)
MEAN, STD = np.float32([0.4, 0.5, 0.6]), np.float32([0.2, 0.3, 0.25])
# `Standardised` in NumPy.
STANDARDISED = np.moveaxis((IMAGES - MEAN) / STD, 3, 1).reshape(5, -1)[:, ::97]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [lambda m: make_representor(m, cuda=False), module_representor])
def test_a_model_that_works_in_place_gets_a_copy_in_each_attempt(make, dtype):
    """The first attempt, channels last, fails at `.view` after the model has changed its images."""
    images = IMAGES.astype(dtype)
    representation_function = make(Standardised())
    for _ in range(3):  # the first batch needs two attempts
        np.testing.assert_allclose(representation_function(images), STANDARDISED, atol=1e-6)
        np.testing.assert_array_equal(images, IMAGES)


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_a_model_that_works_in_place_is_exported(tmp_path, suffix):
    path = export_model(Standardised(), tmp_path / f"model{suffix}", (1, 3, 16, 16))
    images = IMAGES.copy()
    representation_function = make_representor(import_model(path), cuda=False)
    for _ in range(2):
        np.testing.assert_allclose(representation_function(images), STANDARDISED, atol=1e-6)
    np.testing.assert_array_equal(images, IMAGES)
    with Sandbox(tmp_path / f"model{suffix}") as sandbox:
        for _ in range(2):
            np.testing.assert_allclose(sandbox(images), STANDARDISED, atol=1e-6)
    np.testing.assert_array_equal(images, IMAGES)


def test_exporting_leaves_the_callers_images(tmp_path):
    images = torch.from_numpy(np.moveaxis(IMAGES, 3, 1).copy())
    before = images.clone()
    export_model(Standardised(), tmp_path / "model.pt", (1, 3, 16, 16), images=images)
    assert torch.equal(images, before)


def test_a_program_whose_graph_says_that_it_works_in_place_is_read(tmp_path):
    """In a program of run_decompositions(), the changed images are another output."""
    sizes = ({0: torch.export.Dim("N", min=1)},)
    program = torch.export.export(Standardised(), (torch.rand(3, 3, 16, 16),), dynamic_shapes=sizes)
    torch.export.save(program.run_decompositions(), tmp_path / "model.pt2")
    representation_function = make_representor(import_model(tmp_path / "model.pt2"), cuda=False)
    for _ in range(2):
        np.testing.assert_allclose(representation_function(IMAGES), STANDARDISED, atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [IMAGES[::-1], IMAGES[:, :, ::-1], IMAGES.astype(">f4"), IMAGES.astype(np.longdouble), np.asfortranarray(IMAGES)],
)
def test_images_lie_in_memory_as_they_like(images):
    expected = np.moveaxis((images.astype(np.float32) - MEAN) / STD, 3, 1).reshape(5, -1)[:, ::97]
    np.testing.assert_allclose(make_representor(Standardised(), cuda=False)(images), expected, atol=1e-6)


def test_images_that_are_read_only_are_no_warning():
    images = IMAGES.copy()
    images.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_representor(Standardised(), cuda=False)(images)


def precisions():
    backends = torch.backends
    settings = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    settings += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    return [setting.fp32_precision for setting in settings]


class Watching(nn.Module):
    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(768, 4)
        self.convolution = nn.Conv2d(3, 3, 1)
        self.fails = fails
        self.seen: list[object] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen += [precisions(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), self.layer.training]
        if self.fails:
            raise ValueError("as told")
        return self.layer(self.convolution(images).flatten(1))


def old_interface_on():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True


def old_interface_off():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def new_interface_on():
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "tf32"


def bfloat16_on_the_cpu():
    torch.set_float32_matmul_precision("medium")


@pytest.fixture
def flags():
    """Reset the process's flags to PyTorch's defaults."""
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    "change", [lambda: None, old_interface_on, old_interface_off, new_interface_on, bfloat16_on_the_cpu]
)
def test_the_representation_is_ieee_float32_and_no_flag_is_left_changed(flags, change, fails):
    change()
    before = precisions()
    for make in (lambda m: make_representor(m, cuda=False), module_representor):
        model = Watching(fails)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if fails:
                with pytest.raises(RepresentationError, match="as told"):
                    make(model)(IMAGES)
            else:
                make(model)(IMAGES)
            assert torch.is_autocast_enabled("cpu")
        assert model.seen[:4] == [["ieee"] * 6, False, False, False]
        assert precisions() == before
        assert torch.is_grad_enabled()
    if change in (old_interface_on, old_interface_off):  # callers can keep using it
        assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is (change is old_interface_on)


def test_a_representation_under_autocast_is_that_without(flags):
    torch.manual_seed(0)
    model = MeanEncoder(conv_encoder((3, 64, 64), 5)).eval()
    images = np.random.RandomState(0).rand(4, 64, 64, 3).astype(np.float32)
    expected = module_representor(model)(images)
    bfloat16_on_the_cpu()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(torch.from_numpy(np.moveaxis(images, 3, 1).copy())).detach().float().numpy()
        computed = module_representor(model)(images)
    np.testing.assert_array_equal(computed, expected)
    assert not np.array_equal(rounded, expected)


def test_a_traced_convolution_takes_no_tf32(tmp_path):
    """The trace contains a constant for it, which a GPU would use."""
    path = export_model(nn.Sequential(nn.Conv2d(3, 4, 16), nn.Flatten()), tmp_path / "model.pt", (1, 3, 16, 16))

    def takes_tf32(module):
        graph = module.inlined_graph
        (convolution,) = graph.findAllNodes("aten::_convolution")
        return list(convolution.inputs())[12].toIValue()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        plain = torch.jit.load(path)
    loaded = import_model(path)
    assert takes_tf32(plain) is True
    assert takes_tf32(loaded) is False
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(loaded(images), plain(images))


class OnDevice(nn.Module):
    """A model that records where it was called."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device=device))


def test_the_batch_follows_where_the_model_computes(tmp_path, monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 4, 16), nn.Flatten())
    path = export_model(model, tmp_path / "model.onnx", (1, 3, 16, 16))
    monkeypatch.setattr(representor, "use_cuda", lambda: True)  # as on a GPU machine
    on_onnx = make_representor(import_model(path))
    assert on_onnx.device == torch.device("cpu")
    assert on_onnx(IMAGES).shape == (5, 4)
    assert encoding_batch(on_onnx) == 64
    with Sandbox(tmp_path / "model.onnx") as sandbox:
        assert encoding_batch(sandbox) == 64
    assert encoding_batch(module_representor(model)) == 64  # by its own device, not by AICROWD_CUDA
    assert encoding_batch(lambda images: images) == 64
    monkeypatch.setattr(nn.Module, "to", lambda self, device: self)
    assert encoding_batch(make_representor(model)) == 1024
    assert encoding_batch(make_representor(model, cuda=False)) == 64


def test_a_module_is_computed_on_its_own_device():
    assert module_representor(OnDevice("meta")).device == torch.device("meta")
    assert module_representor(nn.Flatten()).device == torch.device("cpu")
    buffered = nn.BatchNorm2d(3, affine=False, device="meta")
    assert module_representor(buffered).device == torch.device("meta")


def test_a_module_in_training_is_left_in_training():
    model = nn.Sequential(nn.Conv2d(3, 4, 16), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten()).train()
    model[1].eval()  # as in fine-tuning
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    representation_function = module_representor(model)
    first = representation_function(IMAGES)
    np.testing.assert_array_equal(representation_function(IMAGES), first)  # no dropout
    assert [module.training for module in model] == [True, False, True, True]
    assert model.training
    with pytest.raises(RepresentationError, match=facts("images", "(", ", 3, 4, ")):
        representation_function(IMAGES[:, :4])
    assert [module.training for module in model] == [True, False, True, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model[1].train()
    np.testing.assert_array_equal(representation_function(IMAGES), first)  # no statistics of the batch


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_module_is_computed_in_its_own_type(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).to(dtype)
    codes = module_representor(model)(IMAGES.astype(np.float64))
    weight, bias = (tensor.detach().double().numpy() for tensor in model[1].parameters())
    rounded = torch.from_numpy(IMAGES.astype(np.float64)).to(dtype).double().numpy()
    expected = np.moveaxis(rounded, 3, 1).reshape(5, -1) @ weight.T + bias
    assert codes.dtype == np.float32
    np.testing.assert_allclose(
        codes, expected, rtol=1e-6 if dtype == torch.float64 else 2e-2, atol=1e-7 if dtype == torch.float64 else 1e-2
    )
    assert next(model.parameters()).dtype == dtype


OURS = {
    "conv": lambda: MeanEncoder(conv_encoder((3, 64, 64), 5)),
    "fc": lambda: MeanEncoder(fc_encoder((3, 64, 64), 5, width=0.1)),
    "residual": lambda: MeanEncoder(residual_encoder((3, 64, 64), 5, base_channels=4)),
}


@pytest.mark.parametrize("num_images", [1, 64, 3])
@pytest.mark.parametrize("kind", [*OURS, "Convolutional", "ResNet", "Norms", "Standardised", "Gaussian", "Squeeze"])
def test_a_module_and_its_file_give_equal_codes(tmp_path, kind, num_images):
    """The outputs are equal bit for bit."""
    torch.manual_seed(0)
    model = (OURS[kind] if kind in OURS else SCRIPTED[kind])().eval()
    size = 64 if kind in OURS else 16
    images = np.random.RandomState(0).rand(num_images, size, size, 3).astype(np.float32)
    path = export_model(model, tmp_path / "model.pt", (1, 3, size, size))
    np.testing.assert_array_equal(
        module_representor(model)(images), make_representor(import_model(path), cuda=False)(images)
    )
