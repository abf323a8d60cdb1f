"""Carry out trainings in a process of Ray's: one process each, or one for all seeds of a row."""

import io
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray

from disentanglement_challenge.errors import ChallengeError
from disentanglement_challenge.sweep.runs import (
    Record,
    Run,
    carry_out,
    finished_record,
    take_over,
    train_together,
)
from disentanglement_challenge.sweep.trainings import Training

T = TypeVar("T")

# How often a training starts again after its process or machine died under it.
MAX_RETRIES = 3

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


@ray.remote(num_cpus=0, max_restarts=-1)
class Board:
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
def carry_out_seeds(seeds: Sequence[Training], folders: Mapping[str, Path], board: Any) -> Iterator[Finished]:
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
                    return None, f"{reason_of(error)} (see {log_path})"
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


def reason_of(error: Exception) -> str:
    """Describe in one line the error that ended a run."""
    if isinstance(error, ray.exceptions.RayTaskError):
        error = error.cause
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"its process died {MAX_RETRIES + 1} times: {reason}" if isinstance(error, _DEATHS) else reason
