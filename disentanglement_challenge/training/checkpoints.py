"""Write and read checkpoints: the full state for resuming a training run as if it had never been stopped."""

import io
import logging
import pickle
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gin
import torch

from disentanglement_challenge.checks import check_count, check_number
from disentanglement_challenge.errors import ConfigError, OutputError, TrainingError
from disentanglement_challenge.experiment import CHECKPOINT
from disentanglement_challenge.files import DAMAGED_ZIP, remove, replacing

_LOGGER = logging.getLogger(__name__)

# What a checkpoint may differ in from the run that resumes it: how long to train, how to watch and keep it, and whether
# the same steps are replayed as a graph.
FREE = (
    "model.training_steps",
    "model.time_limit",
    "model.eval_steps",
    "model.name",
    "model.model_num",
    "acceleration.cuda_graph",
    "checkpoints.",
    "export.",
    "log.",
    "pictures.",
    "trackers.",
)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run after a number of updates.

    Attributes:
        configuration: what the run's weights depend on, by name.
        state: of `state.TrainingState`.
    """

    configuration: dict[str, str]
    state: dict[str, Any]

    @property
    def done(self) -> int:
        """Return the number of updates made."""
        return self.state["done"]

    @property
    def precision(self) -> str:
        """Return the precision of the updates, never "auto"."""
        return self.configuration["acceleration.precision"].strip("'")


@gin.configurable("checkpoints", denylist=["folder"])
class Checkpoints:
    """A folder with the newest few checkpoints of one run, each written atomically."""

    def __init__(self, folder: Path, every_minutes: float = 10, keep: int = 2) -> None:
        """Set up the folder without writing to it.

        Args:
            folder: made when the first checkpoint is written.
            every_minutes: what a killed run loses at most; 0 writes one after every step.
            keep: how many checkpoints to keep, so that one that the disk has damaged is not the only one.

        Raises:
            ConfigError: a number out of range.
        """
        check_count("checkpoints.keep", keep)
        self.folder = folder
        self.keep = keep
        self._interval = 60 * check_number("checkpoints.every_minutes", every_minutes, minimum=0)
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Return whether the next checkpoint is due."""
        return time.monotonic() - self._last >= self._interval

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint, then remove the oldest ones beyond the limit.

        Raises:
            OutputError: the disk is full or cannot be written; earlier checkpoints are as they were.
        """
        serialised = io.BytesIO()  # torch.save would report a full disk by an error of its own that names no cause
        torch.save(vars(checkpoint), serialised)
        # An error's traceback keeps the view that Path.write_bytes makes, and since Python 3.13 a buffer that is still
        # lent out complains at exit.
        with (
            replacing(self.folder / CHECKPOINT.format(checkpoint.done)) as temporary,
            temporary.open("wb") as file,
            serialised.getbuffer() as content,
        ):
            file.write(content)
        for path in newest_first(self.folder)[self.keep :]:
            remove(path)
        self._last = time.monotonic()

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Add the newest checkpoint to the text of an error that ends training."""
        try:
            yield
        except (TrainingError, OutputError) as error:
            raise type(error)(f"{error}; the last good checkpoint is {self.last_good}") from error

    @property
    def last_good(self) -> str:
        """Return the newest checkpoint, or "none"."""
        left = newest_first(self.folder)
        return str(left[0]) if left else "none"


def newest_first(folder: Path) -> list[Path]:
    """Return the folder's checkpoints, the newest first; none if it does not exist."""
    before, after = CHECKPOINT.split("{}")
    steps = {path: path.name.removeprefix(before).removesuffix(after) for path in folder.glob(CHECKPOINT.format("*"))}
    return sorted((path for path in steps if steps[path].isdecimal()), key=lambda path: -int(steps[path]))


def load_newest(folder: Path, configuration: Mapping[str, str], free: Sequence[str] = ()) -> Checkpoint | None:
    """Return the newest readable checkpoint of the folder, or None if there are no checkpoints.

    Args:
        folder: of checkpoints.
        configuration: of the run that is to resume it.
        free: names beside `FREE` that may differ.

    Raises:
        TrainingError: there are checkpoints, and none can be read.
        ConfigError: the checkpoint is of another configuration.
    """
    paths = newest_first(folder)
    reasons = []
    for path in paths:
        try:
            checkpoint = read_checkpoint(path)
        except TrainingError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            _LOGGER.warning("%s; resuming from %s instead", reason, path.name)
        _check_configuration(path, checkpoint.configuration, configuration, free)
        return checkpoint
    if reasons:
        raise TrainingError(f"{'; '.join(reasons)}; there is no checkpoint left to resume from")
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without executing code from it.

    Raises:
        TrainingError: the file is damaged or no checkpoint.
    """
    try:
        # PyTorch does not look at the check sums that it writes.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise TrainingError(f"{path} is damaged (check sum of {damaged})")
        content = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**content)
        if not isinstance(checkpoint.done, int) or not isinstance(checkpoint.configuration, dict):
            raise TypeError("its step or configuration is something else")
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror or error}") from error
    except (*DAMAGED_ZIP, pickle.UnpicklingError, TypeError, LookupError, AttributeError) as error:
        reason = "not a whole zip archive" if isinstance(error, zipfile.BadZipFile) else "its content is something else"
        raise TrainingError(f"{path} is damaged or no checkpoint of this program ({reason})") from error
    return checkpoint


def _check_configuration(
    path: Path, made_with: Mapping[str, str], configuration: Mapping[str, str], free: Sequence[str]
) -> None:
    names = [name for name in dict.fromkeys([*made_with, *configuration]) if not name.startswith((*FREE, *free))]
    differing = [name for name in names if made_with.get(name) != configuration.get(name)]
    if differing == ["device"]:
        here = configuration["device"].strip("'")
        raise ConfigError(
            f"{path} was made on device {made_with.get('device')}, not {here!r}; pass --resume_on {here} to resume it "
            "here, where it is no longer bit for bit the run that was begun"
        )
    if differing:
        differences = ", ".join(
            f"{name} = {made_with.get(name, '(unset)')}, not {configuration.get(name, '(unset)')}"
            for name in differing[:3]
        )
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        auto = (
            " (acceleration.precision = 'auto' keeps that of the run)" if "acceleration.precision" in differing else ""
        )
        raise ConfigError(
            f"{path} was made with {differences}{more}; resume with the same settings{auto}, "
            "choose another experiment name, or pass --overwrite to start anew"
        )
