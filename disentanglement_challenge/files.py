"""Write files atomically: readers see either the old or the new content, never a part."""

import errno
import json
import logging
import lzma
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.errors import DataError, OutputError

try:
    import fcntl
except ImportError:  # a system without POSIX's locks
    fcntl = None  # type: ignore[assignment]

_LOGGER = logging.getLogger(__name__)

# zipfile's exceptions for a damaged archive; a flipped bit in its directory may also change a compression or a name.
DAMAGED_ZIP = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError,
    struct.error, OSError,
)  # fmt: skip


_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def is_file(path: Path) -> bool:
    """Return whether the path is a file; unlike Path.is_file since Python 3.14, raise OSError if it is inaccessible."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return False


def exists(path: Path) -> bool:
    """Return whether there is a file or folder; raise DataError if that cannot be looked up."""
    try:
        path.stat()
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise DataError(f"cannot look for {path} ({error.strerror})") from error
    return True


def make_folder(path: Path) -> Path:
    """Create the folder and its parents; raise OutputError if it cannot be created or written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the folder {path}: {error.strerror}; choose another place") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to the folder {path}: permission denied; choose another place")
    return path


def check_writable(path: Path) -> None:
    """Raise OutputError if the folder cannot be created or written; leave no new folder behind."""
    missing = [folder for folder in (path, *path.parents) if not os.path.exists(folder)]
    make_folder(path)
    with suppress(OSError):  # another process may have put something there
        for folder in missing:
            folder.rmdir()


# The errors of file systems without locks, such as some shared ones on clusters.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def lock(descriptor: int, wait: bool = False) -> bool:
    """Lock an open file or folder until it is closed or the process ends.

    If the system or the file system has no locks, other processes are not locked out, and a warning is logged.

    Args:
        descriptor: the open file's descriptor.
        wait: whether to wait until another process releases the lock.

    Returns:
        False if another process holds the lock and `wait` is False.
    """
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _LOGGER.warning("files cannot be locked here; do not start two processes that write to the same folder")
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a folder against other processes inside the block; raise OutputError if one holds the lock.

    The folder is created, and removed at the end if it is empty. The system releases the lock when the process ends.
    """
    descriptor = os.open(make_folder(path), os.O_RDONLY)
    try:
        if not lock(descriptor):
            raise OutputError(
                f"{_holder(descriptor)} is writing to {path}; wait until it ends, or choose another experiment name"
            )
        try:
            yield
        finally:
            with suppress(OSError):
                path.rmdir()
    finally:
        os.close(descriptor)


def check_unlocked(path: Path) -> None:
    """Raise OutputError if a process holds the lock of this folder."""
    if os.path.isdir(path):  # unlike Path.is_dir, it does not raise if the name is too long or may not be looked up
        with locked(path):
            pass


def _holder(descriptor: int) -> str:
    """Describe the process that holds the lock of an open folder, as far as the system tells."""
    inode = os.fstat(descriptor).st_ino
    with suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, process, file, *_ = line.split()
            if kind == "FLOCK" and int(file.rsplit(":", 1)[-1]) == inode and int(process) > 0:
                command = Path("/proc", process, "cmdline").read_bytes().split(b"\0")
                words = " ".join(part.decode(errors="replace") for part in command).strip()
                return f"process {process} ({words:.100})"
    return "another process"


def remove(path: Path) -> None:
    """Remove the file or folder, if it exists; raise OutputError if that fails."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {path}: {error.strerror}") from error


def copy_folder(source: Path, target: Path, left_out: Callable[[Path], bool] = lambda path: False) -> None:
    """Copy a folder, without the files and folders that are left out.

    Raises OutputError if that fails.
    """
    try:
        shutil.copytree(
            source, target, ignore=lambda place, names: [name for name in names if left_out(Path(place, name))]
        )
    except (OSError, shutil.Error) as error:
        # shutil.Error has a list of (source, target, reason).
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
        raise OutputError(f"{source} cannot be copied to {target}: {reason}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it over `path` if the block ends without an error.

    Raises OutputError if the folder cannot be written or the disk is full; `path` is then unchanged.
    """
    make_folder(path.parent)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes a file that only its owner can read; give results the permissions of the umask.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_torn(folder: Path) -> None:
    """Remove temporary files of processes that were killed in `replacing`, below the folder; nobody may be writing."""
    for path in folder.rglob(".*"):
        remove(path)


def write_text(path: Path, text: str) -> None:
    """Write the text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write the content as JSON, indented, atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays of numbers or strings as an .npz, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an .npz, without unpickling.

    Raises:
        DataError: it cannot be read, or is not an .npz.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (*DAMAGED_ZIP, KeyError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged or not an .npz"
        raise DataError(f"cannot read {path}: {reason}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; raise DataError if it cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged or not JSON ({error})") from error
