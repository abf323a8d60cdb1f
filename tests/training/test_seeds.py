"""Whole runs of several seeds together, against each seed's own run; on the CPU, where only tests train them so."""

import json
import signal

import graphs_on_cpu
import numpy as np
import pytest
import torch
from squares import SMALL, squares

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError, Interrupted, OutputError, TrainingError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import import_model, read_metadata
from disentanglement_challenge.training import batches as batches_module
from disentanglement_challenge.training import run as run_module
from disentanglement_challenge.training.acceleration import GraphedStep, make_step
from disentanglement_challenge.training.batches import DeviceBatches
from disentanglement_challenge.training.checkpoints import newest_first, read_checkpoint
from disentanglement_challenge.training.log_lines import read_log
from disentanglement_challenge.training.processes import ALONE
from disentanglement_challenge.training.run import train_and_export
from disentanglement_challenge.training.seeds import train_and_export_together
from disentanglement_challenge.training.step import Player

SEEDS = (0, 3)
# Of activations that rounding changes little: see test_stacked.
SMOOTH = [f"{network}.activation = 'tanh'" for network in ("conv_encoder", "deconv_decoder", "fc_discriminator")]
BINDINGS = [*SMALL, *SMOOTH, "log.every_steps = 5", "pictures.every_steps = 9"]


def seeds_of(folder, seeds=SEEDS):
    return {seed: Experiment(folder / f"seed_{seed}") for seed in seeds}


def together(folder, *bindings, seeds=SEEDS, resume=False, **flags):
    with gin_configuration(["shared.gin"], [*BINDINGS, *bindings]):
        return train_and_export_together(seeds_of(folder, seeds), True, resume, squares(), **{"on_cpu": True, **flags})


def alone(folder, *bindings, seeds=SEEDS, resume=False):
    for seed, experiment in seeds_of(folder, seeds).items():
        with gin_configuration(["shared.gin"], [*BINDINGS, *bindings, f"model.random_seed = {seed}"]):
            train_and_export(experiment, True, resume, ground_truth_data=squares())
    return seeds_of(folder, seeds)


def newest(experiment):
    return read_checkpoint(newest_first(experiment.checkpoints)[0])


def assert_same_end(ours, theirs):
    """Final losses, checkpoint and model, up to rounding."""
    losses, expected = (json.loads(run.losses.read_text()) for run in (ours, theirs))
    for timed in ("seconds", "steps_per_second"):
        assert losses.pop(timed) > 0
        del expected[timed]
    assert losses == pytest.approx(expected, rel=1e-4, abs=1e-4)
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(import_model(ours.model)(images), import_model(theirs.model)(images), rtol=0, atol=1e-4)
    checkpoint, expected = newest(ours), newest(theirs)
    assert checkpoint.configuration == expected.configuration
    assert checkpoint.state.keys() == expected.state.keys()
    assert checkpoint.state["random"] == expected.state["random"]
    assert torch.equal(checkpoint.state["step"]["noise"], expected.state["step"]["noise"])
    for player, other in zip(checkpoint.state["step"]["players"], expected.state["step"]["players"], strict=True):
        for name, weight in player["network"].items():
            torch.testing.assert_close(weight, other["network"][name], rtol=0, atol=1e-4)
    sizes = [newest_first(run.checkpoints)[0].stat().st_size for run in (ours, theirs)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def files(experiment):
    paths = (path.relative_to(experiment.path) for path in experiment.path.rglob("*"))
    return sorted(str(path) for path in paths if "events" not in path.name)


def test_each_seeds_folder_is_that_of_its_own_run(tmp_path, capsys):
    outcomes = together(tmp_path / "together")
    assert outcomes == dict.fromkeys(SEEDS, "trained to step 12 of 12")
    said = capsys.readouterr().err
    assert said.count("data set: squares") == 1
    for experiment in seeds_of(tmp_path / "together").values():
        assert said.count(f"writes to: {experiment.path}\n") == 1
        assert not experiment.unfinished.path.exists()
        assert json.loads(experiment.train_provenance.read_text())["seeds_together"] == list(SEEDS)
    for seed, theirs in alone(tmp_path / "alone").items():
        assert "seeds_together" not in json.loads(theirs.train_provenance.read_text())
        ours = seeds_of(tmp_path / "together")[seed]
        assert_same_end(ours, theirs)
        assert files(ours) == files(theirs)
        for path in ours.path.rglob("*.gin"):
            assert path.read_text() == (theirs.path / path.relative_to(ours.path)).read_text()
        assert read_metadata(ours.model) == read_metadata(theirs.model)
        for line, expected in zip(read_log(ours.log), read_log(theirs.log), strict=True):
            assert line == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_seeds_are_resumed_alone_and_together_from_whatever_step_each_is_at(tmp_path):
    longer, seeds = "model.training_steps = 30", (0, 3, 5)
    whole = alone(tmp_path / "whole", longer, seeds=seeds)
    together(tmp_path / "parts", seeds=(0, 3))
    alone(tmp_path / "parts", longer, seeds=(0,), resume=True)
    assert_same_end(seeds_of(tmp_path / "parts")[0], whole[0])
    # One is whole by now; of the others one goes on and one begins.
    alone(tmp_path / "parts", "model.training_steps = 17", seeds=(3,), resume=True)
    outcomes = together(tmp_path / "parts", longer, seeds=seeds, resume=True)
    assert "is trained to its end already" in outcomes.pop(0)
    assert outcomes == dict.fromkeys((3, 5), "trained to step 30 of 30")
    for seed, experiment in seeds_of(tmp_path / "parts", seeds).items():
        assert_same_end(experiment, whole[seed])


def explode(monkeypatch, seed_of, at):
    """The weights of one seed are multiplied by a million after so many of its updates."""
    move, steps = Player.move, {}

    def moved(player):
        move(player)
        steps[id(player)] = steps.get(id(player), 0) + 1
        if steps[id(player)] == at and seed_of(player):
            for parameter in player.parameters:
                parameter.data *= 1e6

    monkeypatch.setattr(Player, "move", moved)


def test_a_seed_that_diverges_fails_alone(tmp_path, monkeypatch):
    together(tmp_path / "sound", "checkpoints.every_minutes = 0")
    players = []
    made = Player.__post_init__

    def noted(player):
        made(player)
        players.append(player)

    monkeypatch.setattr(Player, "__post_init__", noted)
    explode(monkeypatch, lambda player: player is players[0], 7)
    outcomes = together(tmp_path / "spoilt", "checkpoints.every_minutes = 0")
    assert isinstance(outcomes[0], TrainingError)
    assert "loss is" in str(outcomes[0])
    assert "at step 8; " in str(outcomes[0])
    failed, sound = seeds_of(tmp_path / "spoilt").values()
    assert str(outcomes[0]).endswith(f"last good checkpoint is {failed.unfinished.checkpoints}/step_7.pt")
    assert not failed.model.exists()
    assert outcomes[3] == "trained to step 12 of 12"
    expected = seeds_of(tmp_path / "sound")[3]
    assert read_log(sound.log) == read_log(expected.log)
    images = torch.rand(5, 3, 64, 64)
    assert torch.equal(import_model(sound.model)(images), import_model(expected.model)(images))


def test_a_folder_that_cannot_be_used_costs_the_others_nothing(tmp_path):
    alone(tmp_path, seeds=(0,))
    with gin_configuration(["shared.gin"], BINDINGS):
        outcomes = train_and_export_together(seeds_of(tmp_path), False, False, squares(), on_cpu=True)
    assert isinstance(outcomes[0], OutputError)
    assert "already holds" in str(outcomes[0])
    assert outcomes[3] == "trained to step 12 of 12"


def test_a_signal_stops_all_and_each_is_exported(tmp_path, monkeypatch):
    """Raised within a step, in the place of a user's key."""
    move, calls = Player.move, []

    def moved(player):
        move(player)
        calls.append(player)
        if len(calls) == 4 * 6:  # both players of both seeds
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Player, "move", moved)
    with pytest.raises(Interrupted, match=r"trained to step 6 of 12 and stopped at SIGTERM"):
        together(tmp_path)
    for experiment in seeds_of(tmp_path).values():
        assert experiment.is_interrupted
        assert newest(experiment).done == 6
        assert experiment.model.exists()
    monkeypatch.undo()
    assert together(tmp_path, resume=True) == dict.fromkeys(SEEDS, "trained to step 12 of 12")


def test_a_cpu_trains_seeds_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setenv("AICROWD_CUDA", "False")
    with pytest.raises(ConfigError, match=r"seeds are trained together on a GPU alone .*; train them one by one"):
        together(tmp_path, on_cpu=False)
    assert not any(tmp_path.iterdir())


def test_images_are_uploaded_once(monkeypatch):
    uploads = []

    def upload(images, device, processes):
        uploads.append(images)
        return torch.from_numpy(images)

    monkeypatch.setattr(batches_module, "upload", upload)
    randoms = [np.random.default_rng(seed) for seed in SEEDS]
    of_each = batches_module.batches_of_seeds(squares(), 4, randoms, torch.device("cuda"))
    stacked = batches_module.stacked_batches(of_each)
    assert len(uploads) == 1
    assert isinstance(stacked, batches_module.StackedDeviceBatches)
    cpu = torch.device("cpu")
    others = batches_module.batches_of_seeds(squares(), 4, [np.random.default_rng(seed) for seed in SEEDS], cpu)
    expected = batches_module.stacked_batches(others)
    for _ in range(3):
        assert torch.equal(next(stacked), next(expected))


def test_many_steps_a_replay_leave_the_same_runs(tmp_path, monkeypatch):
    """With the stand-in for CUDA's graphs, on images that lie on the device; to the last bit, also when resumed."""

    def on_device(data, batch_size, random, device, processes=ALONE):
        return DeviceBatches(torch.from_numpy(data.images), batch_size, random)

    def graphed(*arguments):
        step, _ = make_step(*arguments)
        return step, GraphedStep(step)

    seldom = ["log.every_steps = 20", "pictures.every_steps = 1000"]
    bindings = ["factor_vae.second_batch = True", "model.training_steps = 40", *seldom]
    together(tmp_path / "plain", *bindings)
    graphs_on_cpu.install(monkeypatch)
    monkeypatch.setattr(batches_module, "training_batches", on_device)
    monkeypatch.setattr(run_module, "make_step", graphed)
    together(tmp_path / "replayed", *bindings, "model.training_steps = 17")
    together(tmp_path / "replayed", *bindings, resume=True)
    # 3 steps to warm up, one that is checked, 10 at once and 3 more; then 3 up to step 20, and 1, 10 and 9.
    assert [graph.replays for graph in graphs_on_cpu.Graph.made] == [1 + 3, 1, 1 + 9, 1]
    assert all(len(graph.generators) == len(SEEDS) for graph in graphs_on_cpu.Graph.made)
    for runs in zip(*(seeds_of(tmp_path / name).values() for name in ("replayed", "plain")), strict=True):
        states = [newest(experiment).state for experiment in runs]
        assert states[0]["random"] == states[1]["random"]
        for player, other in zip(*(state["step"]["players"] for state in states), strict=True):
            assert all(map(torch.equal, player["network"].values(), other["network"].values()))
        logs = [[line for line in read_log(experiment.log) if line["step"] % 20 == 0] for experiment in runs]
        assert logs[0] == logs[1]
