"""Compute the disk space that a training run needs, before its first step."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from disentanglement_challenge.errors import OutputError
from disentanglement_challenge.models import VAE
from disentanglement_challenge.training.pictures import IN_PASSING, num_pictures
from disentanglement_challenge.training.step import TrainingStep

# Of each logged step: a line of JSON and a TensorBoard event, of ten losses.
_LOGGED_BYTES = 1000


@dataclass(frozen=True)
class DiskNeeds:
    """The sizes of a run's files in bytes.

    Attributes:
        checkpoint: one checkpoint.
        at_once: checkpoints that lie there at once, at most, as a new one is whole before an old one goes.
        model: the representation in all formats.
        rest: losses, and the pictures at the end.
        in_passing: pictures while training goes on, uncompressed, which is several times what they take.
    """

    checkpoint: int
    at_once: int
    model: int
    rest: int
    in_passing: int = 0

    @property
    def least(self) -> int:
        """Return the bytes of a run with a single checkpoint, and with pictures only at the end."""
        return self.checkpoint + self.model + self.rest

    @property
    def most(self) -> int:
        """Return the maximum bytes of a run."""
        return self.at_once * self.checkpoint + self.model + self.rest + self.in_passing

    def of(self, runs: int) -> "DiskNeeds":
        """Return the needs of this many runs together."""
        sizes = (self.model, self.rest, self.in_passing)
        model, rest, in_passing = (runs * size for size in sizes)
        return DiskNeeds(runs * self.checkpoint, self.at_once, model, rest, in_passing)


def disk_needs(
    step: TrainingStep, input_shape: tuple[int, int, int], keep: int, num_formats: int, logged: int, drawn: int
) -> DiskNeeds:
    """Compute the sizes of the files that a run will write.

    Args:
        step: with the networks.
        input_shape: of an image; its values are counted.
        keep: how many checkpoints are kept.
        num_formats: of the exported model.
        logged: how often losses will be logged.
        drawn: how often pictures will be drawn while training goes on.
    """
    # Weights, and Adam's two moments of each.
    weights = sum(parameter.nbytes for player in step.players for parameter in player.parameters)
    channels, height, width = input_shape
    image = channels * height * width
    at_end = 2 * num_pictures(step.vae.num_latent) * image  # in the file, and as events
    in_passing = drawn * num_pictures(step.vae.num_latent, IN_PASSING["num_traversed"]) * image
    return DiskNeeds(
        checkpoint=3 * weights,
        at_once=keep + 1,
        model=num_formats * _encoder_bytes(step.vae),
        rest=logged * _LOGGED_BYTES + at_end,
        in_passing=in_passing,
    )


def check_disk(folder: Path, needs: DiskNeeds, there: int) -> int:
    """Return how many bytes the run may write to the disk of this folder, which may not exist yet.

    Args:
        folder: of the run.
        needs: of the run.
        there: bytes that lie in the folder and are the run's own, or go before its first step.

    Raises:
        OutputError: there is no room for one checkpoint, the model and the rest.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free + there
    if free < needs.least:
        raise OutputError(
            f"{folder} has {megabytes(free)} free, and the run needs about {megabytes(needs.least)}: "
            f"{megabytes(needs.checkpoint)} for a checkpoint, {megabytes(needs.model)} for the model and "
            f"{megabytes(needs.rest)} for pictures and events; make room, or set AICROWD_OUTPUT_PATH to another disk"
        )
    return free


def bytes_below(folder: Path) -> int:
    """Return the size of all files in a folder; 0 if it does not exist."""
    return sum(os.lstat(file).st_size for file in folder.rglob("*") if not file.is_dir())


def megabytes(size: float) -> str:
    """Format a size: "68.6 MB", "2.1 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _encoder_bytes(vae: VAE) -> int:
    return sum(parameter.nbytes for parameter in vae.encoder.parameters())
