"""Log training: losses as plain lines and events, pictures as events, both to trackers, and a progress bar."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import gin
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.events import EventLog
from disentanglement_challenge.training.log_lines import LogLines
from disentanglement_challenge.training.trackers import Trackers

BAR_TERMS = ("loss", "reconstruction_loss", "kl_loss", "total_correlation", "discriminator_loss")


@gin.configurable("log", denylist=["experiment", "done", "training_steps", "is_leader", "has_bar", "trackers"])
class TrainingLog:
    """A log of losses in train/log.jsonl, TensorBoard's events, trackers and the progress bar.

    A context manager. Where several processes train together, the leader's log alone writes and speaks.

    Attributes:
        every_steps: how many steps lie between two entries.
    """

    def __init__(
        self,
        experiment: Experiment,
        done: int,
        training_steps: int,
        is_leader: bool = True,
        has_bar: bool = True,
        trackers: Trackers | None = None,
        every_steps: int = 100,
        bar_terms: Sequence[str] = BAR_TERMS,
    ) -> None:
        """Set up the log without writing to it.

        Args:
            experiment: that is trained.
            done: steps made before; what an earlier process logged of later ones is taken back, and of `done` itself
                where it was logged only because that process ended there, before the run's last step.
            training_steps: of the whole run.
            is_leader: whether this process writes.
            has_bar: whether the leader shows a bar.
            trackers: other loggers.
            every_steps: how often to log; reading the losses waits for the device, so not at every step.
            bar_terms: the losses to show behind the progress bar, those of them that the objective has.

        Raises:
            ConfigError: the interval is not a positive integer, or the terms are not a list of names.
        """
        self.every_steps = check_count("log.every_steps", every_steps)
        if not isinstance(bar_terms, list | tuple) or not all(isinstance(term, str) for term in bar_terms):
            raise ConfigError(f"log.bar_terms is {bar_terms!r}; it must be a list of names, such as ['loss']")
        self._bar_terms = bar_terms
        self._experiment = experiment
        self._done = done
        self._training_steps = training_steps
        self._is_leader = is_leader
        self._has_bar = is_leader and has_bar
        self._trackers = trackers or Trackers(experiment, {}, [])

    def __enter__(self) -> Self:
        is_due = self._done % self.every_steps == 0 or self._done == self._training_steps
        kept = self._done if is_due else self._done - 1
        with ExitStack() as stack:
            if self._is_leader:
                self._lines = stack.enter_context(LogLines(self._experiment.log, kept))
                self._events = stack.enter_context(EventLog(self._experiment.train, kept))
                stack.enter_context(self._trackers)
            self._bar = stack.enter_context(
                tqdm(
                    total=self._training_steps,
                    initial=self._done,
                    unit="step",
                    desc="training",
                    mininterval=1,
                    disable=not self._has_bar,
                )
            )
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def advance(self, steps: int = 1) -> None:
        """Advance the progress bar."""
        self._bar.update(steps)

    def losses(self, values: Mapping[str, float], step: int) -> None:
        """Log the values after `step` updates; raise OutputError if the disk is full or cannot be written."""
        self._bar.set_postfix({name: f"{values[name]:.4g}" for name in self._bar_terms if name in values})
        if self._is_leader:
            self._lines.append({"step": step, **values})
            self._events.scalars(values, step)
            self._trackers.scalars(values, step)

    def images(self, images: Mapping[str, NDArray[np.uint8]], step: int) -> None:
        """Log pictures like `EventLog.images` if this process is the leader."""
        if self._is_leader:
            self._events.images(images, step)
            self._trackers.images(images, step)


def say(text: str) -> None:
    """Print a line for the user, above a progress bar if one is shown."""
    tqdm.write(text, file=sys.stderr)
