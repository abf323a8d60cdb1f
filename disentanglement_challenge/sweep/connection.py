"""Start Ray in processes of this machine, or connect to a running cluster."""

import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ray

from disentanglement_challenge.environment import IS_TREE, ROOT
from disentanglement_challenge.errors import ConfigError

# Seconds that an address has to take a connection, and a process that starts Python, imports Ray and asks the cluster;
# for a healthy one that is about two.
CONNECT_WITHIN = 10
ANSWER_WITHIN = 60


@contextmanager
def cluster(address: str | None) -> Iterator[Callable[[], None]]:
    """Connect to the Ray cluster at this address, or start one on this machine; disconnect at the end of the block.

    Inside the block SIGINT and SIGTERM wait. An exception that a handler raises within Ray may be replaced or ignored,
    or leave an object of Ray's whose destructor never ends.

    Yields:
        A function to call again and again: it calls the handler of a signal that has come. The end of the block does so
        too.

    Raises:
        ConfigError: nothing at the address answers as Ray.
    """
    options: dict[str, Any] = {"address": "local", "include_dashboard": False}
    if address is not None:
        _check_answers(address)
        options = {"address": address}
        if IS_TREE:
            # The code travels to machines that do not share this folder; what is large and not code stays here. One
            # that is installed here is installed there.
            excludes = ["/.git", "/.venv", "/scratch", "/docs", "/tests"]
            options["runtime_env"] = {"working_dir": str(ROOT), "excludes": excludes}
    # In the main thread Ray would set its own handler of SIGTERM. Its processes end with the thread that started them.
    with _signals_wait() as handle_signals, ThreadPoolExecutor(1) as thread:
        try:
            try:
                thread.submit(ray.init, log_to_driver=False, logging_level=logging.ERROR, **options).result()
            except (ConnectionError, RuntimeError, ValueError) as error:
                place = "on this machine" if address is None else f"at {address}"
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise ConfigError(f"cannot use a Ray cluster {place}: {reason}") from error
            handle_signals()
            yield handle_signals
        finally:
            thread.submit(ray.shutdown).result()


@contextmanager
def _signals_wait() -> Iterator[Callable[[], None]]:
    """Let SIGINT and SIGTERM wait for the function that is yielded, or for the end of the block."""
    handlers = {
        int(number): handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(handler := signal.getsignal(number))
    }
    waiting: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        waiting.append(number)

    def handle_signals() -> None:
        for number in handlers:
            signal.signal(number, note)  # again and again, as Ray's core takes SIGTERM for itself
        while waiting:
            number = waiting.pop(0)
            handlers[number](number, None)

    handle_signals()
    try:
        yield handle_signals
        handle_signals()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _check_answers(address: str) -> None:
    # Ray itself goes on trying a dead address for ten minutes.
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    advice = "start one with `ray start --head`, or leave --address out to run on this machine"
    if not host or not port.isdigit():
        raise ConfigError(f"--address {address!r} is neither HOST:PORT of a Ray cluster nor auto; {advice}")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_WITHIN).close()
    except (OSError, OverflowError, UnicodeError) as error:  # the last of a host that cannot be a name
        raise ConfigError(f"no Ray cluster answers at {address} ({error}); {advice}") from error
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        subprocess.run(command, check=True, timeout=ANSWER_WITHIN, capture_output=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise ConfigError(f"no Ray cluster answers at {address}; {advice}") from error
