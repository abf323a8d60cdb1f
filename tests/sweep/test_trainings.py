"""Which runs are one training, and that rows which continue each other are what each would be alone."""

import json
import shutil

import numpy as np
import pytest
import torch
from squares import QUICK_SCORES, SMALL, squares

from disentanglement_challenge.data import named
from disentanglement_challenge.errors import TrainingError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.sweep import runs as runs_module
from disentanglement_challenge.sweep.runs import make_runs, table_folder
from disentanglement_challenge.sweep.trainings import seeds_of_rows, trainings
from disentanglement_challenge.sweep.worker import carry_out_seeds
from disentanglement_challenge.training.checkpoints import newest_first, read_checkpoint
from disentanglement_challenge.training.seeds import train_and_export_together


def of(*tables, rows=None, seeds=1, bindings=(), divide_steps=1):
    """The trainings of some tables, as names."""
    folders = [table_folder(str(table)) for table in tables]
    runs = []
    for folder in folders:
        names = rows or sorted(file.stem for file in folder.glob("*.gin"))
        made, broken = make_runs(folder, names, seeds, [], bindings, divide_steps)
        assert not broken
        runs += made
    return [[[run.title for run in stage] for stage in training.stages] for training in trainings(runs)]


def test_the_rows_of_table_2_are_one_training_under_each_seed():
    assert of("table2", rows=["1000k", "30k", "500k"], seeds=2, divide_steps=30) == [
        [[f"table2/{row}/seed_{seed}"] for row in ("30k", "500k", "1000k")] for seed in range(2)
    ]


def test_the_row_that_two_tables_share_is_trained_once():
    found = of("table1", "table3", bindings=["model.training_steps = 30000"], divide_steps=10)
    assert [["table1/factor_vae/seed_0", "table3/256/seed_0"]] in found
    assert len(found) == 6 + 7 - 1
    assert [["table1/factor_vae/seed_0"], ["table3/256/seed_0"]] in of("table1", "table3")  # 30,000 and 800,000 steps


ANNEALED = 'include "table1/annealed_vae.gin"\n'


@pytest.mark.parametrize(
    ("rows", "stages"),
    [
        # The file that a binding stands in, and the order, are of no account.
        (["model.training_steps = 40\nvae.beta = 2.0", "vae.beta = 2.0\nmodel.training_steps = 20"], [["b"], ["a"]]),
        (["model.training_steps = 20", "model.training_steps = 20\nencoder.num_latent = 256"], [["a", "b"]]),
        # What is annealed over the steps differs in more than their number.
        (
            [
                f"{ANNEALED}model.training_steps = 20\nannealed_vae.iteration_threshold = 20",
                f"{ANNEALED}model.training_steps = 40\nannealed_vae.iteration_threshold = 40",
            ],
            None,
        ),
        (
            [
                f"{ANNEALED}model.training_steps = %N\nannealed_vae.iteration_threshold = %N\nN = {steps}"
                for steps in (20, 40)
            ],
            None,
        ),
        ([f"{ANNEALED}model.training_steps = {steps}" for steps in (20, 40)], [["a"], ["b"]]),
        # How far a limit on time lets a run come depends on what it starts from.
        ([f"model.training_steps = {steps}\nmodel.time_limit = 60.0" for steps in (20, 40)], None),
    ],
)
def test_what_is_one_training_is_decided_by_what_gin_binds(tmp_path, rows, stages):
    for name, text in zip("ab", rows, strict=True):
        (tmp_path / f"{name}.gin").write_text(f'include "table1/beta_vae.gin"\n{text}\n')
    found = [[[title.split("/")[1] for title in stage] for stage in training] for training in of(tmp_path)]
    assert found == ([stages] if stages else [[["a"]], [["b"]]])


class Silent:
    """Where lines of progress go, as on a cluster's board."""

    class update:
        remote = staticmethod(lambda name, line: None)


@pytest.fixture
def swept(tmp_path, monkeypatch):
    """Carries out rows of some numbers of steps, in tables, as a sweep's process does; returns their experiments."""
    monkeypatch.setitem(named.LOADERS, "squares", lambda name, path: squares())
    bindings = [*SMALL, *QUICK_SCORES, "checkpoints.every_minutes = 0", "log.every_steps = 10"]
    bindings = [binding for binding in bindings if "training_steps" not in binding]

    def sweep(output, *more, seeds=1, together=False, **steps):
        runs = []
        for name, number in steps.items():
            table, _, row = name.partition("_")
            folder = tmp_path / "gin" / output / table
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{row}.gin").write_text(f'include "shared.gin"\nmodel.training_steps = {number}\n')
            made, broken = make_runs(folder, [row], seeds, [], [*bindings, *more])
            assert not broken
            runs += made
        folders = {run.table: tmp_path / output / run.table for run in runs}
        found = trainings(runs)
        for group in seeds_of_rows(found) if together else [[training] for training in found]:
            for ended in carry_out_seeds._function(group, folders, Silent):
                assert not ended.error
        if seeds > 1:
            return {f"{run.row}_{run.seed}": Experiment(folders[run.table] / run.name) for run in runs}
        return {f"{run.table}_{run.row}": Experiment(folders[run.table] / run.name) for run in runs}

    return sweep


def record(experiment):
    """A run's record, without what another day's run may have otherwise."""
    found = json.loads((experiment.path / "run.json").read_text())
    losses = {name: value for name, value in found["losses"].items() if "second" not in name}
    return {**found, "losses": losses, "seconds": None}


def state(experiment):
    return read_checkpoint(newest_first(experiment.checkpoints)[0]).state


def assert_as_alone(chained, alone):
    """To the last bit: weights, model, losses and their log, pictures, scores, and the random streams at the end."""
    (mine, other) = (torch.jit.load(experiment.model).state_dict() for experiment in (chained, alone))
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert chained.log.read_text() == alone.log.read_text()
    assert chained.pictures.read_bytes() == alone.pictures.read_bytes()
    assert chained.matrices.read_bytes() == alone.matrices.read_bytes()
    assert chained.scores.read_text() == alone.scores.read_text()
    for name in ("train/config.gin", "representation/results/gin/train.gin"):
        assert (chained.path / name).read_text() == (alone.path / name).read_text()
    assert state(chained)["random"] == state(alone)["random"]
    assert torch.equal(state(chained)["step"]["noise"], state(alone)["step"]["noise"])
    differing = ("continued_from", "same_as")
    assert {**record(chained), **dict.fromkeys(differing)} == {**record(alone), **dict.fromkeys(differing)}


def test_rows_that_continue_each_other_are_what_each_would_be_alone(swept):
    """15 is no step that is logged, so the line that the first row ends with must not stay in the second's log."""
    together = swept("together", t_short=15, t_middle=20, t_long=40)
    for name, steps in (("t_short", 15), ("t_middle", 20), ("t_long", 40)):
        assert_as_alone(together[name], swept(f"alone_{name}", **{name: steps})[name])
    rows = {name: record(experiment)["continued_from"] for name, experiment in together.items()}
    assert rows == {
        "t_short": None,
        "t_middle": {"table": "t", "row": "short"},
        "t_long": {"table": "t", "row": "middle"},
    }
    # Each keeps its own checkpoints, and no copy of another's.
    kept = [{path.name for path in newest_first(experiment.checkpoints)} for experiment in together.values()]
    assert kept == [{"step_14.pt", "step_15.pt"}, {"step_19.pt", "step_20.pt"}, {"step_39.pt", "step_40.pt"}]


def test_a_row_of_the_same_configuration_in_another_table_has_the_same_record(swept):
    found = swept("both", one_a=10, two_b=10, two_c=12)
    first, second = record(found["one_a"]), record(found["two_b"])
    assert second == {**first, "row": "b", "same_as": {"table": "one", "row": "a"}}
    assert record(found["two_c"])["continued_from"] == {"table": "one", "row": "a"}
    for name in ("model", "scores", "log", "pictures", "losses", "matrices"):
        paths = [getattr(found[row], name) for row in ("one_a", "two_b")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not found["two_b"].has_checkpoints


def test_a_row_that_could_not_be_continued_does_not_say_that_it_was(swept):
    """A row that was copied from another table's has no checkpoints."""
    shutil.rmtree(swept("out", t_a=3)["t_a"].checkpoints)
    assert record(swept("out", t_a=3, t_b=5)["t_b"])["continued_from"] is None


def test_what_is_finished_is_not_made_again(swept):
    found = swept("out", one_a=10, one_b=12)
    before = {path: path.stat().st_mtime_ns for path in found["one_a"].path.rglob("*")}
    again = swept("out", one_a=10, one_b=12, two_c=10)
    assert {path: path.stat().st_mtime_ns for path in found["one_a"].path.rglob("*")} == before
    np.testing.assert_equal(record(again["two_c"])["scores"], record(found["one_a"])["scores"])


def test_the_seeds_of_the_same_rows_are_one_group():
    made, _ = make_runs(table_folder("table2"), ["1000k", "30k"], 2)
    others, _ = make_runs(table_folder("table1"), ["beta_vae"], 2)
    groups = seeds_of_rows(trainings([*made, *others]))
    rows = [[[(run.row, run.seed) for run in training.runs] for training in group] for group in groups]
    assert rows == [
        [[("30k", seed), ("1000k", seed)] for seed in range(2)],
        [[("beta_vae", seed)] for seed in range(2)],
    ]


SMOOTH = [f"{network}.activation = 'tanh'" for network in ("conv_encoder", "deconv_decoder", "fc_discriminator")]


def test_seeds_that_are_trained_together_have_the_records_of_their_own(swept, monkeypatch):
    """Two rows that continue each other, in two seeds; what is left to do after the first row is done together too."""
    rows = {"t_short": 12, "t_long": 20}
    alone = swept("alone", *SMOOTH, seeds=2, **rows)
    calls = []

    def together(experiments, **flags):
        calls.append(list(experiments))
        return train_and_export_together(experiments, on_cpu=True, **flags)

    monkeypatch.setattr(runs_module, "train_and_export_together", together)
    found = swept("together", *SMOOTH, seeds=2, together=True, **rows)
    assert calls == [[0, 1], [0, 1]]
    assert found.keys() == alone.keys() == {"short_0", "short_1", "long_0", "long_1"}
    for name, experiment in found.items():
        ours, theirs = record(experiment), record(alone[name])
        assert ours.keys() == theirs.keys()
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4, abs=1e-4)
        for key in ours.keys() - {"losses", "scores"}:
            assert ours[key] == theirs[key], key
        assert ours["scores"].keys() == theirs["scores"].keys()
        assert json.loads((experiment.path / "run.json").read_text())["seconds"] > 0
        kept = [[path.name for path in newest_first(each.checkpoints)] for each in (experiment, alone[name])]
        assert kept[0] == kept[1]
    swept("together", *SMOOTH, seeds=2, together=True, **rows)  # all finished
    assert len(calls) == 2


def test_a_seed_that_fails_beside_others_is_told_by_its_own_reason(tmp_path, monkeypatch):
    monkeypatch.setitem(named.LOADERS, "squares", lambda name, path: squares())

    def together(experiments, **flags):
        outcomes = train_and_export_together(experiments, on_cpu=True, **flags)
        return {**outcomes, 1: TrainingError("loss is nan at step 3")}

    monkeypatch.setattr(runs_module, "train_and_export_together", together)
    (tmp_path / "row.gin").write_text('include "shared.gin"\n')
    made, _ = make_runs(tmp_path, ["row"], 2, [], [*SMALL, *QUICK_SCORES])
    folders = {tmp_path.name: tmp_path / "out"}
    first, second = carry_out_seeds._function(trainings(made), folders, Silent)
    assert first.record["seed"] == 0
    assert (second.run.seed, second.record, second.error) == (1, None, "loss is nan at step 3")


def test_without_a_gpu_seeds_are_not_trained_together(tmp_path, monkeypatch):
    monkeypatch.setenv("AICROWD_CUDA", "False")
    monkeypatch.setitem(named.LOADERS, "squares", lambda name, path: squares())
    (tmp_path / "row.gin").write_text('include "shared.gin"\n')
    made, _ = make_runs(tmp_path, ["row"], 2, [], [*SMALL, *QUICK_SCORES])
    ended = list(carry_out_seeds._function(trainings(made), {tmp_path.name: tmp_path / "out"}, Silent))
    assert [each.run.seed for each in ended] == [0, 1]
    assert all("seeds are trained together on a GPU alone" in each.error for each in ended)
