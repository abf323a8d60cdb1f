"""Pushing a model to the hub and loading it, against a stand-in of the hub on this machine."""

import errno
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, extra
from messages import facts
from squares import squares
from stand_in_hub import TOKEN, stand_in_hub
from torch import nn

from disentanglement_challenge import score
from disentanglement_challenge.errors import HubError, OutputError, RepresentationError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import export_model
from disentanglement_challenge.files import write_text
from disentanglement_challenge.hub.repository import FILES, is_address, load, model_file, push

extra("hub")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stand-in, in the place of the hub for this process, with an empty cache and a token."""
    from huggingface_hub import constants

    with stand_in_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        url_of_a_file = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url_of_a_file)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol of its own, which the stand-in has not
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with one network in two formats."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4))
    folder = tmp_path_factory.mktemp("models")
    for suffix in ("pt", "onnx"):
        export_model(network, folder / f"pytorch_model.{suffix}")
    return folder


@pytest.fixture
def experiment(tmp_path, models):
    experiment = Experiment(tmp_path / "mine")
    shutil.copytree(models, experiment.model.parent)
    write_text(experiment.representation_results / "gin" / "train.gin", "model.random_seed = 0\n")
    return experiment


def contents(experiment):
    folder = experiment.model.parent
    return {str(path.relative_to(folder)): path.read_bytes() for path in experiment.representation_files}


def test_what_is_pushed_is_what_is_loaded(hub, experiment, tmp_path):
    write_text(experiment.model.parent / "notes.txt", "mine alone")
    assert push(experiment, "me/encoder", private=True) == f"{hub.url}/me/encoder"
    assert hub.private == {"me/encoder"}
    pushed = {name: content for name, content in contents(experiment).items() if name != "notes.txt"}
    assert "README.md" in pushed  # written for a model that had none
    assert {name: content for name, content in hub.files("me/encoder").items() if name != ".gitattributes"} == pushed
    loaded = Experiment(tmp_path / "theirs")
    assert load("me/encoder", loaded) == loaded.model
    assert contents(loaded) == pushed
    assert sorted(path.name for path in loaded.path.iterdir()) == ["representation"]


def test_what_an_experiment_no_longer_has_is_gone_from_the_hub(hub, experiment):
    push(experiment, "me/encoder")
    hub.files("me/encoder")["LICENSE"] = b"of the repository's own"
    experiment.model.with_suffix(".onnx").unlink()
    push(experiment, "me/encoder")
    assert {".gitattributes", "LICENSE", "README.md", "pytorch_model.pt", "results/gin/train.gin"} == set(
        hub.files("me/encoder")
    )


def test_a_revision_is_that_of_its_time(hub, experiment, tmp_path):
    push(experiment, "me/encoder")
    earlier = list(hub.commits["me/encoder"])[-1]
    before = contents(experiment)
    export_model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)), experiment.model)
    push(experiment, "me/encoder")
    load(f"me/encoder@{earlier}", Experiment(tmp_path / "earlier"))
    assert contents(Experiment(tmp_path / "earlier")) == before
    load("me/encoder", Experiment(tmp_path / "now"))
    assert contents(Experiment(tmp_path / "now")) == contents(experiment)


def test_an_address_is_scored_as_the_file_is(hub, experiment):
    push(experiment, "me/encoder")
    by_file = score(str(experiment.model), squares(), metrics=["mig", "irs"]).as_dict()
    for address in ("hf://me/encoder", "hf://me/encoder@main/pytorch_model.onnx"):
        assert is_address(address)
        assert score(address, squares(), metrics=["mig", "irs"]).as_dict() == pytest.approx(by_file, abs=1e-6)


def test_without_a_network_the_cache_serves(hub, experiment, monkeypatch):
    push(experiment, "me/encoder")
    path = model_file("hf://me/encoder")
    assert not path.with_suffix(".onnx").exists()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert model_file("hf://me/encoder") == path
    with pytest.raises(HubError, match=facts("me/other on the hub", "cannot be reached", "not in the cache")):
        model_file("hf://me/other")


class Harm:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", ["pytorch_model.pt", "pytorch_model.pt2"])
def test_a_pickle_is_not_loaded(hub, name, tmp_path):
    trap = tmp_path / "sprung"
    hub.put("stranger/pickle", {name: pickle.dumps(Harm(str(trap)))})
    with pytest.raises(RepresentationError, match=name):
        load("stranger/pickle", Experiment(tmp_path / "theirs"))
    with pytest.raises(RepresentationError, match=name):
        score("hf://stranger/pickle", squares())
    assert not trap.exists()
    assert not (tmp_path / "theirs").exists()


def test_nothing_of_an_experiment_is_replaced_unasked(hub, experiment, tmp_path):
    push(experiment, "me/encoder")
    other = Experiment(tmp_path / "other")
    write_text(other.scores, "{}")
    with pytest.raises(OutputError, match=r"already holds scores\.json"):
        load("me/encoder", other)
    assert not other.model.exists()
    load("me/encoder", other, overwrite=True)
    assert not other.scores.exists()
    assert contents(other) == contents(experiment)


def test_a_full_disk_is_one_line_and_leaves_what_is_there(hub, experiment, tmp_path, monkeypatch):
    def copyfile(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    push(experiment, "me/encoder")
    other = Experiment(tmp_path / "other")
    write_text(other.scores, "{}")
    monkeypatch.setattr("shutil.copyfile", copyfile)
    with pytest.raises(OutputError, match=facts("cannot write", "pytorch_model.pt", "No space")):
        load("me/encoder", other, overwrite=True)
    assert [path.name for path in other.path.iterdir()] == ["scores.json"]


@pytest.mark.parametrize("run", ["", "unfinished"])
def test_a_training_run_is_not_replaced_unasked(hub, experiment, tmp_path, run):
    """The advice is of flags that the command has."""
    push(experiment, "me/encoder")
    checkpoint = tmp_path / "trained" / run / "train" / "checkpoints" / "step_3.pt"
    write_text(checkpoint, "")
    with pytest.raises(OutputError, match=facts("trained holds a training run", "--overwrite")) as caught:
        load("me/encoder", Experiment(tmp_path / "trained"))
    assert "--resume" not in str(caught.value)
    assert checkpoint.exists()
    trained = Experiment(tmp_path / "trained")
    with trained.training(), pytest.raises(OutputError, match="is writing to"):
        load("me/encoder", trained)


@pytest.mark.parametrize(
    ("repository", "parts"),
    [
        ("encoder", ["'encoder' is not a model on the hub", "write owner/name"]),
        ("hf://datasets/me/faces", ["is a dataset, not a model", "write owner/name"]),
        ("me/nothing", ["me/nothing on the hub: 401 Repository not found", "set HF_TOKEN"]),
        ("me/encoder@nothing", ["me/encoder on the hub: 404 Revision not found"]),
        ("me/empty", ["me/empty on the hub", "not have pytorch_model.pt or "]),
        ("me/encoder/other.onnx", ["'me/encoder/other.onnx'", "other.onnx in me/encoder", "owner/name"]),
    ],
)
def test_what_cannot_be_loaded_is_one_line(hub, experiment, tmp_path, repository, parts):
    hub.put("me/encoder", {"pytorch_model.pt": b""})
    hub.put("me/empty", {"README.md": b"# Nothing here"})
    with pytest.raises(HubError, match=facts(*parts)) as caught:
        load(repository, Experiment(tmp_path / "theirs"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "theirs").exists()


def test_what_cannot_be_pushed_is_one_line(hub, experiment, tmp_path, monkeypatch):
    with pytest.raises(RepresentationError, match="no model at"):
        push(Experiment(tmp_path / "none"), "me/encoder")
    with pytest.raises(HubError, match=facts("sub in me/encoder", "owner/name")):
        push(experiment, "me/encoder/sub")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(HubError, match=r"me/encoder on the hub: 401 Invalid username or password\.; set HF_TOKEN"):
        push(experiment, "me/encoder")
    assert hub.commits == {}
    hub.server_close()
    with pytest.raises(HubError, match="me/encoder on the hub: "):
        push(experiment, "me/encoder")


@pytest.mark.processes
def test_the_command(hub, experiment, tmp_path):
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "AICROWD_OUTPUT_PATH": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }

    def run(*arguments):
        command = [sys.executable, "-m", "disentanglement_challenge.hub", *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    pushed = run("push", "mine", "me/encoder")
    assert (pushed.stdout, pushed.returncode) == (f"pushed mine to {hub.url}/me/encoder\n", 0), pushed.stderr
    loaded = run("load", "me/encoder", "--experiment", "theirs")
    assert loaded.stdout == f"representation function: {tmp_path / 'theirs' / 'representation' / 'pytorch_model.pt'}\n"
    assert set(contents(Experiment(tmp_path / "theirs"))) <= set(FILES)
    assert contents(Experiment(tmp_path / "theirs")) == contents(experiment)
    refused = run("load", "me/encoder", "--experiment", "theirs")
    assert refused.returncode == 1
    assert "already holds" in refused.stderr
    assert refused.stderr.count("\n") == 1
