"""Start Ray in processes of this machine, or connect to a running cluster."""

import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray

from disentanglement_challenge.environment import IS_TREE, ROOT
from disentanglement_challenge.errors import ConfigError, Interrupted

# Seconds that an address has to take a connection, and a process that starts Python, imports Ray and asks the cluster;
# for a healthy one that is about two.
CONNECT_WITHIN = 10
ANSWER_WITHIN = 60


@contextmanager
def cluster(address: str | None) -> Iterator[Callable[[], bytes]]:
    """Connect to the Ray cluster at this address, or start one on this machine; disconnect at the end of the block.

    Yields:
        A function that returns the numbers of the signals since the beginning, also those whose handler raised where
        Python ignores exceptions.

    Raises:
        ConfigError: nothing at the address answers as Ray.
        Interrupted: SIGTERM arrived, whatever its handler's error became on its way through Ray.
    """
    with _signals() as seen:
        try:
            with _connection(address, seen):
                yield seen
        except (KeyboardInterrupt, SystemExit) as stop:
            # Ray's own handler raises SystemExit, and Ray's waiting raises KeyboardInterrupt for any handler's error.
            if signal.SIGTERM in seen():
                raise Interrupted("stopped at SIGTERM", signal.SIGTERM) from stop
            raise


@contextmanager
def _connection(address: str | None, seen: Callable[[], bytes]) -> Iterator[None]:
    options: dict[str, Any] = {"address": "local", "include_dashboard": False}
    if address is not None:
        _check_answers(address)
        options = {"address": address}
        if IS_TREE:
            # The code travels to machines that do not share this folder; what is large and not code stays here. One
            # that is installed here is installed there.
            excludes = ["/.git", "/.venv", "/scratch", "/docs", "/tests"]
            options["runtime_env"] = {"working_dir": str(ROOT), "excludes": excludes}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        signal.signal(signal.SIGTERM, on_sigterm)  # which Ray takes for itself
        if signal.SIGTERM in seen():
            raise SystemExit(signal.SIGTERM)
    except (KeyboardInterrupt, SystemExit):
        ray.shutdown()  # what it had started by then
        raise
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot use the Ray cluster at {address}: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _signals() -> Iterator[Callable[[], bytes]]:
    """Note the signals that arrive inside the block; yield a function that returns their numbers so far.

    A handler that raises has no effect where Python ignores exceptions, as in a destructor or after a fork. Python
    would also print the SystemExit of Ray's own handler of SIGTERM there.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        descriptor, hook = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False), sys.unraisablehook

        def print_others(unraisable: "sys.UnraisableHookArgs") -> None:
            if not isinstance(unraisable.exc_value, SystemExit):
                hook(unraisable)

        def seen() -> bytes:
            with suppress(BlockingIOError):
                return reader.recv(4096, socket.MSG_PEEK)
            return b""

        sys.unraisablehook = print_others
        try:
            yield seen
        finally:
            sys.unraisablehook = hook
            signal.set_wakeup_fd(descriptor)


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
