"""What becomes of runs that fail, as far as it takes no cluster; test_sweep has the rest."""

import os
import sys

import pytest
import ray

from disentanglement_challenge.sweep.runs import Run
from disentanglement_challenge.sweep.trainings import Training
from disentanglement_challenge.sweep.worker import carry_out_seeds, reason_of


class Board:
    """Takes lines of progress as a cluster's does."""

    class update:
        remote = staticmethod(lambda name, line: None)


def training(seed=0):
    return Training(((Run("table", "row", seed, ("nowhere.gin",), (), ""),),))


def carry_out(folder):
    (finished,) = carry_out_seeds._function([training()], {"table": folder}, Board)
    return finished


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    error = carry_out(tmp_path / "file").error
    assert error.startswith(f"cannot write {tmp_path}/file/row/seed_0.log on ")
    assert error.endswith(": Not a directory")


def test_a_log_keeps_what_an_earlier_process_left(tmp_path):
    log = tmp_path / "row" / "seed_0.log"
    log.parent.mkdir()
    log.write_text("Fatal Python error: Segmentation fault\n")
    assert "nowhere.gin" in carry_out(tmp_path).error
    assert log.read_text().startswith("Fatal Python error: Segmentation fault\nerror: ")


def failed(cause):
    return ray.exceptions.RayTaskError("carry_out_seeds", "Traceback ...", cause, ip="127.0.0.1")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (failed(PermissionError(13, "Permission denied")), "PermissionError: [Errno 13] Permission denied"),
        (failed(ValueError("one\ntwo")).as_instanceof_cause(), "ValueError: one"),
        (ray.exceptions.NodeDiedError("node 3 is gone"), "its process died 4 times: NodeDiedError: node 3 is gone"),
        (ray.exceptions.RuntimeEnvSetupError("no pip"), "RuntimeEnvSetupError: Failed to set up runtime environment."),
    ],
)
def test_why_a_run_ended_is_one_line_and_only_a_death_is_one(error, reason):
    assert reason_of(error) == reason


class PidBoard:
    """Writes down in which process a run is carried out."""

    def __init__(self, folder):
        self.folder = folder

    @property
    def update(self):
        return self

    def remote(self, name, line):
        (self.folder / name.replace("/", "_")).write_text(str(os.getpid()))


@pytest.mark.processes
def test_every_training_has_a_process_of_its_own(tmp_path):
    """With a share of one declared GPU, as the sweep gives it: a process kept for the next run kept its memory."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    pids = tmp_path / "pids"
    pids.mkdir()
    ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        task = carry_out_seeds.options(num_cpus=1, num_gpus=1)
        tasks = [task.remote([training(seed)], {"table": tmp_path}, PidBoard(pids)) for seed in range(4)]
        finished = ray.get([next(ended) for ended in tasks], timeout=600)
    finally:
        ray.shutdown()
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert all("nowhere.gin" in ended.error for ended in finished)
    assert len({path.read_text() for path in pids.iterdir()}) == len(list(pids.iterdir())) == 4
