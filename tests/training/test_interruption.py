"""Training as a real process that is killed, stopped, starved of disk, and resumed."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT
from quick_scores import quick_scores
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_run import TINY, run, start

from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.checkpoints import newest_first, read_checkpoint

pytestmark = pytest.mark.processes
STEPS = 150
TRAINING = [*TINY, "checkpoints.every_minutes = 0", f"model.training_steps = {STEPS}"]
ENDLESS = "model.training_steps = 1000000"


@pytest.fixture
def settings(tmp_path, embedded_data_path):
    return {"AICROWD_OUTPUT_PATH": tmp_path, "DISENTANGLEMENT_LIB_DATA": embedded_data_path}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, embedded_data_path):
    """A run that nothing stopped."""
    path = tmp_path_factory.mktemp("uninterrupted")
    environment = {"AICROWD_OUTPUT_PATH": path, "DISENTANGLEMENT_LIB_DATA": embedded_data_path}
    result = run("train_pytorch.py", bindings=TRAINING, **environment)
    assert result.returncode == 0, result.stderr
    return Experiment(path / "experiment_name")


def flattened(value, name=""):
    """The leaves of nested dicts and lists."""
    if isinstance(value, dict):
        return {leaf: v for key, item in value.items() for leaf, v in flattened(item, f"{name}.{key}").items()}
    if isinstance(value, list | tuple):
        return flattened(dict(enumerate(value)), name)
    return {name: value}


def newest(experiment):
    return newest_first(experiment.checkpoints)[0]


def assert_equal_runs(one, other):
    """Both ended in the same state, bit for bit, and export the same function."""
    states = [flattened(read_checkpoint(newest(run)).state) for run in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, states[1][name]), name
        elif name != ".seconds":
            assert value == states[1][name], name
    images = torch.rand(5, 3, 64, 64)
    assert torch.equal(*(torch.jit.load(run.model)(images) for run in (one, other)))
    losses = [json.loads(run.losses.read_text()) for run in (one, other)]
    for name in losses[0].keys() - {"seconds", "steps_per_second"}:
        assert losses[0][name] == losses[1][name], name


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def started(experiment, settings, *flags, bindings=TRAINING):
    """A training process that has written at least one checkpoint of its own."""
    folder = experiment.unfinished.checkpoints
    before = newest_first(folder)[:1]
    process = start("train_pytorch.py", *flags, bindings=bindings, **settings)
    wait_for(lambda: newest_first(folder)[:1] != before, process)
    return process


def test_killed_at_any_moment_and_resumed_the_weights_are_the_same(tmp_path, settings, uninterrupted):
    """A checkpoint is written after every step, so that most of these kills hit one half written."""
    experiment = Experiment(tmp_path / "experiment_name")
    moments = random.Random(0)
    reached = []
    for _ in range(4):
        process = started(experiment, settings, "--resume")
        time.sleep(moments.uniform(0, 0.4))
        process.kill()
        process.communicate()
        assert not experiment.model.exists()
        reached.append(read_checkpoint(newest(experiment.unfinished)).done)
    assert reached == sorted(set(reached))
    assert reached[-1] < STEPS

    result = run("train_pytorch.py", bindings=TRAINING, **settings)
    assert result.returncode == 1
    assert "pass --resume" in result.stderr
    assert str(experiment.unfinished.path) in result.stderr

    result = run("train_pytorch.py", "--resume", bindings=TRAINING, **settings)
    assert result.returncode == 0, result.stderr
    assert f"steps: from {reached[-1]} to {STEPS}\n" in result.stderr
    assert_equal_runs(experiment, uninterrupted)
    assert sorted(os.listdir(experiment.path)) == ["representation", "train"]
    # Nothing half written is left, and the curves have every step once.
    assert sorted(os.listdir(experiment.checkpoints)) == [f"step_{STEPS - 1}.pt", f"step_{STEPS}.pt"]
    events = EventAccumulator(str(experiment.train)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [100, STEPS]


def test_sigterm_stops_between_two_steps_and_leaves_a_model(tmp_path, settings, uninterrupted):
    experiment = Experiment(tmp_path / "experiment_name")
    process = started(experiment, settings)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 143
    line = stderr.strip().splitlines()[-1]
    message = rf"trained to step (\d+) of {STEPS} and stopped at SIGTERM; --resume continues from there; .*model.*pt"
    done = int(re.fullmatch(message, line).group(1))
    assert read_checkpoint(newest(experiment)).done == done < STEPS
    assert torch.jit.load(experiment.model)(torch.rand(2, 3, 64, 64)).shape == (2, 4)
    assert sorted(os.listdir(experiment.path)) == ["representation", "train"]
    assert not experiment.losses.exists()

    scored = ("run.py", "--evaluate_only", "--metrics", "mig")
    stopped = "its training was stopped before its end; --resume continues it\n"
    assert stopped in run(*scored, bindings=quick_scores(400), **settings).stdout
    result = run("train_pytorch.py", "--resume", bindings=TRAINING, **settings)
    assert result.returncode == 0, result.stderr
    assert_equal_runs(experiment, uninterrupted)
    result = run(*scored, bindings=quick_scores(400), **settings)
    assert result.returncode == 0, result.stderr
    assert stopped not in result.stdout


def test_a_run_stopped_by_ctrl_c_does_not_take_the_place_of_a_whole_one(tmp_path, settings):
    experiment = Experiment(tmp_path / "experiment_name")
    short = [*TRAINING, "model.training_steps = 2"]
    assert run("train_pytorch.py", bindings=short, **settings).returncode == 0
    model = experiment.model.read_bytes()

    other = [*TRAINING, ENDLESS, "factor_vae.gamma = 1.0"]
    process = started(experiment, settings, "--overwrite", bindings=other)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert str(experiment.unfinished.model) in stderr
    assert torch.jit.load(experiment.unfinished.model)(torch.rand(2, 3, 64, 64)).shape == (2, 4)
    assert experiment.model.read_bytes() == model

    done = read_checkpoint(newest(experiment.unfinished)).done
    result = run("train_pytorch.py", "--resume", bindings=[*other, f"model.training_steps = {done + 2}"], **settings)
    assert result.returncode == 0, result.stderr
    assert experiment.model.read_bytes() != model
    assert json.loads(experiment.losses.read_text())["step"] == done + 2


def test_a_full_disk_is_one_line_and_costs_only_what_came_after_the_last_checkpoint(tmp_path, settings):
    experiment = Experiment(tmp_path / "experiment_name")
    process = started(experiment, settings)
    process.kill()
    process.communicate()
    before = newest(experiment.unfinished)

    def run_out_of_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (before.stat().st_size // 2,) * 2)

    process = start("train_pytorch.py", "--resume", bindings=TRAINING, preexec_fn=run_out_of_room, **settings)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    line = stderr.strip().splitlines()[-1]
    assert re.fullmatch(rf"error: cannot write .*; the last good checkpoint is {re.escape(str(before))}", line)
    assert "Traceback" not in stderr
    assert newest(experiment.unfinished) == before


def test_a_second_process_is_told_of_the_first(tmp_path, settings):
    experiment = Experiment(tmp_path / "experiment_name")
    process = started(experiment, settings, bindings=[*TRAINING, ENDLESS])
    for script in ("train_pytorch.py", "run.py"):
        result = run(script, bindings=TRAINING, **settings)
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert re.match(
            rf"error: process {process.pid} \(.*train_pytorch\.py.*\) is writing to {experiment.path}; ", line
        )
        assert "--overwrite" not in line
    process.kill()
    process.communicate()


def test_what_was_begun_is_dropped_and_what_was_finished_is_kept(tmp_path, settings):
    experiment = Experiment(tmp_path / "experiment_name")
    short = [*TRAINING, "model.training_steps = 2"]
    assert run("train_pytorch.py", bindings=short, **settings).returncode == 0
    model = experiment.model.read_bytes()
    process = started(experiment, settings, "--resume", bindings=[*TRAINING, ENDLESS])
    process.kill()
    _, stderr = process.communicate()
    assert "steps: from 2 to 1000000\n" in stderr

    result = run("train_pytorch.py", "--discard_unfinished", bindings=short, **settings)
    assert result.returncode == 0, result.stderr
    assert f"discarded {experiment.unfinished.path}" in result.stdout
    assert sorted(os.listdir(experiment.path)) == ["representation", "train"]
    assert experiment.model.read_bytes() == model
    result = run("train_pytorch.py", "--resume", bindings=[*TRAINING, "model.training_steps = 3"], **settings)
    assert result.returncode == 0, result.stderr
    assert json.loads(experiment.losses.read_text())["step"] == 3


def test_a_checkpoint_that_finds_no_room_at_the_end_does_not_cost_the_model(tmp_path, settings):
    experiment = Experiment(tmp_path / "experiment_name")
    wide = [*TINY, "fc_discriminator.width = 0.3"]  # nothing of it is exported

    def run_out_of_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000,) * 2)

    process = start("train_pytorch.py", bindings=wide, preexec_fn=run_out_of_room, **settings)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 1
    line = stderr.strip().splitlines()[-1]
    assert re.match(
        r"error: cannot write .*step_3\.pt: .*; the last good checkpoint is none; trained to step 3 of 3", line
    )
    assert line.endswith(f"exported {experiment.model} all the same")
    assert torch.jit.load(experiment.model)(torch.rand(2, 3, 64, 64)).shape == (2, 4)
    assert not experiment.unfinished.path.exists()


def test_a_disk_that_is_too_small_is_said_before_the_first_step(tmp_path, settings):
    """On a disk of its own: a file system in memory, which another process does not see."""
    wide = [*TINY, "fc_discriminator.width = 1.0"]
    flags = [flag for binding in wide for flag in ("--gin_bindings", binding)]
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size=26m none {small} && exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "bash", "-c", mount, "bash"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this kernel lets no process mount a file system of its own")
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    result = subprocess.run(
        [*command, sys.executable, ROOT / "train_pytorch.py", *flags],
        env={**environment, "AICROWD_OUTPUT_PATH": str(small)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert re.match(
        r"error: .*small/experiment_name.* has 2\d\.\d MB free.* needs about \d+\.\d MB: \d+\.\d MB for a che", line
    )


def test_a_run_begun_on_another_kind_of_device_is_resumed_when_asked_for_by_name(tmp_path, settings):
    """There is no GPU here, so a checkpoint is made to say that it is one's, with that kind's noise."""
    experiment = Experiment(tmp_path / "experiment_name")
    process = started(experiment, settings, bindings=[*TRAINING, ENDLESS])
    process.kill()
    process.communicate()
    path = newest(experiment.unfinished)
    checkpoint = read_checkpoint(path)
    state = {**checkpoint.state, "devices": {0: "cuda"}}
    state["step"]["noise"] = torch.zeros(16, dtype=torch.uint8)
    torch.save({"configuration": {**checkpoint.configuration, "device": "'cuda'"}, "state": state}, path)

    longer = [*TRAINING, f"model.training_steps = {checkpoint.done + 2}"]
    on_the_cpu = {**settings, "AICROWD_CUDA": "False"}
    result = run("train_pytorch.py", "--resume", bindings=longer, **on_the_cpu)
    assert result.returncode == 1
    assert re.search(r"made on device 'cuda', not 'cpu'; pass --resume_on cpu .*bit for bit", result.stderr)
    result = run("train_pytorch.py", "--resume_on", "cuda", bindings=longer, **on_the_cpu)
    assert result.returncode == 1
    assert re.search(r"--resume_on cuda, and training runs on cpu \(AICROWD_CUDA is 'False'\)", result.stderr)
    result = run("train_pytorch.py", "--resume_on", "cpu", bindings=longer, **on_the_cpu)
    assert result.returncode == 0, result.stderr
    provenance = json.loads(experiment.train_provenance.read_text())
    moves = [{"step": 0, "device": "cuda"}, {"step": checkpoint.done, "device": "cpu"}]
    assert provenance["devices"] == moves
    assert "not bit for bit" in provenance["note"]
    # It is the CPU's from here on, and still says where it began.
    longer = [*TRAINING, f"model.training_steps = {checkpoint.done + 3}"]
    result = run("train_pytorch.py", "--resume", bindings=longer, **on_the_cpu)
    assert result.returncode == 0, result.stderr
    assert json.loads(experiment.train_provenance.read_text())["devices"] == moves


def test_a_run_that_is_whole_is_not_trained_again(tmp_path, settings, uninterrupted):
    environment = {**settings, "AICROWD_OUTPUT_PATH": uninterrupted.path.parent}
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.path.rglob("*")}
    result = run("train_pytorch.py", "--resume", bindings=TRAINING, **environment)
    assert result.returncode == 0
    assert "is trained to its end already" in result.stdout
    result = run("train_pytorch.py", "--resume", bindings=[*TRAINING, "encoder.num_latent = 5"], **environment)
    assert result.returncode == 1
    assert re.match(r"error: .*was made with encoder\.num_latent = 4, not 5", result.stderr)
    assert before == {path: path.stat().st_mtime_ns for path in uninterrupted.path.rglob("*")}
