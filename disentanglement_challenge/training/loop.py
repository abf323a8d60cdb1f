"""The training loop: ask for steps, log, checkpoint, stop. What comes before and after it is in `run`.

The loop does not make the steps itself, so that several loops can share them (`seeds`).
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from disentanglement_challenge.errors import OutputError
from disentanglement_challenge.training.acceleration import Steps
from disentanglement_challenge.training.checkpoints import Checkpoint, Checkpoints
from disentanglement_challenge.training.log import TrainingLog
from disentanglement_challenge.training.pictures import IN_PASSING, Pictures
from disentanglement_challenge.training.processes import Processes
from disentanglement_challenge.training.state import TrainingState
from disentanglement_challenge.training.stopping import Stop, Stopping
from disentanglement_challenge.training.watch import LossWatch

T = TypeVar("T")

Asking = Generator[int, tuple[int, Mapping[str, Tensor]], T]
"""Asks for some steps at the most, is given how many were made and their losses, and so on, until it returns."""

# Steps between two times that several processes agree on whether to stop.
_VERDICT_EVERY = 10


@dataclass(frozen=True)
class Loop:
    """The training loop and the objects that it uses.

    Attributes:
        state: moved by every step, and written to the checkpoints.
        training_steps: of the whole run.
        watch: stops the run where a loss is not finite.
        log: gets the losses, and pictures of the model in between.
        draw: draws the pictures.
        pictures_every: how many steps lie between two of them.
        checkpoints: where the state is kept.
        configuration: what a checkpoint is marked with.
        stopping: whether to stop early.
        processes: that train together; they stop at the same step, and the leader alone keeps checkpoints and draws.
        on_progress: told now and then how much is done, from 0 to 1.
    """

    state: TrainingState
    training_steps: int
    watch: LossWatch
    log: TrainingLog
    draw: Callable[..., Pictures]
    pictures_every: int
    checkpoints: Checkpoints
    configuration: dict[str, str]
    stopping: Stopping
    processes: Processes
    on_progress: Callable[[float], None]

    def run(self) -> Asking[tuple[Stop, OutputError | None]]:
        """Train to the last step, or until a reason to stop.

        Returns:
            Why it stopped before the last step, and why the last checkpoint could not be written, if it could not.

        Raises:
            TrainingError: a loss is no longer finite or diverges.
            OutputError: the disk is full or cannot be written, before the last step.
        """
        state, leads = self.state, self.processes.is_leader
        started = time.monotonic() - state.seconds
        stop, failure = Stop.NO, None
        self.on_progress(state.done / self.training_steps)
        while state.done < self.training_steps and stop is Stop.NO:
            steps, losses_of_each = yield self._steps_at_once()
            self.watch.add(losses_of_each)
            state.done += steps
            state.seconds = time.monotonic() - started
            self.log.advance(steps)
            # The verdict of several processes is a message between them all, which costs as much as a small step.
            if self.processes.size == 1 or state.done % _VERDICT_EVERY == 0:
                stop = Stop(self.processes.largest(self.stopping.reason))

            is_last = state.done == self.training_steps or stop is not Stop.NO
            is_logged = is_last or state.done % self.log.every_steps == 0
            is_kept = is_last or (leads and self.checkpoints.due)
            if is_logged or is_kept or self.watch.is_full:
                losses = self.watch.read(state.done)
            if is_logged:
                self.log.losses(losses, state.done)
                self.on_progress(state.done / self.training_steps)
            if is_kept:
                checkpoint = Checkpoint(self.configuration, state.state_dict())  # in every process, as it looks for NaN
                if leads:
                    try:
                        self.checkpoints.save(checkpoint)
                    except OutputError as error:
                        if not is_last:
                            raise
                        failure = error  # the model has room where a checkpoint, thirty times as large, has none
            if leads and not is_last and state.done % self.pictures_every == 0:
                self.log.images(self.draw(state.done, **IN_PASSING).grids(), state.done)
        return stop, failure

    def _steps_at_once(self) -> int:
        """Return the number of steps until the next one that logs, draws pictures or ends."""
        done = self.state.done
        to_log, to_draw = (every - done % every for every in (self.log.every_steps, self.pictures_every))
        return min(self.training_steps - done, to_log, to_draw, self.watch.room)


def supply(asking: Asking[T], steps: Steps, done: int) -> T:
    """Make the steps that a loop asks for after `done` updates, and return the loop's result."""
    with closing(asking):
        try:
            most = next(asking)
            while True:
                count = min(most, steps.at_once)
                losses = steps(done, count)
                done += count
                most = asking.send((count, losses))
        except StopIteration as end:
            return end.value
