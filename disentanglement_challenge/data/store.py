"""A folder with one array of images, computed once (a killed computation resumes) and then memory-mapped."""

import contextlib
import errno
import io
import json
import logging
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray
from tqdm import tqdm

from disentanglement_challenge.compiled import compiled
from disentanglement_challenge.errors import DataError, OutputError
from disentanglement_challenge.files import lock

_LOGGER = logging.getLogger(__name__)

# Images between two progress notes: a kill loses at most these, and they are in memory (12 MB of 64x64x3 images).
_CHUNK = 1024


def load_or_make_images(
    folder: Path,
    shape: Sequence[int],
    recipe: dict[str, object],
    make: Callable[[int, int], NDArray[Any]],
    description: str,
    dtype: DTypeLike = np.uint8,
) -> NDArray[Any]:
    """Map `folder`/images.npy; compute it first if it is missing or was made by another recipe.

    Images are computed in order and appended to `images.npy.partial`. `images.json` records the recipe and the number
    of images that are safely on the disk, so another process can resume after a kill at any moment. The finished file
    is renamed to `images.npy`: if it exists beside its recipe, it is complete.
    Processes that start together take turns on a lock; all but the first only map the file.

    Args:
        folder: made if missing; may be read-only once the images are complete.
        shape: [num_images, height, width, channels].
        recipe: everything that the images depend on, as JSON values; images of another recipe are computed again.
        make: returns images [start, stop) as [stop - start, height, width, channels], a function of these two alone.
        description: the progress bar's text.
        dtype: the images' dtype.

    Returns:
        Array of `shape` and `dtype`, memory-mapped read-only.

    Raises:
        DataError: images.npy of this recipe is not a .npy file of this shape, or `make` raises it; images made before
            that are discarded.
        OutputError: the folder cannot be written, or the disk is too full.
    """
    shape, dtype = tuple(shape), np.dtype(dtype)
    if not _is_complete(folder, shape, recipe):
        with _writing(folder), _lock(folder):
            if not _is_complete(folder, shape, recipe):
                _make_images(folder, shape, dtype, recipe, make, description)
    return _map_images(folder / "images.npy", shape, dtype)


def finished_images(folder: Path) -> NDArray[Any] | None:
    """Map `folder`/images.npy of any recipe; return None if it is not finished, raise DataError if it is damaged."""
    try:
        num_images = int(json.loads((folder / "images.json").read_text())["num_images"])
        if not (folder / "images.npy").exists():
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    images = _map_images(folder / "images.npy")
    return images if len(images) == num_images else None


def files_recipe(paths: Iterable[Path]) -> dict[str, object]:
    """Return the recipe of images that are read from files of one folder: the files' names and `file_stamp`s."""
    return {path.name: file_stamp(path) for path in paths}


def file_stamp(path: Path) -> list[int]:
    """Return the file's size in bytes and its modification time in nanoseconds, by which a change is noticed.

    Raises DataError if the file cannot be accessed.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror})") from error
    return [status.st_size, status.st_mtime_ns]


# A file up to this size is read through its map, whose pages then count as this process's memory. In a larger file each
# image is read by its own call: the map of a file of 12.7 GB grew to 9.8 GB in 2000 batches of 64.
_MAPPED_BYTES = 512 << 20


def take_images(images: NDArray[Any], indices: NDArray[np.int64]) -> NDArray[Any]:
    """Return `images[indices]`; of a memory-mapped array at most `_MAPPED_BYTES` stay in this process's memory.

    Raises DataError if the file is missing or has become shorter.
    """
    if isinstance(images, np.memmap) and images.nbytes > _MAPPED_BYTES and _is_whole(images):
        return read_images(images, indices)
    # Indexing a numpy.memmap is several times slower than indexing the same memory as a plain array.
    return np.asarray(images)[indices]


def _is_whole(images: np.memmap[Any, Any]) -> bool:
    """Return whether the array is a whole map; a view such as a slice keeps the whole's offset, which is then wrong."""
    return isinstance(images.base, mmap.mmap) and images.flags.c_contiguous


@dataclass(frozen=True)
class MappedImages:
    """The file and layout of a whole read-only map, to map it again in another process."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, images: NDArray[Any]) -> Self | None:
        """Return the description of an array; None if it is not a whole read-only map of a file."""
        if not isinstance(images, np.memmap) or not _is_whole(images) or images.flags.writeable:
            return None
        return cls(str(images.filename), images.offset, images.shape, images.dtype.str)

    def open(self) -> np.memmap[Any, Any]:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def read_images(images: np.memmap[Any, Any], indices: NDArray[np.int64]) -> NDArray[Any]:
    """Return `images[indices]` of a whole map, read from its file, so that no pages stay in this process's memory.

    Raises DataError if the file is missing or has become shorter.
    """
    batch: NDArray[Any] = np.empty((len(indices), *images.shape[1:]), images.dtype)
    rows = batch.reshape(len(indices), -1).view(np.uint8)
    try:
        file = os.open(str(images.filename), os.O_RDONLY)
    except OSError as error:
        raise DataError(f"cannot read {images.filename} ({error.strerror})") from error
    try:
        offsets = images.offset + indices * rows.shape[1]
        num_read = _read_rows(file, rows, offsets)
        for row, offset in zip(rows[num_read:], offsets[num_read:].tolist(), strict=True):
            # The compiled reader stops at an error without a reason; reading again here gives the reason.
            content = os.pread(file, len(row), offset)
            if len(content) != len(row):
                raise DataError(f"{images.filename} has become shorter; {_ADVICE}")
            row[:] = np.frombuffer(content, np.uint8)
    finally:
        os.close(file)
    return batch


_pread: Any = numba.types.ExternalFunction(
    "pread", numba.types.intp(numba.types.int32, numba.types.uintp, numba.types.uintp, numba.types.int64)
)


@compiled(nogil=True)
def _read_rows(file: int, rows: NDArray[np.uint8], offsets: NDArray[np.int64]) -> int:
    """Fill rows from the file at these offsets, up to the first that cannot be filled; return their number."""
    for i in range(len(rows)):
        if _pread(file, rows[i].ctypes.data, rows.shape[1], offsets[i]) != rows.shape[1]:
            return i
    return len(rows)


def _read_progress(folder: Path, recipe: dict[str, object]) -> int:
    """Return the number of images of this recipe on the disk; 0 if the note is missing, broken or of another recipe."""
    try:
        note = json.loads((folder / "images.json").read_text())
        return int(note["num_images"]) if note["recipe"] == json.loads(json.dumps(recipe)) else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _write_progress(folder: Path, recipe: dict[str, object], num_images: int) -> None:
    """Replace the note atomically; the caller has flushed the images that it counts."""
    temporary = folder / "images.json.partial"
    with temporary.open("w") as file:
        json.dump({"recipe": recipe, "num_images": num_images}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "images.json")


def _is_complete(folder: Path, shape: Sequence[int], recipe: dict[str, object]) -> bool:
    # Read the note before looking for the images: the writer removes old images before it writes a new note.
    return _read_progress(folder, recipe) == shape[0] and (folder / "images.npy").exists()


def _header(shape: Sequence[int], dtype: np.dtype[Any]) -> bytes:
    """Return the header of a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)})
    return buffer.getvalue()


def _make_images(
    folder: Path,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    recipe: dict[str, object],
    make: Callable[[int, int], NDArray[Any]],
    description: str,
) -> None:
    """Make images.npy, from the last progress note on; the caller holds the lock."""
    final, partial = folder / "images.npy", folder / "images.npy.partial"
    header, num_images = _header(shape, dtype), shape[0]
    image_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    done = _read_progress(folder, recipe)
    written = partial.stat().st_size if partial.exists() else 0
    if written < len(header) + done * image_bytes:
        done = 0
    if done == 0:
        # In this order, so that no process sees the new note together with the old images.
        final.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        _write_progress(folder, recipe, 0)
        partial.write_bytes(header)

    needed, free = (num_images - done) * image_bytes, shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(f"{folder}: its disk has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are needed")

    with (
        partial.open("r+b") as file,
        tqdm(
            total=num_images, initial=done, desc=description, unit="image", unit_scale=True, mininterval=1
        ) as progress,
    ):
        # Images beyond the note may be incomplete.
        file.truncate(len(header) + done * image_bytes)
        file.seek(0, os.SEEK_END)
        for start in range(done, num_images, _CHUNK):
            stop = min(start + _CHUNK, num_images)
            try:
                images = make(start, stop)
            except DataError:
                # Discard the images of a damaged source: a corrected one may have the same recipe.
                (folder / "images.json").unlink()
                partial.unlink()
                raise
            file.write(np.ascontiguousarray(images, dtype=dtype).data)
            file.flush()
            os.fsync(file.fileno())
            _write_progress(folder, recipe, stop)
            progress.update(stop - start)
    partial.replace(final)


_ADVICE = "delete it, and it will be made again"


def _map_images(path: Path, shape: Sequence[int] | None = None, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged or unreadable ({' '.join(str(error).split())}); {_ADVICE}") from error
    if shape is not None and (images.shape != tuple(shape) or images.dtype != dtype):
        raise DataError(
            f"{path} holds {images.dtype} of shape {images.shape}, expected {dtype} of {tuple(shape)}; {_ADVICE}"
        )
    if path.stat().st_size != images.offset + images.nbytes:
        raise DataError(f"{path} has {path.stat().st_size} bytes, expected {images.offset + images.nbytes}; {_ADVICE}")
    return images


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make the folder; turn the operating system's errors into OutputErrors."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"cannot make the folder {folder}: there is a file in its place") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"{folder}: the disk is full; free space and run the command again to resume") from error
        raise OutputError(f"cannot write to {folder} ({error.strerror})") from error


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock the folder against other processes; the system unlocks it when the process ends."""
    with (folder / "images.lock").open("w") as file:
        if not lock(file.fileno()):
            _LOGGER.warning("%s: waiting for another process, which is making the images", folder)
            lock(file.fileno(), wait=True)
        yield


def release_pages(array: NDArray[Any]) -> None:
    """Release a read-only memory-mapped array's pages from this process's memory; they are read again when needed.

    Without madvise, the system releases them itself when memory runs short.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    # A private mapping (writable, without changing the file) would lose its changes.
    if isinstance(base, mmap.mmap) and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
