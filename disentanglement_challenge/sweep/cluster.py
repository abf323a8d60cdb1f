"""Hand trainings to Ray, as many at a time as its machines have room for, and follow them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from disentanglement_challenge.environment import data_path
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.sweep.trainings import Training, seeds_of_rows
from disentanglement_challenge.sweep.worker import Board, Finished, carry_out_seeds, reason_of


class Sweep:
    """Trainings handed to Ray, and their progress; to be used inside `cluster`."""

    def __init__(
        self,
        trainings: Sequence[Training],
        folders: Mapping[str, Path],
        cpus_per_run: float = 1,
        gpus_per_run: float | None = None,
        seeds_together: bool = False,
    ) -> None:
        """Start as many trainings as there are resources for.

        Args:
            trainings: to be carried out, each by one process, run after run.
            folders: of each table's results, by the table's name. A run leaves its experiment there; on a cluster these
                are folders that its machines share, or each has its own, and only the records come back here.
            cpus_per_run, gpus_per_run: each process's share; by default a whole GPU where there are any.
            seeds_together: whether one process carries out the trainings that differ in their seed alone, together.

        Raises:
            ConfigError: no machine of the cluster has such a share, or seeds are to share a GPU and have none.
        """
        resources = ray.cluster_resources()
        if gpus_per_run is None:
            gpus_per_run = 1 if resources.get("GPU", 0) else 0
        for name, share in (("CPU", cpus_per_run), ("GPU", gpus_per_run)):
            most = max((node["Resources"].get(name, 0) for node in ray.nodes() if node["Alive"]), default=0)
            if not 0 <= share <= most or (name == "CPU" and share == 0):
                raise ConfigError(f"a run cannot have {share:g} {name}s; the largest machine here has {most:g}")
        if seeds_together and not gpus_per_run:
            raise ConfigError(
                "--seeds_together has the seeds of a row share a GPU, and there is none for them; leave it out to "
                "train seed by seed"
            )
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._board = Board.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        threads = str(max(1, int(cpus_per_run)))
        task = carry_out_seeds.options(
            num_cpus=cpus_per_run,
            num_gpus=gpus_per_run,
            runtime_env={
                "env_vars": {
                    "OMP_NUM_THREADS": threads,
                    "NUMBA_NUM_THREADS": threads,
                    "DISENTANGLEMENT_LIB_DATA": str(data_path().resolve()),
                }
            },
        )
        # The runs of each task that have not ended.
        groups = seeds_of_rows(trainings) if seeds_together else [[training] for training in trainings]
        self._pending = {
            task.remote(group, folders, self._board): [run for training in group for run in training.runs]
            for group in groups
        }

    def wait(self, seconds: float) -> list[Finished]:
        """Return the runs that have ended since the last call; wait for one at most this long."""
        ready, _ = ray.wait(list(self._pending), timeout=seconds)
        return [ended for task in ready for ended in self._ended(task)]

    @property
    def num_pending(self) -> int:
        """Return the number of runs that have not ended."""
        return sum(map(len, self._pending.values()))

    def running(self) -> dict[str, str]:
        """Return the latest line of progress of each run that has begun, by the run's title."""
        with suppress(ray.exceptions.RayError):
            lines = ray.get(self._board.lines.remote(), timeout=1)
            waiting = {run.title for runs in self._pending.values() for run in runs}
            return {name: line for name, line in lines.items() if name in waiting}
        return {}

    def cancel(self) -> None:
        """Stop the runs that have not ended."""
        for task in self._pending:
            with suppress(ray.exceptions.RayError):
                ray.cancel(task, force=True)

    def _ended(self, task: Any) -> list[Finished]:
        """Return the runs that a ready task reports as ended."""
        runs = self._pending[task]
        try:
            ended = [ray.get(next(task))]
        except ray.exceptions.RayError as error:
            ended = [Finished(run, error=reason_of(error)) for run in runs]
        self._pending[task] = [run for run in runs if run not in [each.run for each in ended]]
        if not self._pending[task]:
            del self._pending[task]
        return ended
