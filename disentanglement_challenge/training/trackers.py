"""Log training to Weights & Biases and MLflow, with their own libraries, in addition to TensorBoard.

Where their data goes is theirs to say, by their own variables, such as WANDB_MODE and MLFLOW_TRACKING_URI.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

import gin
import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.errors import ConfigError, DataError, lines_of
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.extras import require_extra
from disentanglement_challenge.files import read_json, write_json

_LOGGER = logging.getLogger(__name__)

TRACKERS = ("wandb", "mlflow")

# The project, or experiment, that runs belong to where the library's own variable names none.
PROJECT = "disentanglement_challenge"


class TrackedRun(Protocol):
    """The interface of a tracker's run; a call may raise any error of the tracker's library.

    Attributes:
        id: by which the run is resumed.
    """

    id: str

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log values after `step` updates."""

    def images(self, images: Mapping[str, NDArray[np.uint8]], step: int) -> None:
        """Log pictures, uint8 [height, width, 1 or 3 channels], after `step` updates."""

    def finish(self, has_failed: bool) -> None:
        """End the run."""


@gin.configurable("trackers", allowlist=["use"])
def trackers_in_use(use: Sequence[str] = ()) -> list[str]:
    """Return the trackers that a training run logs to.

    Raises:
        ConfigError: for another than `TRACKERS`, and where the library of one is not installed.
    """
    if not isinstance(use, list | tuple) or not all(name in TRACKERS for name in use):
        raise ConfigError(f"trackers.use is {use!r}; it is a list of 'wandb' and 'mlflow', or empty")
    for name in use:
        require_extra(name, f"trackers.use = [{name!r}]")
    return list(dict.fromkeys(use))


class Trackers:
    """The trackers' runs of one training run; resuming it also resumes them.

    A context manager. A tracker that fails while training goes on is given up, with a warning: train/log.jsonl has all
    that it was to have.
    """

    def __init__(self, experiment: Experiment, configuration: Mapping[str, str], names: Sequence[str]) -> None:
        """Set up the trackers without starting a run.

        Args:
            experiment: that is trained; its train/trackers.json keeps the ids of its runs.
            configuration: what the run is made with, by name.
            names: of `TRACKERS`.
        """
        self._experiment = experiment
        self._configuration = configuration
        self._names = names
        self._runs: dict[str, TrackedRun] = {}

    def __enter__(self) -> Self:
        """Start or resume a run with each tracker; raise ConfigError if that fails."""
        ids = self._ids()
        for name in self._names:
            try:
                self._runs[name] = _start(name, self._experiment.name, ids.get(name), self._configuration)
            except Exception as error:  # of a library that may be given any server
                self._finish(has_failed=True)
                raise ConfigError(f"trackers.use: {name} cannot start a run ({_reason(error)})") from error
        if self._runs:
            write_json(self._experiment.tracked, {**ids, **{name: run.id for name, run in self._runs.items()}})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finish(has_failed=error is not None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log the values after `step` updates."""
        self._each(lambda run: run.scalars(values, step))

    def images(self, images: Mapping[str, NDArray[np.uint8]], step: int) -> None:
        """Log pictures, uint8 [height, width, 1 or 3 channels], after `step` updates."""
        self._each(lambda run: run.images(images, step))

    def _finish(self, has_failed: bool) -> None:
        self._each(lambda run: run.finish(has_failed))

    def _each(self, call: Callable[[TrackedRun], None]) -> None:
        for name, run in list(self._runs.items()):
            try:
                call(run)
            except Exception as error:  # as above
                del self._runs[name]
                _LOGGER.warning(
                    "%s is given up (%s); training goes on, and train/log.jsonl has it all", name, _reason(error)
                )

    def _ids(self) -> dict[str, str]:
        try:
            content = read_json(self._experiment.tracked)
        except DataError:  # a first start, or a file that a kill has torn
            return {}
        return {name: str(content[name]) for name in TRACKERS if isinstance(content, dict) and name in content}


def _start(name: str, run_name: str, run_id: str | None, configuration: Mapping[str, str]) -> TrackedRun:
    # Each takes seconds to import.
    if name == "wandb":
        from disentanglement_challenge.training.wandb_run import WandbRun

        return WandbRun(run_name, run_id, configuration)
    from disentanglement_challenge.training.mlflow_run import MlflowRun

    return MlflowRun(run_name, run_id, configuration)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {lines_of(error)[0]:.300}"
