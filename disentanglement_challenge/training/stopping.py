"""Stopping between two steps: at a signal, or when the time is up."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

from disentanglement_challenge.objectives.objective import positive

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Whether to stop, and why.

    Inside its `with` block, SIGINT and SIGTERM are noted instead of ending the process; a second SIGINT ends it all the
    same. In a thread other than the main one, which gets no signals, there is only the time.

    Attributes:
        signal: the first that was noted.
    """

    def __init__(self, time_limit: float | None) -> None:
        """The time starts now; `time_limit` is in seconds.

        Raises:
            ConfigError: a time limit that is no positive number.
        """
        if time_limit is not None:
            positive("model.time_limit", time_limit)
        self.signal: signal.Signals | None = None
        self._time_limit = time_limit
        self._started = time.monotonic()
        self._handlers: dict[signal.Signals, signal._HANDLER] = {}

    @property
    def reason(self) -> str | None:
        """Why to stop now, in a few words; None for going on."""
        if self.signal is not None:
            return f"at {self.signal.name}"
        if self._time_limit is not None and time.monotonic() - self._started >= self._time_limit:
            return f"as model.time_limit of {self._time_limit:g} s is up"
        return None

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
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or signal.Signals(number)
