"""The first lines of a run, and what it says of the disk, against what the run then leaves there."""

import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from squares import SMALL, squares

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.dummy import load_dummy
from disentanglement_challenge.environment import device_reason
from disentanglement_challenge.errors import OutputError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.announcement import num_images
from disentanglement_challenge.training.checkpoints import newest_first
from disentanglement_challenge.training.disk import DiskNeeds, bytes_below, check_disk, disk_needs
from disentanglement_challenge.training.run import prepare, train, train_and_export
from disentanglement_challenge.training.settings import TrainingSettings
from disentanglement_challenge.training.step import TrainingStep


@pytest.fixture
def train_squares(monkeypatch):
    monkeypatch.setattr("disentanglement_challenge.training.run.get_named_ground_truth_data", squares)

    def run(path, *bindings, **flags):
        with gin_configuration(["shared.gin"], [*SMALL, *bindings]):
            return train_and_export(Experiment(path), **{"overwrite": False, **flags})

    return run


def test_what_a_run_says_first(tmp_path, train_squares, capsys, monkeypatch):
    monkeypatch.setenv("AICROWD_CUDA", "False")
    train_squares(tmp_path / "e")
    said = dict(line.split(": ", 1) for line in capsys.readouterr().err.splitlines()[:6])
    assert list(said) == ["data set", "model", "device", "steps", "writes to", "disk"]
    assert said["data set"] == "squares, 32 images of 64 x 64 x 3"
    with gin_configuration(["shared.gin"], SMALL):
        step = TrainingStep(TrainingSettings().model, (3, 64, 64), 0, torch.device("cpu"))
    counts = [sum(p.numel() for p in player.network.parameters()) for player in step.players]
    assert said["model"].startswith(f"FactorVAE with 3 latents, {counts[0]:,} parameters")
    assert f"and {counts[1]:,} of the discriminator" in said["model"]
    threads = torch.get_num_threads()
    assert said["device"] == f"cpu ({device_reason()}), {threads} thread{'s' if threads > 1 else ''}, float32"
    assert "AICROWD_CUDA is 'False'" in said["device"]
    assert said["steps"] == "from 0 to 12"
    assert said["writes to"] == str(tmp_path / "e")
    assert re.fullmatch(r"up to \d+\.\d MB needed, .* free", said["disk"])

    train_squares(tmp_path / "e", "model.training_steps = 14", "acceleration.precision = 'bfloat16'", overwrite=True)
    assert "float32" not in capsys.readouterr().err
    train_squares(tmp_path / "e", "model.training_steps = 20", "acceleration.precision = 'bfloat16'", resume=True)
    assert "steps: from 14 to 20\n" in capsys.readouterr().err


def test_the_disk_that_a_run_is_said_to_need_is_what_it_takes(tmp_path, train_squares):
    train_squares(tmp_path, "checkpoints.every_minutes = 0", "fc_discriminator.width = 0.3")
    experiment = Experiment(tmp_path)
    with gin_configuration(["shared.gin"], [*SMALL, "fc_discriminator.width = 0.3"]):
        step = TrainingStep(TrainingSettings().model, (3, 64, 64), 0, torch.device("cpu"))
    needs = disk_needs(step, (3, 64, 64), keep=2, num_formats=1, logged=1, drawn=0)
    checkpoint = newest_first(experiment.checkpoints)[0].stat().st_size
    assert needs.checkpoint == pytest.approx(checkpoint, rel=0.05)
    assert needs.model < experiment.model.stat().st_size < needs.model + 100_000
    assert experiment.pictures.stat().st_size < needs.rest
    assert bytes_below(tmp_path) < needs.most


def test_a_disk_that_is_too_full_is_refused_and_a_tight_one_is_said(tmp_path, monkeypatch, capsys):
    needs = DiskNeeds(checkpoint=68_600_000, at_once=3, model=2_000_000, rest=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=26_000_000))
    with pytest.raises(OutputError, match=r"e has 26\.0 MB free, .*about 71\.6 MB: 68\.6 MB for a checkpoint, 2\.0 MB"):
        check_disk(tmp_path / "e", needs, there=0)
    assert check_disk(tmp_path / "e", needs, there=50_000_000) == 76_000_000

    # Pictures while training goes on may be few bytes each, so they are said and no reason to refuse.
    many = DiskNeeds(checkpoint=1, at_once=3, model=1, rest=1, in_passing=10**12)
    assert check_disk(tmp_path / "e", many, there=0) == 26_000_000
    assert many.most > 10**12

    with gin_configuration(["shared.gin"], SMALL):
        step = TrainingStep(TrainingSettings().model, (3, 64, 64), 0, torch.device("cpu"))
        one = disk_needs(step, (3, 64, 64), 2, 1, 1, 0)
        free = one.least + one.checkpoint
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
        train(prepare(TrainingSettings(), Experiment(tmp_path / "tight"), squares()))
    assert "room for 2 of 3 checkpoints at a time; a smaller checkpoints.keep" in capsys.readouterr().err


def test_a_refused_run_leaves_what_is_there(tmp_path, train_squares, monkeypatch):
    train_squares(tmp_path / "e")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    for flags in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="needs about"):
            train_squares(tmp_path / "e", "model.training_steps = 20", **flags)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_images_that_are_made_as_they_are_drawn_are_counted_by_their_factors(tmp_path):
    assert num_images(load_dummy("dummy_data", tmp_path)) == 5**10
