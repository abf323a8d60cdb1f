"""What training logs as plain lines: whole lines, each step once, whatever killed the process before."""

import json
import os
import resource
import subprocess
import sys

import pytest
from conftest import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError, DataError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.log import TrainingLog
from disentanglement_challenge.training.log_lines import read_log


def write(experiment, done, *steps, **settings):
    experiment.train.mkdir(parents=True, exist_ok=True)
    with TrainingLog(experiment, done, 100, **settings) as log:
        for step in steps:
            log.advance()
            log.losses({"loss": 1 / step, "kl_loss": float(step)}, step)


def test_the_lines_are_the_losses(tmp_path):
    experiment = Experiment(tmp_path)
    write(experiment, 0, 3, 7)
    assert read_log(experiment.log) == [{"step": step, "loss": 1 / step, "kl_loss": float(step)} for step in (3, 7)]
    write(experiment, 7, 9, every_steps=1)
    assert [entry["step"] for entry in read_log(experiment.log)] == [3, 7, 9]


def test_what_was_logged_because_a_run_ended_there_is_taken_back_by_the_run_that_goes_on(tmp_path):
    """So that the lines, and TensorBoard's curves, are those of a run that did not end there."""
    experiment = Experiment(tmp_path)
    write(experiment, 0, 4, 7, every_steps=4)
    write(experiment, 7, 8, every_steps=4)
    assert [entry["step"] for entry in read_log(experiment.log)] == [4, 8]
    events = EventAccumulator(str(experiment.train)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [4, 8]


def test_the_last_line_stays_when_there_are_no_more_steps_to_make(tmp_path):
    experiment = Experiment(tmp_path)
    write(experiment, 0, 60, 100, every_steps=30)
    write(experiment, 100, every_steps=30)
    assert [entry["step"] for entry in read_log(experiment.log)] == [60, 100]


def test_what_is_trained_again_and_what_is_torn_is_taken_back(tmp_path):
    experiment = Experiment(tmp_path)
    write(experiment, 0, 3, 7)
    with experiment.log.open("a") as file:
        file.write('{"step": 9, "lo')
    assert [entry["step"] for entry in read_log(experiment.log)] == [3, 7]
    write(experiment, 5, 8)
    assert [entry["step"] for entry in read_log(experiment.log)] == [3, 8]


def test_a_follower_writes_nothing(tmp_path):
    experiment = Experiment(tmp_path)
    write(experiment, 0, 3, is_leader=False)
    assert list(experiment.train.iterdir()) == []


@pytest.mark.parametrize("line", ["nothing", "[1]", '{"loss": 1}', '{"step": "1"}', '{"step": 1, "loss": "x"}'])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1, "loss": 2.0}}\n{line}\n')
    with pytest.raises(DataError, match=r"log\.jsonl is damaged: line 2"):
        read_log(path)


def test_the_bar_shows_the_terms_that_gin_names(tmp_path, capsys):
    with gin_configuration([], ["log.bar_terms = ['kl_loss', 'nothing']"]):
        write(Experiment(tmp_path), 0, 8)
    shown = capsys.readouterr().err
    assert "kl_loss=8" in shown
    assert "loss=0.125" not in shown
    assert "nothing" not in shown


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("log.every_steps = 0", r"log\.every_steps is 0"),
        ("log.bar_terms = 'loss'", r"log\.bar_terms is 'loss'; .*list of names"),
        ("log.bar_terms = [1]", r"log\.bar_terms is \[1\]"),
    ],
)
def test_a_setting_that_cannot_be(tmp_path, binding, message):
    with gin_configuration([], [binding]), pytest.raises(ConfigError, match=message):
        TrainingLog(Experiment(tmp_path), 0, 100)


FILL = """
import sys
from pathlib import Path
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.log import TrainingLog
experiment = Experiment(Path(sys.argv[1]))
experiment.train.mkdir()
with TrainingLog(experiment, 0, 10**6) as log:
    for step in range(10**6):
        log.losses({"loss": 1.0}, step)
"""


def test_a_full_disk_is_one_line(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", FILL, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        capture_output=True,
        text=True,
    )
    assert "OutputError: cannot write" in result.stderr.splitlines()[-1]
    lines = (tmp_path / "train" / "log.jsonl").read_text().split("\n")
    assert [json.loads(line)["step"] for line in lines[:-1]] == list(range(len(lines) - 1))
