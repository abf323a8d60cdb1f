"""Report a run to the challenge's evaluator: its start, its progress and its end.

Event types and payloads are the starter kit's (aicrowd_helpers.py); `aicrowd_api` sends them through a Redis list. Off
the evaluator the same calls only log.

`aicrowd_api` waits for ever if there is no server, or if the server does not answer. So a daemon thread makes its
calls, from a queue, and the run continues. At its end the run waits for the last events, for a limited time.
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

# Seconds that an event may wait before one warning is logged; also the longest wait at the end of a run.
PATIENCE = 5.0
_RETRY_AFTER = 1.0  # seconds
# A run has about a hundred events: a start, an end, and one for each percent.
_LONGEST_QUEUE = 256

_INFO, _SUCCESS, _ERROR = "AICROWD_EVENT_INFO", "AICROWD_EVENT_SUCCESS", "AICROWD_EVENT_ERROR"


@contextmanager
def reported_execution(to_evaluator: bool = True) -> Iterator[Callable[[float], None]]:
    """Report the start of the block and its end: `submit`, or `execution_error` after an exception.

    It yields the function that reports progress, a number from 0 to 1. If several processes train together, one
    reports; in the others `to_evaluator` is False, and this function does nothing.
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
    """The evaluator's events; no method raises because of the server or waits for it, except `close`, for seconds."""

    def __init__(self) -> None:
        self._sender = _make_sender() if is_grading() else None
        self._percent = -1

    def execution_start(self) -> None:
        """Report that the run has started."""
        self._post(_INFO, "execution_started", "execution_started")

    def register_progress(self, progress: float) -> None:
        """Report the progress of the run, from 0 to 1; it is sent only if it has grown by a whole percent."""
        percent = int(100 * progress)
        if percent > self._percent:
            self._percent = percent
            self._post(_INFO, "register_progress", "register_progress", training_progress=progress)

    def submit(self) -> None:
        """Report that the run has succeeded, and its representation function exists."""
        self._post(_SUCCESS, "submit", "submit")

    def execution_error(self, error: str) -> None:
        """Report that the run has failed, with the reason in one line."""
        self._post(_ERROR, "execution_error", "execution_error", error=error)

    def close(self) -> None:
        """Wait until all events are delivered, at most some seconds; others may be delivered until the process ends."""
        if self._sender is not None:
            self._sender.close()

    def _post(self, event_type: str, message: str, kind: str, **payload: Any) -> None:
        payload = {"event_type": f"disentanglement_challenge:{kind}", **payload}
        _LOGGER.info("%s %s", event_type, payload)
        if self._sender is not None:
            self._sender.post({"event_type": event_type, "message": message, "payload": payload})


class _Sender(threading.Thread):
    """A thread that sends events in order and repeats an event after an error, so an event may arrive twice."""

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
            except Exception as error:  # no error of the connection may stop the run
                self._last_error = " ".join(str(error).split())
                time.sleep(_RETRY_AFTER)
                continue
            with self._changed:
                if entry in self._waiting:  # it may have been dropped in the meantime
                    self._waiting.remove(entry)
                self._changed.notify_all()

    def _keep_latest_progress(self) -> None:
        """Drop all waiting progress events but the latest, so that a slow server gets the end of the run soon."""
        progress = [entry for entry in self._waiting if entry[1]["message"] == "register_progress"]
        for entry in progress[:-1]:
            self._waiting.remove(entry)

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            reason = f" ({self._last_error})" if self._last_error else ""
            _LOGGER.warning(
                "events do not reach the evaluator: the Redis server at %s:%s does not accept them%s; the run goes on",
                self._library.REDIS_HOST,
                self._library.REDIS_PORT,
                reason,
            )


def _make_sender() -> _Sender | None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        from aicrowd_api.events import AIcrowdEvents  # imported here, as its import changes the root logger

        library = AIcrowdEvents()
        # The library reads these timeouts from the environment (60 s) but does not use them. Without them it would wait
        # for ever on a connection that breaks silently.
        library.REDIS_POOL.connection_kwargs.update(
            socket_timeout=library.REDIS_SOCKET_TIMEOUT, socket_connect_timeout=library.REDIS_SOCKET_CONNECT_TIMEOUT
        )
        return _Sender(library)
    except Exception as error:  # such as an invalid setting; training does not need the evaluator
        _LOGGER.warning("no events are sent to the evaluator: %s", " ".join(str(error).split()))
        return None
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
