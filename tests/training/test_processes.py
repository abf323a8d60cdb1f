"""Two real processes, connected by gloo, against one with the whole batch."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from shared_steps import OBJECTIVES, losses_of_every_objective
from test_run import TINY

from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.checkpoints import newest_first, read_checkpoint
from disentanglement_challenge.training.pictures import read_pictures
from disentanglement_challenge.training.processes import ALONE, Processes, check_gpu_each, check_gpus_equal

TRAINING = [*TINY, "model.training_steps = 25", "checkpoints.every_minutes = 0", "pictures.every_steps = 2"]


def torchrun(*command, **environment):
    """Starts two processes as `torchrun` does."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [sys.executable, *launcher, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(*flags, bindings=TRAINING, **environment):
    bound = [flag for binding in bindings for flag in ("--gin_bindings", binding)]
    return torchrun(ROOT / "train_pytorch.py", *flags, *bound, **environment)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    path = tmp_path_factory.mktemp("shared") / "losses"
    process = torchrun(ROOT / "tests" / "training" / "shared_steps.py", path)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    return [json.loads((path.parent / f"losses.{rank}").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def by_one():
    return losses_of_every_objective(ALONE)


@pytest.mark.processes
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_have_the_losses_of_one_with_the_doubled_batch(by_two, by_one, objective):
    assert [result["size"] for result in by_two] == [2, 2]
    # All processes agree to the last bit, or they would drift apart.
    assert by_two[0][objective] == by_two[1][objective]
    shared, whole = by_two[0][objective], by_one[objective]
    for step, (terms, expected) in enumerate(zip(shared["losses"], whole["losses"], strict=True)):
        assert terms == pytest.approx(expected, rel=1e-4, abs=1e-5), step
    assert shared["weights"] == pytest.approx(whole["weights"], rel=1e-4)


@pytest.mark.processes
def test_no_thread_of_gloos_outlives_the_block(by_two):
    """One that let go of a tensor while the interpreter ended would abort the process, as one in ten did."""
    for result in by_two:
        assert result["threads_left"], "none at all was seen"
        assert not [name for name in result["threads_left"] if "gloo" in name]


def test_the_shares_of_a_batch_and_of_each_half_of_it_are_even():
    batch = torch.arange(12)
    shares = [Processes(rank, 3).own(batch) for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == batch.tolist()
    for share in shares:
        assert len(share) == 4
        assert (share < 6).sum() == 2
    assert torch.equal(torch.stack(shares, dim=1).flatten(), batch)


def test_more_processes_than_gpus_are_refused():
    check_gpu_each(2, 2)
    with pytest.raises(
        ConfigError, match="torchrun starts 4 processes on a machine with 2 GPUs; pass --nproc_per_node 2"
    ):
        check_gpu_each(4, 2)


def test_gpus_of_several_kinds_are_refused():
    check_gpus_equal(["NVIDIA L4", "NVIDIA L4"])
    with pytest.raises(ConfigError, match=r"GPUs of several kinds \(NVIDIA A100, NVIDIA L4\); CUDA_VISIBLE_DEVICES"):
        check_gpus_equal(["NVIDIA L4", "NVIDIA A100", "NVIDIA L4"])


def losses_and_weights(experiment):
    state = read_checkpoint(newest_first(experiment.checkpoints)[0]).state["step"]
    weights = torch.cat([w.flatten() for player in state["players"] for w in player["network"].values()])
    losses = json.loads(experiment.losses.read_text())
    return {name: losses[name] for name in ("loss", "total_correlation", "discriminator_loss")}, weights


@pytest.mark.processes
@pytest.mark.slow
def test_a_run_of_two_processes_can_be_stopped_and_finished_by_one(tmp_path, embedded_data_path):
    data = {"DISENTANGLEMENT_LIB_DATA": embedded_data_path}
    one, two, temporary = tmp_path / "one", tmp_path / "two", tmp_path / "temporary"
    temporary.mkdir()
    stopped = train(
        bindings=[*TRAINING, "model.training_steps = 1000000"],
        **{"AICROWD_OUTPUT_PATH": two, "TMPDIR": temporary, **data},
    )
    folder = Experiment(two / "experiment_name").unfinished.checkpoints
    while len(newest_first(folder)) < 2:
        assert stopped.poll() is None, stopped.communicate()
    # The leader alone writes: a full /tmp stops nobody.
    assert not [*temporary.rglob("*.gin"), *temporary.rglob("*.pt"), *temporary.rglob("events*")]
    stopped.send_signal(signal.SIGTERM)
    _, stderr = stopped.communicate(timeout=60)
    # The leader alone drew them, while the other waited for it in the next step.
    assert read_pictures(Experiment(two / "experiment_name").pictures).kl.shape == (4,)
    done = int(
        re.search(r"trained to step (\d+) of 1000000 and stopped at SIGTERM; --resume continues", stderr).group(1)
    )

    bindings = [*TRAINING, f"model.training_steps = {done + 10}"]
    alone = {"WORLD_SIZE": "1", "AICROWD_OUTPUT_PATH": str(two)}
    flags = [flag for binding in bindings for flag in ("--gin_bindings", binding)]
    command = [sys.executable, ROOT / "train_pytorch.py", *flags]
    environment = {**os.environ, "DISENTANGLEMENT_LIB_DATA": str(embedded_data_path)}
    subprocess.run([*command, "--resume"], env={**environment, **alone}, check=True, capture_output=True)
    subprocess.run(command, env={**environment, "AICROWD_OUTPUT_PATH": str(one)}, check=True, capture_output=True)
    results = [losses_and_weights(Experiment(path / "experiment_name")) for path in (one, two)]
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-3, abs=1e-4)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-3, atol=1e-3)


@pytest.mark.processes
def test_a_batch_that_cannot_be_shared_evenly(tmp_path, embedded_data_path):
    process = train(
        bindings=["model.batch_size = 9"], AICROWD_OUTPUT_PATH=tmp_path, DISENTANGLEMENT_LIB_DATA=embedded_data_path
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "error: model.batch_size is 9; it cannot be shared evenly by 2 processes" in stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
@pytest.mark.slow
def test_scoring_is_for_one_process(tmp_path):
    process = torchrun(ROOT / "run.py", AICROWD_OUTPUT_PATH=tmp_path)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "error: run.py scores in one process; torchrun train_pytorch.py" in stderr
