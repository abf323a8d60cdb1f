"""Watch the losses without waiting for them after every step."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from disentanglement_challenge.errors import TrainingError

# An untrained network's reconstruction loss is about log 2 for each pixel and channel (Bernoulli; squared errors are
# smaller). Training that works stays below it; a thousand times as much is on its way to infinity.
DIVERGED = 1000 * math.log(2)
UNWEIGHTED = ("reconstruction_loss", "kl_loss")


class LossWatch:
    """A buffer on the steps' device with the losses since the last read.

    Reading a number waits for the device, so a step's losses are only copied, and looked at some steps later.
    """

    def __init__(self, capacity: int, pixels: int) -> None:
        """Allocate the losses of up to `capacity` steps; `pixels` is the number of values of an image."""
        self._capacity = capacity
        self._limit = DIVERGED * pixels
        self._names: list[str] = []
        self._buffer: Tensor | None = None  # [capacity, number of terms]
        self._filled = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Copy scalars of one step, or tensors [N] of N steps; at most `capacity` steps between two reads."""
        values = torch.stack(list(terms.values()), dim=-1)  # [N, number of terms], or of one step without N
        values = values.reshape(-1, len(terms))
        if self._buffer is None:
            self._names = list(terms)
            self._buffer = values.new_zeros(self._capacity, len(terms))
        self._buffer[self._filled : self._filled + len(values)] = values
        self._filled += len(values)

    @property
    def room(self) -> int:
        """Return for how many more steps the buffer has room before a read."""
        return self._capacity - self._filled

    @property
    def is_full(self) -> bool:
        """Return whether the losses must be read before the next step."""
        return self._filled == self._capacity

    def read(self, step: int) -> dict[str, float]:
        """Return the scalars of the last added step, after `step` updates, and empty the buffer.

        Raises:
            TrainingError: a loss of one of the steps since the last read is not finite, or is beyond all reason.
        """
        assert self._buffer is not None, "there is nothing to read before the first step"
        rows = self._buffer[: self._filled].tolist()
        self._filled = 0
        for number, row in enumerate(rows, start=step - len(rows) + 1):
            for name, value in zip(self._names, row, strict=True):
                if not math.isfinite(value) or (name in UNWEIGHTED and abs(value) > self._limit):
                    raise TrainingError(
                        f"{name} is {value:.4g} at step {number}; try a lower learning rate or a smaller weight"
                    )
        return dict(zip(self._names, rows[-1], strict=True))
