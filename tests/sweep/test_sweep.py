"""The sweep as real processes: on this machine, and on a Ray cluster of two nodes with a worker killed under a run."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from quick_scores import quick_scores
from ray.cluster_utils import Cluster

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.evaluation.harness import evaluate
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.sweep.cluster import Sweep
from disentanglement_challenge.sweep.connection import cluster
from disentanglement_challenge.sweep.runs import carry_out, make_runs
from disentanglement_challenge.training.checkpoints import newest_first
from disentanglement_challenge.training.run import train_and_export

pytestmark = pytest.mark.processes
ROW = """
include "table1/beta_vae.gin"
model.name = "{name}"
model.training_steps = {steps}
model.batch_size = 8
model.eval_steps = 1
encoder.num_latent = {num_latent}
conv_encoder.width = 0.25
deconv_decoder.width = 0.25
{scores}
"""


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()

    def add(row, steps=3, num_latent=3, name=None):
        """Adds a row; those of one name differ in nothing else than what is given."""
        scores = "\n".join(quick_scores(300))
        text = ROW.format(name=name or row, steps=steps, num_latent=num_latent, scores=scores)
        (folder / f"{row}.gin").write_text(text)

    add.folder = folder
    return add


def start(table, output, data_path, *flags):
    return subprocess.Popen(
        [sys.executable, "-m", "disentanglement_challenge.sweep", str(table.folder), "--output", str(output), *flags],
        env={**os.environ, "DISENTANGLEMENT_LIB_DATA": str(data_path), "COLUMNS": "200"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C is ignored in what a shell runs in the background, and by all that is started from there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process):
    stdout, stderr = process.communicate(timeout=900)
    return process.returncode, stdout, stderr


def scores(output):
    return {run["row"]: run["scores"] for run in json.loads((output / "results.json").read_text())["runs"]}


def workers_below(pid):
    """Processes that carry out a run."""
    return processes_below(pid, "ray::carry_out_seeds")


def processes_below(pid, words):
    """Processes with such words in their command, among all that a process has started and they in turn."""
    found, parents = [], {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parents[int(status.parent.name)] = int(re.search(r"^PPid:\s*(\d+)", status.read_text(), re.M)[1])
        except OSError:
            continue  # It has ended since.
    for child in parents:
        ancestor = child
        while ancestor in parents and ancestor != pid:
            ancestor = parents[ancestor]
        try:
            if ancestor == pid and words.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        except OSError:
            continue
    return found


def wait_for(condition, process=None, seconds=600):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert process is None or process.poll() is None, f"the process ended: {process.communicate()}"
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return value


def test_a_cluster_of_two_nodes_loses_a_worker_and_no_run(table, tmp_path, embedded_data_path):
    for row in ("first", "second"):
        table(row, steps=30)
    table("impossible", num_latent=0)
    output = tmp_path / "out"
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=1)
        process = start(table, output, embedded_data_path, "--seeds", "1", "--address", nodes.address)
        log = output / "second" / "seed_0.log"
        wait_for(lambda: log.is_file() and "training" in log.read_text(), process)
        killed = wait_for(lambda: workers_below(os.getpid()), process)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        code, stdout, stderr = finish(process)
    finally:
        nodes.shutdown()

    assert code == 1, stdout + stderr
    assert re.search(r"impossible/seed_0 failed: .*num_latent is 0", stdout)
    assert set(scores(output)) == {"first", "second"}
    # The two rows differ by name alone, and what was killed was one of them or both.
    assert scores(output)["first"] == scores(output)["second"]

    experiment = Experiment(tmp_path / "by_hand")
    files, bindings = [str(table.folder / "first.gin")], ["dataset.name = 'mpi3d_embedded'"]
    environment = pytest.MonkeyPatch()
    environment.setenv("DISENTANGLEMENT_LIB_DATA", str(embedded_data_path))
    with environment.context():
        with gin_configuration(files, bindings):
            train_and_export(experiment, overwrite=False)
        by_hand = evaluate(experiment, files, bindings).by_metric
    assert scores(output)["first"] == pytest.approx({metric: by_hand[metric].value for metric in METRICS}, abs=1e-3)


def test_an_interrupted_sweep_keeps_what_is_finished_and_goes_on(table, tmp_path, embedded_data_path):
    table("quick")
    table("slow", steps=100_000)
    output = tmp_path / "out"
    process = start(table, output, embedded_data_path, "--seeds", "1")
    wait_for(lambda: (output / "results.json").is_file(), process)
    (output / "results.json").unlink()  # as if the signal came between the run's record and this file
    workers = wait_for(lambda: workers_below(process.pid), process)
    process.send_signal(signal.SIGINT)
    code, stdout, stderr = finish(process)
    assert code == 130, stdout + stderr
    assert f"2 runs to go, by 2 trainings; they write to {output}" in stdout
    assert "1 of 2 runs are finished and kept; run the same command again" in stdout
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=120)
    kept = scores(output)
    assert set(kept) == {"quick"}

    code, stdout, stderr = finish(start(table, output, embedded_data_path, "--seeds", "1", "--rows", "quick"))
    assert code == 0, stdout + stderr
    assert "1 of 1 runs are already finished" in stdout
    assert "1 seed" in stdout
    assert scores(output) == kept


def test_rows_of_one_training_killed_between_two_and_within_one_are_what_each_is_alone(
    table, tmp_path, embedded_data_path, monkeypatch
):
    """The sweep is killed when the first row is finished; the second's process dies later, and is started again."""
    # The second is long enough not to end before Ray has ended its worker, some seconds after the sweep.
    for row, steps in (("short", 20), ("middle", 500), ("long", 520)):
        table(row, steps, name="chain")
    output = tmp_path / "out"
    flags = ("--seeds", "1", "--gin_bindings", "checkpoints.every_minutes = 0")
    process = start(table, output, embedded_data_path, *flags)
    wait_for(lambda: (output / "short" / "seed_0" / "run.json").is_file(), process)
    (worker,) = workers_below(process.pid)
    assert os.getpgid(worker) == os.getpgid(process.pid)  # so that a signal to the group pauses the runs too
    process.kill()
    process.communicate()
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), seconds=120)
    assert not (output / "middle" / "seed_0" / "run.json").exists()

    process = start(table, output, embedded_data_path, *flags)
    checkpoints = Experiment(output / "middle" / "seed_0").unfinished.checkpoints
    wait_for(lambda: [path for path in newest_first(checkpoints) if path.name != "step_20.pt"], process)
    (worker,) = wait_for(lambda: workers_below(process.pid), process)
    os.kill(worker, signal.SIGKILL)
    assert not (output / "middle" / "seed_0" / "run.json").exists()
    code, stdout, stderr = finish(process)
    assert code == 0, stdout + stderr
    assert len(re.findall("finished in", stdout)) == 2, stdout

    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(embedded_data_path))
    (run,), _ = make_runs(table.folder, ["long"], 1, [], flags[-1:])
    expected = carry_out(run, tmp_path / "alone")
    assert scores(output)["long"] == expected["scores"]
    found, alone = (Experiment(folder / "long" / "seed_0") for folder in (output, tmp_path / "alone"))
    for name in ("log", "pictures", "matrices"):
        assert getattr(found, name).read_bytes() == getattr(alone, name).read_bytes()
    models = [torch.jit.load(experiment.model).state_dict() for experiment in (found, alone)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])


@pytest.mark.parametrize("moment", [None, "gcs_server", "raylet"])
def test_a_sweep_ended_while_ray_starts_leaves_no_trace(table, tmp_path, embedded_data_path, moment):
    table("slow", steps=100_000)
    output = tmp_path / "out"
    process = start(table, output, embedded_data_path, "--seeds", "1")
    wait_for(lambda: (output / "table.json").is_file(), process)
    started = moment and wait_for(lambda: processes_below(process.pid, f"/{moment}"), process)
    process.send_signal(signal.SIGTERM)
    code, stdout, stderr = finish(process)
    assert code == 143, stdout + stderr
    # Ray's core has a handler of its own for a moment, which writes to stderr.
    assert stderr.endswith("stopped at SIGTERM\n"), stderr
    assert "Traceback" not in stderr
    assert not output.exists() or list(output.glob("*/seed_*"))
    assert not started or not any(Path(f"/proc/{pid}").exists() for pid in started)


def test_mistakes_are_one_line(table, tmp_path, embedded_data_path):
    table("quick")
    code, _, stderr = finish(start(table, tmp_path / "out", embedded_data_path, "--rows", "quik"))
    assert code == 1
    assert stderr == "error: mine has no row 'quik'; rows are quick; did you mean 'quick'?\n"
    assert not (tmp_path / "out").exists()


def test_an_address_where_nothing_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match=f"no Ray cluster answers at 127.0.0.1:{port} "), cluster(f"127.0.0.1:{port}"):
        pass


def test_an_address_where_something_else_listens(monkeypatch):
    monkeypatch.setattr("disentanglement_challenge.sweep.connection.ANSWER_WITHIN", 2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"no Ray cluster answers at {address};"), cluster(address):
            pass


@pytest.mark.parametrize("address", ["here", "host:port", ":6379", "ray://host"])
def test_an_address_that_is_none(address):
    with pytest.raises(ConfigError, match="is neither HOST:PORT of a Ray cluster nor auto"), cluster(address):
        pass


def test_a_share_that_no_machine_has():
    with cluster(None):
        for share in (4000, 0, -1):
            message = rf"a run cannot have {share} CPUs; the largest machine here has \d+"
            with pytest.raises(ConfigError, match=message):
                Sweep([], {}, cpus_per_run=share)
        with pytest.raises(ConfigError, match="--seeds_together has the seeds of a row share a GPU, and there is none"):
            Sweep([], {}, gpus_per_run=0, seeds_together=True)
