"""Run an untrusted model in a separate process that cannot write files or connect, with limits on memory and time."""

import ctypes
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from signal import Signals
from typing import Any, Protocol, Self

import gin
import numpy as np
import torch
from numpy.typing import NDArray

from disentanglement_challenge.checks import check_number
from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.export.model_file import import_confined, import_model
from disentanglement_challenge.export.representor import check_images, check_representation, make_representor

_LOGGER = logging.getLogger(__name__)

_START = """
import sys
sys.path[:] = {path!r}
from {module} import serve
serve({connection}, {model!r}, {memory}, {threads})
"""


class Process(Protocol):
    """The methods of `subprocess.Popen` that `Sandbox` needs."""

    def kill(self) -> None: ...
    def wait(self) -> int: ...


def check_limits(memory_limit: object, time_limit: object) -> None:
    """Raise ConfigError if a limit is not above 0, or is above a petabyte or a day."""
    check_number("sandbox.memory_limit", memory_limit, above=0, maximum=1 << 50)
    check_number("sandbox.time_limit", time_limit, above=0, maximum=86400)


@gin.configurable("sandbox", allowlist=["memory_limit", "time_limit"])
class Sandbox:
    """A representation function whose model runs on the CPU of a child process.

    It is a context manager, to be called inside its block. The process may use `memory_limit` more than PyTorch itself
    (on Linux), and cannot write bytes to files. If the kernel has Landlock (Linux 5.13, or 6.7 for connections), it
    cannot open files for writing or make TCP connections; then the model may call operators that `import_model`
    refuses. The process is killed if an answer takes longer than `time_limit`. Its answers are never unpickled.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path, memory_limit: int = 4 << 30, time_limit: float = 60.0) -> None:
        """Take the limits.

        Args:
            path: the model's path, as for `import_model`.
            memory_limit: in bytes.
            time_limit: in seconds, for loading and for each batch.

        Raises:
            ConfigError: a limit is not above 0, or is above a petabyte or a day.
        """
        check_limits(memory_limit, time_limit)
        self._memory_limit = int(memory_limit)
        self._time_limit = time_limit
        self._path = path

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Encode images like `make_representor`'s function; also raise RepresentationError if a limit is exceeded."""
        images = np.ascontiguousarray(check_images(images), dtype=np.float32)
        what = f"encoding {len(images)} images"
        with self._limited(what):
            self._connection.send_bytes(json.dumps(images.shape).encode())
            self._connection.send_bytes(images.tobytes())
        shape = self._answer(what)["shape"]
        with self._limited(what):
            content = self._connection.recv_bytes(self._memory_limit)
        try:
            representation = np.frombuffer(bytearray(content), np.float32).reshape(shape)
        except (TypeError, ValueError) as error:
            raise self._out_of_turn() from error
        return check_representation(torch.from_numpy(representation), len(images))

    def __enter__(self) -> Self:
        """Start the process and load the model; raise RepresentationError if that fails."""
        if sys.platform != "linux":
            _LOGGER.warning(
                "this system cannot limit the model's memory, files and connections; only the limits on time and on "
                "written bytes apply"
            )
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = self._start(theirs.fileno())
        self._connection = Connection(ours.detach())
        try:
            self._answer("loading it")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _start(self, connection: int) -> Process:
        # Absolute, as a path of an interactive session is "", and the process starts in another folder.
        path = list(map(os.path.abspath, sys.path))
        program = _START.format(
            path=path, module=__name__, connection=connection, model=str(self._path.resolve()),
            memory=self._memory_limit, threads=torch.get_num_threads(),
        )  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-I", "-c", program],
            pass_fds=[connection],
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _answer(self, what: str) -> dict[str, Any]:
        with self._limited(what):
            answer = json.loads(self._connection.recv_bytes(1 << 20))
        if isinstance(answer, dict) and "error" in answer:
            raise RepresentationError(" ".join(str(answer["error"]).split()))
        if not isinstance(answer, dict) or "shape" not in answer:
            raise self._out_of_turn()
        return answer

    def _out_of_turn(self) -> RepresentationError:
        return RepresentationError(f"{self._path}: the model's process sent an unexpected answer")

    @contextmanager
    def _limited(self, what: str) -> Iterator[None]:
        """Kill the process when the time is up; if it ends, raise RepresentationError with the reason."""
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            self._process.kill()

        timer = threading.Timer(self._time_limit, end)
        timer.start()
        try:
            yield
        except (OSError, EOFError) as error:
            self._process.kill()
            status = self._process.wait()
            if is_late.is_set():
                how = f"took longer than {self._time_limit:g} s, the limit of sandbox.time_limit"
            elif status < 0 and status != -Signals.SIGKILL:
                how = f"ended its process with {Signals(-status).name}"
            else:
                how = "ended its process"
            raise RepresentationError(f"{self._path}: {what} {how}") from error
        except (ValueError, RecursionError) as error:
            raise self._out_of_turn() from error
        finally:
            timer.cancel()


def serve(descriptor: int, path: str, memory_limit: int, num_threads: int) -> None:
    """Run the child process: load the model and answer images with representations until the connection closes.

    An answer is a JSON object with "error" or "shape"; a shape is followed by the bytes of float32 values.

    Args:
        descriptor: the file descriptor of the connected socket.
        path: the model's path.
        memory_limit: bytes of address space in addition to the current size of the process.
        num_threads: PyTorch's number of threads.
    """
    connection = Connection(descriptor)
    torch.set_num_threads(num_threads)
    load = import_confined if _confine(memory_limit) else import_model

    def answer(**content: Any) -> None:
        connection.send_bytes(json.dumps(content).encode())

    try:
        representation_function = make_representor(load(Path(path)), cuda=False)
        answer(shape=[])
        while True:
            shape = json.loads(connection.recv_bytes())
            images = np.frombuffer(connection.recv_bytes(), np.float32).reshape(shape)
            representation = representation_function(images)
            content = representation.tobytes()  # before the answer, as it may exceed the memory
            answer(shape=representation.shape)
            connection.send_bytes(content)
    except (EOFError, ConnectionError):
        pass
    except Exception as error:  # a model may cause any exception
        answer(error=_explain(error, path))


def _explain(error: BaseException, path: str) -> str:
    causes = f"{error!r} {error.__cause__!r}"
    if any(word in causes for word in ("MemoryError", "DefaultCPUAllocator", "bad_alloc")):
        return f"{path}: the model needs more memory than the limit of sandbox.memory_limit"
    return str(error) if isinstance(error, RepresentationError) else f"{path}: {causes}"


def _confine(memory_limit: int) -> bool:
    """Restrict this process permanently to what a model needs.

    Returns:
        Whether Landlock prevents opening files for writing, so that a model may call any operator.
    """
    limits = [(resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)]
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits.append((resource.RLIMIT_AS, pages * resource.getpagesize() + memory_limit))
    for limit, value in limits:
        _, hard = resource.getrlimit(limit)  # as of `ulimit -v`, which nobody may raise
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (allowed, allowed))
    if sys.platform != "linux":  # the numbers of Landlock's system calls are Linux's
        return False
    try:
        _landlock()
    except OSError:
        return False
    return True


# Linux's numbers: include/uapi/linux/landlock.h; the numbers of the system calls are the same on every architecture.
_CREATE_RULESET, _RESTRICT_SELF, _ASK_VERSION, _PR_SET_NO_NEW_PRIVS = 444, 446, 1, 38
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_FILE_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15}
_BIND_AND_CONNECT = 0b11


def _landlock() -> None:
    """Forbid this process to open files for writing and to make TCP connections; raise OSError if unsupported."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*arguments: object) -> int:
        result = libc.syscall(*arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(result)

    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    all_rights = (1 << _FILE_RIGHTS_BY_VERSION.get(version, 15)) - 1
    rights = [all_rights & ~(_EXECUTE | _READ_FILE | _READ_DIR)]
    if version >= 4:
        rights.append(_BIND_AND_CONNECT)
    ruleset = (ctypes.c_uint64 * len(rights))(*rights)
    descriptor = call(_CREATE_RULESET, ruleset, ctypes.c_size_t(ctypes.sizeof(ruleset)), 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    call(_RESTRICT_SELF, descriptor, 0)
    os.close(descriptor)
