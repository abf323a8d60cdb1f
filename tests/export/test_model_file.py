import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from messages import facts
from torch import nn

import utils_pytorch
from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.export.model_file import export_model, get_model_path, import_model
from disentanglement_challenge.export.representor import make_representor


def linear(num_latent=5):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, num_latent))


def numpy_linear(model, images):
    """Compute the same map in float64 numpy, from NHWC images."""
    weight, bias = (p.detach().double().numpy() for p in model[1].parameters())
    flat = np.moveaxis(images, 3, 1).reshape(len(images), 3 * 64 * 64)
    return flat @ weight.T + bias


@pytest.mark.parametrize("batch_size", [0, 1, 2, 17])
def test_a_model_comes_back_as_it_went(tmp_path, batch_size):
    model = linear()
    path = export_model(model, tmp_path / "model.pt")
    images = np.random.RandomState(0).rand(batch_size, 64, 64, 3)
    representation = make_representor(import_model(path))(images)
    assert representation.shape == (batch_size, 5)
    assert representation.dtype == np.float32
    np.testing.assert_allclose(representation, numpy_linear(model, images), atol=1e-4)


def test_a_script_module_is_saved_as_it_is(tmp_path):
    script = torch.jit.trace(linear(), torch.zeros(1, 3, 64, 64))
    loaded = import_model(export_model(script, tmp_path / "model.pt"))
    images = torch.rand(4, 3, 64, 64)
    assert torch.equal(loaded(images), script(images))


def test_exporting_leaves_the_model_alone(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5), nn.Dropout(0.5)).train()
    export_model(model, tmp_path / "model.pt")
    assert model.training


def test_the_default_path_is_the_kits(tmp_path, monkeypatch):
    monkeypatch.setenv("AICROWD_OUTPUT_PATH", str(tmp_path))
    monkeypatch.setenv("AICROWD_EVALUATION_NAME", "e")
    expected = tmp_path / "e" / "representation" / "pytorch_model.pt"
    assert get_model_path(make=False) == str(expected)
    assert not expected.parent.exists()
    assert export_model(linear()) == str(expected)
    assert (expected.parent / "results").is_dir()
    assert get_model_path("a", "b", make=False) == os.path.join("a", "b", "representation", "pytorch_model.pt")
    import_model()


class DependsOnTheBatch(nn.Module):
    def forward(self, images):
        flat = images.flatten(1)
        return (flat - flat.mean(0))[:, :4]


class OfTheWrongShape(nn.Module):
    def forward(self, images):
        return images.mean((1, 2, 3))


@pytest.mark.parametrize("model", [DependsOnTheBatch(), OfTheWrongShape()])
def test_a_file_that_computes_something_else_never_takes_its_place(tmp_path, model):
    path = Path(export_model(linear(), tmp_path / "model.pt"))
    before = path.read_bytes()
    with pytest.raises(RepresentationError):
        export_model(model, path, images=torch.rand(3, 3, 64, 64))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_model_that_takes_no_images_is_one_line(tmp_path):
    with pytest.raises(RepresentationError, match=facts("Linear", "(3, 3, 64, 64)")) as raised:
        export_model(nn.Linear(7, 7), tmp_path / "model.pt")
    assert "\n" not in str(raised.value)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("how", ["torch.save", "legacy torch.save", "pickle", "text", "empty", "truncated", "folder"])
def test_nothing_but_torchscript_is_loaded(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    if how == "torch.save":
        torch.save(Bomb(), path)
    elif how == "legacy torch.save":
        torch.save(Bomb(), path, _use_new_zipfile_serialization=False)
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif how == "text":
        path.write_text("not a model")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        export_model(linear(), path)
        path.write_bytes(path.read_bytes()[:10_000])
    else:
        path.mkdir()
    with pytest.raises(RepresentationError) as raised:
        import_model(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    if how in {"torch.save", "legacy torch.save", "pickle"}:
        assert "pickle" in str(raised.value)
    assert not (tmp_path / "exploded").exists()


def test_writing_a_pickle_is_refused(tmp_path):
    with pytest.raises(RepresentationError, match="pickle"):
        export_model(linear(), tmp_path / "model.pt", use_script_module=False)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(1, 64, 64, 3), ["Tensor", "ndarray"]),
        ([[0.0]], ["list", "ndarray"]),
        (np.zeros((64, 64, 3)), ["(64, 64, 3)", "(N, height, width, channels)"]),
        (np.zeros((1, 32, 32, 3)), ["(1, 3, 32, 32)"]),
    ],
)
def test_a_representor_refuses_what_is_not_images(images, said):
    with pytest.raises(RepresentationError, match=facts("images", *said)) as raised:
        make_representor(linear(), cuda=False)(images)
    assert "\n" not in str(raised.value)


class Silent(nn.Module):
    def forward(self, images):
        raise AssertionError


def test_an_error_that_says_nothing_is_named():
    with pytest.raises(RepresentationError, match=facts("(2, 3, 64, 64)", "AssertionError")):
        make_representor(Silent(), cuda=False)(np.zeros((2, 64, 64, 3)))


class Answer(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (torch.zeros(2, 3, 1), ["(2, 3, 1)", "(2, num_latent)"]),
        (torch.zeros(3, 4), ["(3, 4)", "(2, num_latent)"]),
        (torch.zeros(2, 0), ["(2, 0)", "(2, num_latent)"]),
        (torch.full((2, 4), torch.nan), ["NaN", "finite"]),
        (torch.full((2, 4), torch.inf), ["infinite", "float32"]),
        ((torch.zeros(2, 4), torch.zeros(2, 4)), ["tuple", "one tensor"]),
    ],
)
def test_a_representor_refuses_a_wrong_answer(answer, said):
    with pytest.raises(RepresentationError, match=facts(*said)):
        make_representor(Answer(answer), cuda=False)(np.zeros((2, 64, 64, 3)))


def test_a_path_that_cannot_be_looked_at_is_one_line(tmp_path):
    with pytest.raises(RepresentationError, match=facts(tmp_path, "File name too long")):
        import_model(tmp_path / ("x" * 300))


def test_utils_pytorch_has_the_kits_names():
    names = {
        "ExperimentConfig", "get_config", "get_dataset_name", "use_cuda", "get_model_path", "export_model",
        "import_model", "make_representor", "DLIBDataset", "get_dataset", "get_loader",
    }  # fmt: skip
    assert names == set(utils_pytorch.__all__)
    assert all(hasattr(utils_pytorch, name) for name in names)
