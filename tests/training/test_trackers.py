"""Weights & Biases and MLflow, by their own libraries: an offline folder, a local store."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, extra
from squares import SMALL, squares

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import read_json
from disentanglement_challenge.training.log_lines import read_log
from disentanglement_challenge.training.run import train_and_export
from disentanglement_challenge.training.trackers import Trackers, trackers_in_use

LOGGED = [*SMALL, "dataset.name = 'squares'", "log.every_steps = 2", "pictures.every_steps = 4"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """What the libraries write by default goes to the test's folder, and nothing to a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def train(experiment, *bindings, **keywords):
    with gin_configuration(["shared.gin"], [*LOGGED, *bindings]):
        train_and_export(experiment, overwrite=False, ground_truth_data=squares(), **keywords)


def test_mlflow_has_what_the_log_has(tmp_path):
    extra("mlflow")
    import mlflow

    experiment = Experiment(tmp_path / "mine")
    train(experiment, "trackers.use = ['mlflow']")
    client = mlflow.MlflowClient()
    run_id = read_json(experiment.tracked)["mlflow"]
    run = client.get_run(run_id)
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert client.get_experiment(run.info.experiment_id).name == "disentanglement_challenge"
    assert run.data.params["encoder.num_latent"] == "3"
    assert run.data.params["vae/AdamOptimizer.beta2"] == "0.999"

    history = {name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)] for name in run.data.metrics}
    entries = read_log(experiment.log)
    assert history == {
        name: [(entry["step"], entry[name]) for entry in entries] for name in entries[0] if name != "step"
    }
    pictures = {path.path.split("/")[-1].split("+step+")[0] for path in client.list_artifacts(run_id, "images")}
    assert pictures == {"reconstructions", "traversals", "samples"}


TRAIN = """
import sys
from pathlib import Path

from test_trackers import Experiment, train

train(Experiment(Path(sys.argv[1])), *sys.argv[2:])
"""


def kill_between_checkpoints(process, run):
    """Kill a training process when it has logged two steps or more since its newest checkpoint."""
    while True:
        time.sleep(0.1)
        assert process.poll() is None, "it ended"
        process.send_signal(signal.SIGSTOP)  # or it would go on between the look and the kill
        kept = [int(path.stem.removeprefix("step_")) for path in run.checkpoints.glob("step_*.pt")]
        logged = [entry["step"] for entry in read_log(run.log)] if run.log.exists() else []
        if kept and logged and logged[-1] >= max(kept) + 2:
            process.kill()
            process.wait()
            return
        process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_is_one_run_of_mlflow_with_every_step(tmp_path):
    extra("mlflow")
    import mlflow

    experiment = Experiment(tmp_path / "mine")
    bindings = ["trackers.use = ['mlflow']", "log.every_steps = 1", "checkpoints.every_minutes = 0.01"]
    folders = os.pathsep.join(map(str, (ROOT, ROOT / "tests", Path(__file__).parent)))
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, experiment.path, *bindings, "model.training_steps = 10000"],
        env={**os.environ, "PYTHONPATH": folders},
    )
    try:
        kill_between_checkpoints(process, experiment.unfinished)
    finally:
        process.kill()
        process.wait()
    run_id = read_json(experiment.unfinished.tracked)["mlflow"]
    last = read_log(experiment.unfinished.log)[-1]["step"]
    for steps in (last + 3, last + 5):  # what was killed, then what had come to its end
        train(experiment, *bindings, f"model.training_steps = {steps}", resume=True)

    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert [found.info.run_id for found in client.search_runs([run.info.experiment_id])] == [run_id]
    entries = read_log(experiment.log)
    assert [entry["step"] for entry in entries] == list(range(1, last + 6))
    for name in entries[0].keys() - {"step"}:
        history = sorted(client.get_metric_history(run_id, name), key=lambda value: (value.step, value.timestamp))
        by_step = [list(values) for _, values in groupby(history, key=lambda value: value.step)]
        assert max(map(len, by_step)) == 2, "no step was made twice"
        assert [(values[-1].step, values[-1].value) for values in by_step] == [
            (entry["step"], entry[name]) for entry in entries
        ]


def records(path):
    """The records of an offline run's file: LevelDB's log format (github.com/google/leveldb, doc/log_format.md)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, record = path.read_bytes(), 7, b""  # behind W&B's own header
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no header lies across two blocks
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def of_wandb(path):
    """What one start of a run left: the run, and its history by step."""
    run, history = None, {}
    for record in records(path):
        if record.HasField("run"):
            run = record.run
        if record.HasField("history"):
            values = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item
            }
            history[values["_step"]] = values
    return run, history


def test_wandb_has_what_the_log_has_and_a_resumed_run_is_the_same(tmp_path, monkeypatch):
    extra("wandb")
    monkeypatch.setenv("WANDB_PROJECT", "squares")
    experiment = Experiment(tmp_path / "mine")
    train(experiment, "trackers.use = ['wandb']")
    (first,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    run, history = of_wandb(first)
    assert (run.display_name, run.project) == ("mine", "squares")
    assert {"wandb": run.run_id} == read_json(experiment.tracked)
    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert config["encoder"]["num_latent"] == 3
    assert config["vae/AdamOptimizer"]["beta2"] == 0.999
    assert config["encoder"]["encoder_fn"] == "@conv_encoder"

    def check(history, entries):
        assert sorted(history) == [entry["step"] for entry in entries]
        for entry in entries:
            assert {name: history[entry["step"]][name] for name in entry if name != "step"} == {
                name: pytest.approx(value, rel=1e-6) for name, value in entry.items() if name != "step"
            }

    check(history, read_log(experiment.log))
    assert {step for step, values in history.items() if "traversals/path" in values} == {4, 8, 12}

    train(experiment, "trackers.use = ['wandb']", "model.training_steps = 16", resume=True)
    (second,) = set(tmp_path.glob("wandb/offline-run-*/*.wandb")) - {first}
    resumed, more = of_wandb(second)
    assert resumed.run_id == run.run_id
    check(more, [entry for entry in read_log(experiment.log) if entry["step"] > 12])


def test_a_tracker_that_cannot_start_is_one_line_before_the_first_step(tmp_path, monkeypatch):
    extra("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://nobody")
    experiment = Experiment(tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"^trackers\.use: mlflow cannot start a run \(.*gopher"):
        train(experiment, "trackers.use = ['mlflow']")
    assert not experiment.model.exists()


def test_a_tracker_that_fails_later_is_given_up(tmp_path, caplog):
    extra("mlflow")
    experiment = Experiment(tmp_path / "mine")
    experiment.train.mkdir(parents=True)
    with Trackers(experiment, {"model.batch_size": "8"}, ["mlflow"]) as trackers:
        trackers.scalars({"loss": 1.0}, 1)
        with (tmp_path / "store.db").open("r+b") as file:
            file.write(b"no database " * 1000)
        trackers.scalars({"loss": 0.5}, 2)
        assert "mlflow is given up (" in caplog.text
        said = len(caplog.records)
        trackers.images({"samples": np.zeros((4, 4, 3), np.uint8)}, 2)
    assert len(caplog.records) == said


def test_without_trackers_nothing_is_left(tmp_path):
    with Trackers(Experiment(tmp_path), {}, []) as trackers:
        trackers.scalars({"loss": 1.0}, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("binding", ["trackers.use = 'wandb'", "trackers.use = ['tensorboard']"])
def test_another_tracker_is_refused(binding):
    with gin_configuration([], [binding]), pytest.raises(ConfigError, match=r"trackers\.use is .*'wandb' and 'mlflow'"):
        trackers_in_use()
