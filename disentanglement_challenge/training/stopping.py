"""Stopping between two steps: at a signal, or when the time is up."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

from disentanglement_challenge.checks import check_number

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# `Stopping.verdict` beside the number of a signal. Of several processes' verdicts the largest is theirs together.
GO_ON, TIME_IS_UP = 0, -1


class Stopping:
    """Whether to stop, and why.

    Inside its `with` block, SIGINT and SIGTERM are noted instead of ending the process; a second SIGINT ends it all the
    same. In a thread other than the main one, which gets no signals, there is only the time.
    """

    def __init__(self, time_limit: float | None) -> None:
        """The time starts now; `time_limit` is in seconds.

        Raises:
            ConfigError: a time limit that is no positive number.
        """
        if time_limit is not None:
            check_number("model.time_limit", time_limit, above=0)
        self._time_limit = time_limit
        self._started = time.monotonic()
        self._noted = GO_ON
        self._handlers: dict[signal.Signals, signal._HANDLER] = {}

    @property
    def verdict(self) -> int:
        """The number of the first signal noted, else TIME_IS_UP or GO_ON."""
        if self._noted != GO_ON or self._time_limit is None:
            return self._noted
        return TIME_IS_UP if time.monotonic() - self._started >= self._time_limit else GO_ON

    def explain(self, verdict: int) -> str:
        """A verdict to stop, in a few words."""
        if verdict == TIME_IS_UP:
            return f"as model.time_limit of {self._time_limit:g} s is up"
        return f"at {signal.Signals(verdict).name}"

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted != GO_ON and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._noted = self._noted or number
