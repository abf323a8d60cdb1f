import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from messages import facts

from disentanglement_challenge import files
from disentanglement_challenge.errors import ConfigError, DataError, OutputError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import check_writable, make_folder, remove_torn, replacing, write_json, write_text


def test_a_failed_write_leaves_the_old_content(tmp_path):
    target = tmp_path / "scores.json"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError), replacing(target) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.json"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    write_text(tmp_path / "a" / "kept.json", "{}")
    killed = "import os, sys; from pathlib import Path; from disentanglement_challenge.files import replacing\n"
    killed += "with replacing(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", killed, tmp_path / "a" / "torn.json"], cwd=ROOT)
    assert len(os.listdir(tmp_path / "a")) == 2
    remove_torn(tmp_path)
    assert os.listdir(tmp_path / "a") == ["kept.json"]


def test_written_files_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {"mig": 0.5})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert (tmp_path / "a.json").read_text() == '{\n  "mig": 0.5\n}\n'


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(OutputError, match=facts(tmp_path / "model.pt", "No space left on device")),
        replacing(tmp_path / "model.pt"),
        open("/dev/full", "w") as full,
    ):
        full.write("x")
        full.flush()
    assert os.listdir(tmp_path) == []


def test_a_folder_where_a_file_stands(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=facts(tmp_path / "file", "Not a directory")):
        make_folder(tmp_path / "file" / "below")


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(OutputError, match=facts(tmp_path, "File name too long")):
        check_writable(tmp_path / ("x" * 300))
    experiment = Experiment(tmp_path / ("x" * 300))
    assert not experiment.has_checkpoints
    assert experiment.model_to_score == experiment.model


def test_a_name_that_no_folder_can_have_is_one_line(tmp_path):
    experiment = Experiment(tmp_path / ("x" * 300))
    with pytest.raises(OutputError, match=facts(experiment.path)):
        experiment.check_start(overwrite=False)
    with pytest.raises(OutputError, match=facts(experiment.path)):
        experiment.check_scores(overwrite=False)


def test_what_cannot_be_looked_up_is_one_line(tmp_path):
    assert files.exists(tmp_path)
    assert not files.exists(tmp_path / "a" / "b")
    with pytest.raises(DataError, match=facts("cannot look for", "too long")):
        files.exists(tmp_path / ("x" * 300))


def test_a_check_leaves_no_folder(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []


def test_a_check_leaves_what_another_process_makes_meanwhile(tmp_path, monkeypatch):
    def make(path):
        path.mkdir(parents=True)
        (path / "of_another").touch()

    monkeypatch.setattr(files, "make_folder", make)
    check_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "of_another").exists()


def test_two_runs_of_one_experiment(tmp_path):
    experiment = Experiment(tmp_path / "e")
    with (
        experiment.training(),
        pytest.raises(OutputError, match=facts(f"process {os.getpid()}", "python", experiment.path)),
        experiment.scoring(),
    ):
        pass
    with experiment.scoring():
        pass
    assert not experiment.path.exists()


def test_an_experiment_is_replaced_only_when_told_to_and_when_the_new_one_is_whole(tmp_path):
    experiment = Experiment(tmp_path / "e")
    experiment.check_start(overwrite=False)
    write_text(experiment.model, "old model")
    write_text(experiment.scores, "old scores")
    with pytest.raises(OutputError, match=facts(experiment.path, "--overwrite")):
        experiment.check_start(overwrite=False)
    with pytest.raises(OutputError, match=facts(experiment.path, "scores.json", "--overwrite")):
        experiment.check_scores(overwrite=False)
    experiment.check_start(overwrite=True)
    with pytest.raises(ZeroDivisionError), experiment.training() as unfinished:
        write_text(unfinished.model, "half a model")
        1 / 0  # noqa: B018
    assert experiment.model.read_text() == "old model"
    assert experiment.scores.exists()
    with experiment.training() as unfinished:
        write_text(unfinished.model, "new model")
        write_text(unfinished.train / "losses.json", "{}")
        experiment.take_training()
    assert experiment.model.read_text() == "new model"
    assert not experiment.scores.exists()
    assert sorted(os.listdir(experiment.path)) == ["representation", "train"]


@pytest.mark.parametrize("name", ["pytorch_model.onnx", "pytorch_model.pt2", "results/gin/mine.gin"])
def test_a_representation_in_any_format_is_not_replaced_unasked(tmp_path, name):
    experiment = Experiment(tmp_path)
    experiment.representation_results.mkdir(parents=True)  # as the kit's get_model_path does
    experiment.check_start(overwrite=False)
    write_text(experiment.model.parent / name, "somebody's")
    with pytest.raises(OutputError, match=facts(experiment.path, os.path.basename(name), "--overwrite")):
        experiment.check_start(overwrite=False)
    experiment.check_start(overwrite=True)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../escape"])
def test_a_name_that_leads_elsewhere(monkeypatch, name):
    monkeypatch.setenv("AICROWD_EVALUATION_NAME", name)
    with pytest.raises(ConfigError, match=facts(repr(name), "plain name", "AICROWD_OUTPUT_PATH")):
        Experiment.from_environment()


def test_an_interrupted_run_is_kept_once_it_has_a_checkpoint(tmp_path):
    experiment = Experiment(tmp_path / "e")
    with pytest.raises(ZeroDivisionError), experiment.training() as unfinished:
        write_text(unfinished.train / "config.gin", "")
        1 / 0  # noqa: B018
    assert not experiment.path.exists()
    with pytest.raises(ZeroDivisionError), experiment.training() as unfinished:
        write_text(unfinished.checkpoints / "step_10.pt", "")
        1 / 0  # noqa: B018
    assert experiment.unfinished.has_checkpoints
    with pytest.raises(OutputError, match=facts(experiment.path, "--resume", "--discard_unfinished", "--overwrite")):
        experiment.check_start(overwrite=False)
    experiment.check_start(overwrite=True)


def test_what_each_flag_does_about_an_earlier_run(tmp_path):
    experiment = Experiment(tmp_path / "e")
    assert experiment.resumable() is None
    experiment.check_start(overwrite=False, resume=True)  # allowed without a run too
    write_text(experiment.checkpoints / "step_10.pt", "")
    with pytest.raises(OutputError, match=facts(experiment.path, "training run", "--resume", "--overwrite")):
        experiment.check_start(overwrite=False)
    with pytest.raises(OutputError, match=facts(experiment.path, "was stopped", "--resume", "--overwrite")):
        experiment.check_start(overwrite=False, discard_unfinished=True)
    write_text(experiment.losses, "{}")  # as at the end of a run
    with pytest.raises(OutputError, match=facts(experiment.path, "no interrupted training run")):
        experiment.check_start(overwrite=False, discard_unfinished=True)
    experiment.check_start(overwrite=False, resume=True)
    assert experiment.resumable() == experiment
    write_text(experiment.unfinished.checkpoints / "step_5.pt", "")
    assert experiment.resumable() == experiment.unfinished
    experiment.check_start(overwrite=False, resume=True)
    experiment.check_start(overwrite=False, discard_unfinished=True)


def test_a_run_that_is_under_way_is_not_one_that_was_interrupted(tmp_path):
    experiment = Experiment(tmp_path)
    write_text(experiment.unfinished.checkpoints / "step_10.pt", "")
    for flags in ({}, {"overwrite": True}, {"resume": True}, {"discard_unfinished": True}):
        with (
            experiment.training(),
            pytest.raises(OutputError, match=facts(f"process {os.getpid()}", experiment.path)) as raised,
        ):
            experiment.check_start(**{"overwrite": False, **flags})
        assert "--overwrite" not in str(raised.value)


def test_scoring_leaves_an_interrupted_run_alone(tmp_path):
    experiment = Experiment(tmp_path)
    write_text(experiment.unfinished.checkpoints / "step_10.pt", "")
    write_text(experiment.unfinished_scores.scores, "of a killed evaluation")
    with experiment.scoring() as unfinished:
        assert not unfinished.path.exists()
        write_text(unfinished.scores, "{}")
        write_text(unfinished.metrics / "mig", "")
        experiment.take_scores()
    assert experiment.unfinished.has_checkpoints
    assert sorted(os.listdir(tmp_path)) == ["metrics", "scores.json", "unfinished"]


def test_a_place_where_no_file_can_be_made_is_one_line():
    # /proc refuses even root.
    with pytest.raises(OutputError, match=facts("/proc/plot.png")), replacing(Path("/proc/plot.png")):
        pass
