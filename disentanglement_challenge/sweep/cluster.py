"""Run trainings in parallel with Ray: in processes of this machine, or on a running cluster."""

import io
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from disentanglement_challenge.environment import IS_TREE, ROOT, data_path
from disentanglement_challenge.errors import ChallengeError, ConfigError, Interrupted
from disentanglement_challenge.extras import require_extra
from disentanglement_challenge.sweep.runs import (
    Record,
    Run,
    carry_out,
    finished_record,
    take_over,
    train_together,
)
from disentanglement_challenge.sweep.trainings import Training, seeds_of_rows

require_extra("sweep", "a sweep")
# Before Ray is imported: it reports its use to its makers otherwise.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A run's process belongs to the process group of the sweep, so that a signal to the group, such as SIGSTOP, reaches it.
os.environ.setdefault("RAY_process_group_cleanup_enabled", "0")

import ray  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

T = TypeVar("T")

# How often a training starts again after its process or machine died under it.
MAX_RETRIES = 3

# Seconds that an address has to take a connection, and a process that starts Python, imports Ray and asks the cluster;
# for a healthy one that is about two.
CONNECT_WITHIN = 10
ANSWER_WITHIN = 60


_DEATHS = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
)


@dataclass(frozen=True)
class Finished:
    """A run that ended: its record, or an error text of one line."""

    run: Run
    record: Record | None = None
    error: str = ""


@contextmanager
def cluster(address: str | None) -> Iterator[Callable[[], bytes]]:
    """Connect to the Ray cluster at this address, or start one on this machine; disconnect at the end of the block.

    Yields:
        A function that returns the numbers of the signals since the beginning, also those whose handler raised where
        Python ignores exceptions.

    Raises:
        ConfigError: nothing at the address answers as Ray.
        Interrupted: SIGTERM arrived, whatever its handler's error became on its way through Ray.
    """
    with _signals() as seen:
        try:
            with _connection(address, seen):
                yield seen
        except (KeyboardInterrupt, SystemExit) as stop:
            # Ray's own handler raises SystemExit, and Ray's waiting raises KeyboardInterrupt for any handler's error.
            if signal.SIGTERM in seen():
                raise Interrupted("stopped at SIGTERM", signal.SIGTERM) from stop
            raise


@contextmanager
def _connection(address: str | None, seen: Callable[[], bytes]) -> Iterator[None]:
    options: dict[str, Any] = {"address": "local", "include_dashboard": False}
    if address is not None:
        _check_answers(address)
        options = {"address": address}
        if IS_TREE:
            # The code travels to machines that do not share this folder; what is large and not code stays here. One
            # that is installed here is installed there.
            excludes = ["/.git", "/.venv", "/scratch", "/docs", "/tests"]
            options["runtime_env"] = {"working_dir": str(ROOT), "excludes": excludes}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        signal.signal(signal.SIGTERM, on_sigterm)  # which Ray takes for itself
        if signal.SIGTERM in seen():
            raise SystemExit(signal.SIGTERM)
    except (KeyboardInterrupt, SystemExit):
        ray.shutdown()  # what it had started by then
        raise
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot use the Ray cluster at {address}: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _signals() -> Iterator[Callable[[], bytes]]:
    """Note the signals that arrive inside the block; yield a function that returns their numbers so far.

    A handler that raises has no effect where Python ignores exceptions, as in a destructor or after a fork. Python
    would also print the SystemExit of Ray's own handler of SIGTERM there.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        descriptor, hook = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False), sys.unraisablehook

        def print_others(unraisable: "sys.UnraisableHookArgs") -> None:
            if not isinstance(unraisable.exc_value, SystemExit):
                hook(unraisable)

        def seen() -> bytes:
            with suppress(BlockingIOError):
                return reader.recv(4096, socket.MSG_PEEK)
            return b""

        sys.unraisablehook = print_others
        try:
            yield seen
        finally:
            sys.unraisablehook = hook
            signal.set_wakeup_fd(descriptor)


def _check_answers(address: str) -> None:
    # Ray itself goes on trying a dead address for ten minutes.
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    advice = "start one with `ray start --head`, or leave --address out to run on this machine"
    if not host or not port.isdigit():
        raise ConfigError(f"--address {address!r} is neither HOST:PORT of a Ray cluster nor auto; {advice}")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster answers at {address} ({error}); {advice}") from error
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        subprocess.run(command, check=True, timeout=ANSWER_WITHIN, capture_output=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise ConfigError(f"no Ray cluster answers at {address}; {advice}") from error


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
        self._board = _Board.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        threads = str(max(1, int(cpus_per_run)))
        task = _carry_out.options(
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
            waiting = {run.title for runs in self._pending.values() for run in runs}
            return {name: line for name, line in ray.get(self._board.lines.remote()).items() if name in waiting}
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
            ended = [Finished(run, error=_reason(error)) for run in runs]
        self._pending[task] = [run for run in runs if run not in [each.run for each in ended]]
        if not self._pending[task]:
            del self._pending[task]
        return ended


def _reason(error: Exception) -> str:
    """Describe in one line the error that ended a run."""
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"its process died {MAX_RETRIES + 1} times: {reason}" if isinstance(error, _DEATHS) else reason


@ray.remote(num_cpus=0, max_restarts=-1)
class _Board:
    """An actor that collects the progress of runs, which are in processes of their own."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def update(self, name: str, line: str) -> None:
        self._lines[name] = line

    def lines(self) -> dict[str, str]:
        return self._lines


# One process a training, or for the seeds that share their steps: the next would inherit a GPU's context, memory and
# errors. Ray does that by itself for tasks that declare GPUs in the decorator, and drops `max_calls` silently where it
# is given to `.options`. A task that starts again after its process died tells of what is finished once more, and goes
# on.
@ray.remote(num_returns="streaming", max_retries=MAX_RETRIES, max_calls=1)
def _carry_out(seeds: Sequence[Training], folders: Mapping[str, Path], board: Any) -> Iterator[Finished]:
    bases: dict[int, tuple[Run, Path]] = {}
    for stages in zip(*(training.stages for training in seeds), strict=True):
        # One that is finished already comes first, and the others take it over.
        ordered = [sorted(runs, key=lambda run: finished_record(run, folders[run.table]) is None) for runs in stages]
        trained = _train_together([runs[0] for runs in ordered], folders, bases, board)
        for first, *others in ordered:
            place, result = folders[first.table], trained.get(first.seed)
            if isinstance(result, str):
                ended = Finished(first, error=result)
            else:
                finish = partial(carry_out, first, place, bases.get(first.seed), result)
                ended = _finish(first, place, board, finish)
            yield ended
            for run in others:
                if ended.record is None:
                    yield Finished(run, error=f"its configuration is that of {first.title}, which failed")
                else:
                    place_of_copy = folders[run.table]
                    yield _finish(run, place_of_copy, board, partial(take_over, run, place_of_copy, (first, place)))
            if ended.record is not None:
                bases[first.seed] = (first, place)


def _train_together(
    runs: Sequence[Run], folders: Mapping[str, Path], bases: Mapping[int, tuple[Run, Path]], board: Any
) -> dict[int, float | str]:
    """Train the unfinished seeds of a row together if there are two or more; log it as the first one's.

    Returns:
        By seed, the seconds of its training, or its error in one line.
    """
    missing = [run for run in runs if finished_record(run, folders[run.table]) is None]
    if len(missing) < 2:
        return {}
    first = missing[0]
    results, error = _attempt(first, folders[first.table], board, partial(train_together, missing, folders, bases))
    if results is None:
        return {run.seed: error for run in missing}
    return {seed: _line(result) if isinstance(result, ChallengeError) else result for seed, result in results.items()}


def _finish(run: Run, folder: Path, board: Any, finish: Callable[[], Record]) -> Finished:
    """Call `finish` for the run's record, and log its output."""
    record, error = _attempt(run, folder, board, finish)
    return Finished(run, record, error)


def _attempt(run: Run, folder: Path, board: Any, work: Callable[[], T]) -> tuple[T | None, str]:
    """Return the result of `work`, or its error in one line; log its output as the run's."""
    log_path = folder / f"{run.name}.log"
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        # After what a process that died at this run has left there, which may say why.
        with log_path.open("a") as log:
            output = _Output(log)
            with redirect_stdout(output), redirect_stderr(output), _reporting(output, run.title, board):
                try:
                    return work(), ""
                except ChallengeError as error:
                    print(f"error: {error}")
                    return None, _line(error)
                except Exception as error:  # One run's bug must not end the others; its traceback is in its log.
                    traceback.print_exc()
                    return None, f"{_reason(error)} (see {log_path})"
    except OSError as error:
        return None, f"cannot write {log_path} on {socket.gethostname()}: {error.strerror or error}"


def _line(error: ChallengeError) -> str:
    return str(error).splitlines()[0]


class _Output(io.TextIOBase):
    """A text file that remembers its last line, also that of a progress bar, which rewrites it."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self.line = "starting"

    def write(self, text: str) -> int:
        self._file.write(text)
        self._file.flush()
        shown = [part for part in text.replace("\r", "\n").split("\n") if part.strip()]
        if shown:
            self.line = shown[-1].strip()
        return len(text)


@contextmanager
def _reporting(output: _Output, name: str, board: Any) -> Iterator[None]:
    """Send the output's latest line to the board once a second, from a thread of its own."""
    ended = threading.Event()

    def report() -> None:
        while True:
            board.update.remote(name, output.line)
            if ended.wait(1):
                return

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
