"""Stop between two steps: at a signal, or when the time is up."""

import signal
import threading
import time
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Self

from disentanglement_challenge.checks import check_number


class Stop(IntEnum):
    """The reasons to stop training before its last step. Several processes agree on the maximum."""

    NO = 0
    TIME_LIMIT = 1
    SIGINT = 2
    SIGTERM = 3

    @property
    def signal(self) -> signal.Signals | None:
        """Return the signal that stopped training, or None."""
        return signal.Signals[self.name] if self in SIGNALS.values() else None

    @property
    def explanation(self) -> str:
        """Return the reason in a few words."""
        return "as model.time_limit is up" if self is Stop.TIME_LIMIT else f"at {self.name}"


SIGNALS = {signal.SIGINT: Stop.SIGINT, signal.SIGTERM: Stop.SIGTERM}


class Stopping:
    """A check for signals and the time limit.

    Inside its `with` block, SIGINT and SIGTERM are noted instead of ending the process; a second SIGINT ends it all the
    same. In a thread other than the main one, which gets no signals, there is only the time.
    """

    def __init__(self, time_limit: float | None) -> None:
        """Start the time, which the block restarts; `time_limit` is in seconds.

        Raises:
            ConfigError: the time limit is not a positive number.
        """
        if time_limit is not None:
            check_number("model.time_limit", time_limit, above=0)
        self._time_limit = time_limit
        self._started = time.monotonic()
        self._noted = Stop.NO
        self._handlers: dict[signal.Signals, signal._HANDLER] = {}

    @property
    def reason(self) -> Stop:
        """Return the first signal, or else the time limit if it is up, or else NO."""
        if self._noted is Stop.NO and self._time_limit is not None:
            is_up = time.monotonic() - self._started >= self._time_limit
            return Stop.TIME_LIMIT if is_up else Stop.NO
        return self._noted

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted is not Stop.NO and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self._noted is Stop.NO:
            self._noted = SIGNALS[signal.Signals(number)]
