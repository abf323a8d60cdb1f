"""What the challenge's evaluator is told while a run is under way: it started, how far it is, how it ended.

Event types and payloads are the starter kit's (aicrowd_helpers.py), and travel over a Redis list through `aicrowd_api`.
Off the evaluator the same calls only log.

That library waits for ever where there is no server, and where the server does not answer. So its calls are made in a
daemon thread, from a queue, and the run goes on. What a run can lose to a server is the wait at its end for the last
events to be taken, which is bounded.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from disentanglement_challenge.environment import is_grading
from disentanglement_challenge.errors import lines_of

_LOGGER = logging.getLogger(__name__)

# Seconds that an event may wait before it is said, once, that none arrive, and that a run waits at its end.
PATIENCE = 5.0
_RETRY_AFTER = 1.0  # seconds
# A run makes about a hundred: a start, an end, and one for each percent.
_LONGEST_QUEUE = 256

_INFO, _SUCCESS, _ERROR = "AICROWD_EVENT_INFO", "AICROWD_EVENT_SUCCESS", "AICROWD_EVENT_ERROR"


@contextmanager
def reported_execution(to_evaluator: bool = True) -> Iterator[Callable[[float], None]]:
    """Reports the start of the block, then its end: `submit`, or after any exception `execution_error`.

    Yields the function to report progress with, a number from 0 to 1. Of several processes that train together one
    reports; in the others `to_evaluator` is False, and nothing is done.
    """
    if not to_evaluator:
        yield lambda progress: None
        return
    events = EvaluatorEvents()
    events.execution_start()
    try:
        yield events.register_progress
    except BaseException as error:
        events.execution_error(lines_of(error)[0])
        raise
    else:
        events.submit()
    finally:
        events.close()


class EvaluatorEvents:
    """The evaluator's events. No method raises because of the server, or waits for it; `close` waits for seconds."""

    def __init__(self) -> None:
        self._sender = _make_sender() if is_grading() else None
        self._percent = -1

    def execution_start(self) -> None:
        """The run has started."""
        self._post(_INFO, "execution_started", "execution_started")

    def register_progress(self, progress: float) -> None:
        """How much of the run is done, from 0 to 1. What is not a whole percent more than before is not sent."""
        percent = int(100 * progress)
        if percent > self._percent:
            self._percent = percent
            self._post(_INFO, "register_progress", "register_progress", training_progress=progress)

    def submit(self) -> None:
        """The run has succeeded; the representation function is in its place."""
        self._post(_SUCCESS, "submit", "submit")

    def execution_error(self, error: str) -> None:
        """The run has failed, and why, in one line."""
        self._post(_ERROR, "execution_error", "execution_error", error=error)

    def close(self) -> None:
        """Waits until all events have been taken, or some seconds. What was not taken may be until the process ends."""
        if self._sender is not None:
            self._sender.close()

    def _post(self, event_type: str, message: str, kind: str, **payload: Any) -> None:
        payload = {"event_type": f"disentanglement_challenge:{kind}", **payload}
        _LOGGER.info("%s %s", event_type, payload)
        if self._sender is not None:
            self._sender.post({"event_type": event_type, "message": message, "payload": payload})


class _Sender(threading.Thread):
    """Sends events in order, each until it has been taken; after an error once more, so it may arrive twice."""

    def __init__(self, library: Any) -> None:
        super().__init__(name="evaluator events", daemon=True)
        self._library = library
        self._changed = threading.Condition()
        self._waiting: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_LONGEST_QUEUE)
        self._is_closed = False
        self._has_warned = False
        self._last_error = ""
        self.start()

    def post(self, event: dict[str, Any]) -> None:
        with self._changed:
            if event["event_type"] != _INFO:
                self._keep_latest_progress()
            self._waiting.append((time.monotonic(), event))
            self._changed.notify_all()
            if time.monotonic() - self._waiting[0][0] > PATIENCE:
                self._warn()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: not self._waiting, PATIENCE):
                self._warn()

    def run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                entry = self._waiting[0]
            try:
                self._library.register_event(**entry[1])
            except Exception as error:  # whatever goes wrong between here and the server is no concern of the run
                self._last_error = " ".join(str(error).split())
                time.sleep(_RETRY_AFTER)
                continue
            with self._changed:
                if entry in self._waiting:  # or it was given up meanwhile
                    self._waiting.remove(entry)
                self._changed.notify_all()

    def _keep_latest_progress(self) -> None:
        """How a run ended matters more than how it went, to a server that is slow to take either."""
        progress = [entry for entry in self._waiting if entry[1]["message"] == "register_progress"]
        for entry in progress[:-1]:
            self._waiting.remove(entry)

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            reason = f" ({self._last_error})" if self._last_error else ""
            _LOGGER.warning(
                "events do not reach the evaluator: the Redis server at %s:%s does not take them%s; the run goes on "
                "without",
                self._library.REDIS_HOST,
                self._library.REDIS_PORT,
                reason,
            )


def _make_sender() -> _Sender | None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        from aicrowd_api.events import AIcrowdEvents  # here, as importing it changes the root logger's settings

        library = AIcrowdEvents()
        # It reads these timeouts from the environment (60 s) and forgets them. Without them a connection that broke
        # without a word would be waited on for ever.
        library.REDIS_POOL.connection_kwargs.update(
            socket_timeout=library.REDIS_SOCKET_TIMEOUT, socket_connect_timeout=library.REDIS_SOCKET_CONNECT_TIMEOUT
        )
        return _Sender(library)
    except Exception as error:  # a setting that the library cannot read; no reason not to train
        _LOGGER.warning("no events are sent to the evaluator: %s", " ".join(str(error).split()))
        return None
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
