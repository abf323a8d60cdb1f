import json
import re

import pytest
import torch
from squares import SMALL, squares
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import ConfigError, OutputError, TrainingError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import remove, write_text
from disentanglement_challenge.training.checkpoints import read_checkpoint
from disentanglement_challenge.training.run import prepare, train, train_and_export
from disentanglement_challenge.training.settings import TrainingSettings
from disentanglement_challenge.training.step import TrainingStep


@pytest.fixture(name="squares")
def make_squares():
    return squares()


def run(path, data, *bindings):
    with gin_configuration(["shared.gin"], [*SMALL, *bindings]):
        vae = train(prepare(TrainingSettings(), Experiment(path), data)).vae
    return torch.cat([parameter.detach().flatten() for parameter in vae.parameters()])


def test_the_same_seed_gives_the_same_weights(tmp_path, squares):
    first, again = run(tmp_path / "a", squares), run(tmp_path / "b", squares)
    other = run(tmp_path / "c", squares, "model.random_seed = 1")
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_learns(tmp_path, squares):
    for steps, name in ((1, "short"), (150, "long")):
        run(
            tmp_path / name,
            squares,
            f"model.training_steps = {steps}",
            "vae/AdamOptimizer.learning_rate = 0.003",
        )
    short, long = (json.loads((tmp_path / name / "train" / "losses.json").read_text()) for name in ("short", "long"))
    assert long["step"] == 150
    assert long["reconstruction_loss"] < 0.3 * short["reconstruction_loss"]


def test_what_a_run_leaves(tmp_path, squares):
    run(tmp_path, squares, "model.training_steps = 150")
    losses = json.loads((tmp_path / "train" / "losses.json").read_text())
    assert losses["elbo"] == pytest.approx(-losses["reconstruction_loss"] - losses["kl_loss"], rel=1e-5)
    events = EventAccumulator(str(tmp_path / "train")).Reload()
    assert {"loss", "reconstruction_loss", "kl_loss", "total_correlation", "discriminator_loss"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("loss")] == [100, 150]


def test_the_saved_configuration_trains_the_same_weights_again(tmp_path, squares):
    first = run(tmp_path / "a", squares)
    with gin_configuration([str(tmp_path / "a" / "train" / "config.gin")]):
        vae = train(prepare(TrainingSettings(), Experiment(tmp_path / "b"), squares)).vae
    assert torch.equal(first, torch.cat([parameter.detach().flatten() for parameter in vae.parameters()]))


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("model.training_steps = 0", r"model\.training_steps is 0"),
        ("model.training_steps = -5", r"model\.training_steps is -5"),
        ("model.training_steps = 1.5", r"model\.training_steps is 1\.5"),
        ("model.batch_size = 0", r"model\.batch_size is 0"),
        ("model.random_seed = -1", r"model\.random_seed is -1"),
        ("model.random_seed = 4294967296", r"model\.random_seed is 4294967296; it must be at most 4294967295"),
        ("model.model = 'factor_vae'", "bind it to an objective"),
        ("model.model = @factor_vae", r"write @factor_vae\(\)"),
        ("encoder.num_latent = 0", "num_latent"),
    ],
)
def test_a_number_out_of_range_costs_nothing(tmp_path, squares, binding, message):
    experiment = Experiment(tmp_path)
    experiment.train.mkdir(parents=True)
    (experiment.train / "kept").write_text("an earlier run")
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, squares, binding)
    assert (experiment.train / "kept").exists()


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, squares):
    with pytest.raises(TrainingError, match=r"loss is (nan|inf|-inf|[\d.e+]+) at step 2;.*checkpoint is none"):
        run(tmp_path, squares, "vae/AdamOptimizer.learning_rate = 1e30")
    assert not (tmp_path / "train" / "losses.json").exists()


def test_a_loss_that_diverges_names_its_step_and_leaves_the_last_good_checkpoint(tmp_path, squares, monkeypatch):
    """The weights are multiplied by a million after step 7, as an exploding update would."""
    update = TrainingStep.update

    def explode(step, losses):
        update(step, losses)
        explode.steps += 1
        if explode.steps == 7:
            for parameter in step.vae.parameters():
                parameter.data *= 1e6

    explode.steps = 0
    monkeypatch.setattr(TrainingStep, "update", explode)
    # Only the last of 12 steps is looked at otherwise, and the error names the eighth all the same.
    with pytest.raises(TrainingError, match=r"loss is .* at step 8; .*checkpoint is none"):
        run(tmp_path / "late", squares)
    explode.steps = 0
    with pytest.raises(TrainingError, match=r"at step 8; .*last good checkpoint is .*step_7\.pt"):
        run(tmp_path / "each", squares, "checkpoints.every_minutes = 0")
    assert read_checkpoint(tmp_path / "each" / "train" / "checkpoints" / "step_7.pt").done == 7


def test_weights_that_are_no_numbers_are_never_kept(tmp_path, squares, monkeypatch):
    """A loss is that of the weights before its step, so it is still finite when an update has spoilt them."""
    update = TrainingStep.update

    def spoil(step, losses):
        update(step, losses)
        next(step.vae.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(TrainingStep, "update", spoil)
    with pytest.raises(TrainingError, match=r"weight of the VAE is no longer finite after step 1; .*none"):
        run(tmp_path, squares, "checkpoints.every_minutes = 0")
    assert not (tmp_path / "train" / "checkpoints").exists()


def test_a_bug_is_no_mistake_of_the_configuration(tmp_path, squares, monkeypatch):
    def fail(step, losses):
        raise ValueError("a bug")

    monkeypatch.setattr(TrainingStep, "update", fail)
    with pytest.raises(ValueError, match="a bug"):
        run(tmp_path, squares)


def resumed(path, source, data, *bindings, overwrite=False):
    with gin_configuration(["shared.gin"], [*SMALL, *bindings]):
        prepared = prepare(TrainingSettings(), Experiment(path), data, Experiment(source), overwrite)
        vae = prepared and train(prepared).vae
    return vae and torch.cat([parameter.detach().flatten() for parameter in vae.parameters()])


@pytest.mark.parametrize("bindings", [[], ["model.model = @annealed_vae()"]])
def test_a_whole_run_goes_on_to_more_steps(tmp_path, squares, bindings):
    annealing = ["annealed_vae.c_max = 5.0", "annealed_vae.iteration_threshold = 20", "annealed_vae.gamma = 10.0"]
    bindings = [*bindings, *annealing]
    straight = run(tmp_path / "straight", squares, *bindings, "model.training_steps = 130")
    run(tmp_path / "short", squares, *bindings, "model.training_steps = 110")
    write_text(Experiment(tmp_path / "short").tracked, "{}")
    assert resumed(tmp_path / "again", tmp_path / "short", squares, *bindings, "model.training_steps = 110") is None
    assert not (tmp_path / "again").exists()
    longer = resumed(tmp_path / "longer", tmp_path / "short", squares, *bindings, "model.training_steps = 130")
    assert torch.equal(straight, longer)
    assert not Experiment(tmp_path / "longer").tracked.exists()  # another run is another one of trackers
    # The curve goes through both parts as if there were one, and the run that it came from is as it was.
    events = EventAccumulator(str(tmp_path / "longer" / "train")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [100, 130]
    assert len({(tmp_path / name / "train" / "log.jsonl").read_text() for name in ("longer", "straight")}) == 1
    assert json.loads((tmp_path / "short" / "train" / "losses.json").read_text())["step"] == 110
    # A newest checkpoint that the disk damages is not the only one.
    checkpoints = (tmp_path / "longer" / "train" / "checkpoints").iterdir()
    assert {path.name for path in checkpoints} == {"step_110.pt", "step_130.pt"}


def test_curves_do_not_show_what_was_taken_back(tmp_path, squares):
    """Killed at step 12 with a checkpoint of step 10: what the events say beyond it is made again."""
    run(tmp_path, squares, "checkpoints.every_minutes = 0", "checkpoints.keep = 3")
    for step in (11, 12):
        (tmp_path / "train" / "checkpoints" / f"step_{step}.pt").unlink()
    resumed(tmp_path, tmp_path, squares, "model.training_steps = 14")
    events = EventAccumulator(str(tmp_path / "train")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [14]


@pytest.mark.parametrize("into", ["one", "another"])
def test_a_damaged_checkpoint_is_none_of_those_that_are_kept(tmp_path, squares, into):
    source = tmp_path / "one"
    run(source, squares, "checkpoints.every_minutes = 0")  # leaves the last two
    (_, good), (_, damaged) = sorted((int(path.stem[5:]), path) for path in (source / "train/checkpoints").iterdir())
    damaged.write_bytes(b"")
    last = int(damaged.stem[5:]) + 1
    resumed(tmp_path / into, source, squares, f"model.training_steps = {last}")
    assert {path.name for path in (tmp_path / into / "train/checkpoints").iterdir()} == {good.name, f"step_{last}.pt"}


def test_what_cannot_be_gone_on_with_is_replaced_only_when_told_to(tmp_path, squares, caplog):
    run(tmp_path, squares)
    with pytest.raises(ConfigError, match=r"made with factor_vae\.gamma = 5\.0, not 6\.0"):
        resumed(tmp_path, tmp_path, squares, "factor_vae.gamma = 6.0")
    assert (tmp_path / "train" / "losses.json").exists()
    anew = resumed(tmp_path, tmp_path, squares, "factor_vae.gamma = 6.0", overwrite=True)
    assert "gamma = 5.0, not 6.0" in caplog.text
    assert "starting anew" in caplog.text
    assert torch.equal(anew, run(tmp_path / "other", squares, "factor_vae.gamma = 6.0"))


def test_a_run_that_has_made_more_steps_is_replaced_only_when_told_to(tmp_path, squares, caplog):
    run(tmp_path, squares)
    with pytest.raises(ConfigError, match=r"training_steps is 7; the run has made 12 already"):
        resumed(tmp_path, tmp_path, squares, "model.training_steps = 7")
    anew = resumed(tmp_path, tmp_path, squares, "model.training_steps = 7", overwrite=True)
    assert "made 12 already" in caplog.text
    assert "starting anew" in caplog.text
    assert torch.equal(anew, run(tmp_path / "other", squares, "model.training_steps = 7"))


def test_another_data_set_is_another_run(tmp_path, squares):
    run(tmp_path, squares)
    fewer = IndexedGroundTruthData("squares", squares.images[:16], [4, 4], ["row", "column"])
    with pytest.raises(ConfigError, match=r"factor sizes = \[2, 4, 4\], not \[4, 4\]"):
        resumed(tmp_path, tmp_path, fewer)


def test_training_stops_when_the_time_is_up(tmp_path, squares):
    with gin_configuration(["shared.gin"], [*SMALL, "model.training_steps = 1000000", "model.time_limit = 0.5"]):
        trained = train(prepare(TrainingSettings(), Experiment(tmp_path), squares))
    assert re.fullmatch(r"trained to step (\d+) of 1000000 and stopped as model\.time_limit is up; .*", trained.summary)
    done = json.loads((tmp_path / "train" / "losses.json").read_text())["step"]
    assert 0 < done < 1000000
    straight = run(tmp_path / "straight", squares, f"model.training_steps = {done + 3}")
    assert torch.equal(straight, resumed(tmp_path, tmp_path, squares, f"model.training_steps = {done + 3}"))


def test_a_run_that_was_killed_while_it_took_its_place_is_put_there_by_the_next(tmp_path, squares, monkeypatch):
    """Killed when what was there is gone and the new model is there, but not yet what belongs to it."""
    experiment = Experiment(tmp_path / "e")
    monkeypatch.setattr("disentanglement_challenge.training.run.get_named_ground_truth_data", lambda: squares)

    def killed(experiment):
        remove(experiment.train)
        remove(experiment.model.parent)
        experiment.unfinished.model.parent.rename(experiment.model.parent)
        raise KeyboardInterrupt

    with gin_configuration(["shared.gin"], SMALL):
        train_and_export(experiment, overwrite=False)
    with monkeypatch.context() as patch, gin_configuration(["shared.gin"], [*SMALL, "model.random_seed = 1"]):
        patch.setattr(Experiment, "take_training", killed)
        with pytest.raises(KeyboardInterrupt):
            train_and_export(experiment, overwrite=True)
    with gin_configuration(["shared.gin"], [*SMALL, "model.random_seed = 1"]):
        with pytest.raises(OutputError, match="--resume"):
            train_and_export(experiment, overwrite=False)
        assert train_and_export(experiment, overwrite=False, resume=True) == "trained to step 12 of 12"
        assert "already" in train_and_export(experiment, overwrite=False, resume=True)
    assert sorted(path.name for path in experiment.path.iterdir()) == ["representation", "train"]
    assert read_checkpoint(experiment.checkpoints / "step_12.pt").configuration["model.random_seed"] == "1"
