"""A folder that holds one array of computed images, made once, restartable, and memory-mapped ever after."""

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

# Images between two notes of progress: what a kill can cost, and what is held in memory (12 MB of 64x64x3 images).
_CHUNK = 1024


def load_or_make_images(
    folder: Path,
    shape: Sequence[int],
    recipe: dict[str, object],
    make: Callable[[int, int], NDArray[Any]],
    description: str,
    dtype: DTypeLike = np.uint8,
) -> NDArray[Any]:
    """Maps `folder`/images.npy, after computing it if it is missing or was made by another recipe.

    Images are computed in order and appended to `images.npy.partial`; `images.json` names the recipe and how many of
    them are safely on the disk, so a process killed at any moment leaves a folder in which the next one goes on. The
    finished file is renamed to `images.npy`, so one that is there beside its recipe is complete.
    Processes that start together take turns on a lock; all but the first only map the file.

    Args:
        folder: made if missing; may be read-only once the images are complete.
        shape: [num_images, height, width, channels].
        recipe: what the images depend on, JSON values; images of another recipe are computed again, never used.
        make: images [start, stop) as [stop - start, height, width, channels], a function of these two alone.
        description: the progress bar's words.
        dtype: of the images.

    Returns:
        Array of `shape` and `dtype`, memory-mapped read-only.

    Raises:
        DataError: images.npy of this recipe is not a .npy file of this shape, or `make` raises it; what it gave before
            that is thrown away.
        OutputError: the folder cannot be written, or the disk is too full.
    """
    shape, dtype = tuple(shape), np.dtype(dtype)
    if not _is_complete(folder, shape, recipe):
        with _writing(folder), _lock(folder):
            if not _is_complete(folder, shape, recipe):
                _make_images(folder, shape, dtype, recipe, make, description)
    return _map_images(folder / "images.npy", shape, dtype)


def finished_images(folder: Path) -> NDArray[Any] | None:
    """Maps `folder`/images.npy whatever its recipe; None where there are no finished images. Raises DataError."""
    try:
        num_images = int(json.loads((folder / "images.json").read_text())["num_images"])
        if not (folder / "images.npy").exists():
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    images = _map_images(folder / "images.npy")
    return images if len(images) == num_images else None


def files_recipe(paths: Iterable[Path]) -> dict[str, object]:
    """A recipe for images that are read from files of one folder: their names and `file_stamp`s."""
    return {path.name: file_stamp(path) for path in paths}


def file_stamp(path: Path) -> list[int]:
    """What differs once the file has changed: its size in bytes and its time of change in nanoseconds.

    Raises DataError where it cannot be looked at.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return [status.st_size, status.st_mtime_ns]


# A file up to this size is read through its map, whose pages then count as this process's memory. Of a larger one each
# image is read by a call of its own: the map of 12.7 GB grew to 9.8 GB in 2000 batches of 64.
_MAPPED_BYTES = 512 << 20


def take_images(images: NDArray[Any], indices: NDArray[np.int64]) -> NDArray[Any]:
    """`images[indices]`, which of a memory-mapped array leaves at most `_MAPPED_BYTES` of it in this process's memory.

    Raises DataError where the file is no longer there, or has become shorter.
    """
    if isinstance(images, np.memmap) and images.nbytes > _MAPPED_BYTES and _is_whole(images):
        return read_images(images, indices)
    # Indexing a numpy.memmap costs several times what indexing the same memory as a plain array does.
    return np.asarray(images)[indices]


def _is_whole(images: np.memmap[Any, Any]) -> bool:
    """Whether image i is where `offset` says; a view of a map, such as a slice, keeps the offset of the whole."""
    return isinstance(images.base, mmap.mmap) and images.flags.c_contiguous


@dataclass(frozen=True)
class MappedImages:
    """Where the images of a whole read-only map are, to map them again elsewhere."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, images: NDArray[Any]) -> Self | None:
        """None where the array is not a whole map of a file that nobody writes to."""
        if not isinstance(images, np.memmap) or not _is_whole(images) or images.flags.writeable:
            return None
        return cls(str(images.filename), images.offset, images.shape, images.dtype.str)

    def open(self) -> np.memmap[Any, Any]:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def read_images(images: np.memmap[Any, Any], indices: NDArray[np.int64]) -> NDArray[Any]:
    """`images[indices]` of a whole map, read from its file, which leaves no pages of it in this process's memory.

    Raises DataError where the file is no longer there, or has become shorter.
    """
    batch: NDArray[Any] = np.empty((len(indices), *images.shape[1:]), images.dtype)
    rows = batch.reshape(len(indices), -1).view(np.uint8)
    try:
        file = os.open(str(images.filename), os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{images.filename}: cannot be read ({error.strerror})") from error
    try:
        offsets = images.offset + indices * rows.shape[1]
        num_read = _read_rows(file, rows, offsets)
        for row, offset in zip(rows[num_read:], offsets[num_read:].tolist(), strict=True):
            # Where the fast way stops, this one says why.
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
    """Fills rows from the file at these offsets until one cannot be filled; returns how many are."""
    for i in range(len(rows)):
        if _pread(file, rows[i].ctypes.data, rows.shape[1], offsets[i]) != rows.shape[1]:
            return i
    return len(rows)


def _read_progress(folder: Path, recipe: dict[str, object]) -> int:
    """How many images of this recipe are on the disk; 0 where the note is missing, broken or another recipe's."""
    try:
        note = json.loads((folder / "images.json").read_text())
        return int(note["num_images"]) if note["recipe"] == json.loads(json.dumps(recipe)) else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _write_progress(folder: Path, recipe: dict[str, object], num_images: int) -> None:
    """Replaces the note at once and whole; the caller has flushed the images that it counts."""
    temporary = folder / "images.json.partial"
    with temporary.open("w") as file:
        json.dump({"recipe": recipe, "num_images": num_images}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "images.json")


def _is_complete(folder: Path, shape: Sequence[int], recipe: dict[str, object]) -> bool:
    # The note is read before the images are looked for: a maker removes old images before it writes a new note.
    return _read_progress(folder, recipe) == shape[0] and (folder / "images.npy").exists()


def _header(shape: Sequence[int], dtype: np.dtype[Any]) -> bytes:
    """The bytes of a .npy file before its data."""
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
    """Goes on from the last note of progress to a complete images.npy; the caller holds the lock."""
    final, partial = folder / "images.npy", folder / "images.npy.partial"
    header, num_images = _header(shape, dtype), shape[0]
    image_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    done = _read_progress(folder, recipe)
    written = partial.stat().st_size if partial.exists() else 0
    if written < len(header) + done * image_bytes:
        done = 0
    if done == 0:
        # In this order: whoever sees the new note can no longer see the old images.
        final.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        _write_progress(folder, recipe, 0)
        partial.write_bytes(header)

    needed, free = (num_images - done) * image_bytes, shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(f"{folder}: {needed / 1e9:.1f} GB are needed on this disk, {free / 1e9:.1f} GB are free")

    with (
        partial.open("r+b") as file,
        tqdm(
            total=num_images, initial=done, desc=description, unit="image", unit_scale=True, mininterval=1
        ) as progress,
    ):
        # Images beyond the note may be torn.
        file.truncate(len(header) + done * image_bytes)
        file.seek(0, os.SEEK_END)
        for start in range(done, num_images, _CHUNK):
            stop = min(start + _CHUNK, num_images)
            try:
                images = make(start, stop)
            except DataError:
                # What a damaged source gave is not gone on from: a mended one may look the same from outside.
                (folder / "images.json").unlink()
                partial.unlink()
                raise
            file.write(np.ascontiguousarray(images, dtype=dtype).data)
            file.flush()
            os.fsync(file.fileno())
            _write_progress(folder, recipe, stop)
            progress.update(stop - start)
    partial.replace(final)


_ADVICE = "delete it to have it made again"


def _map_images(path: Path, shape: Sequence[int] | None = None, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged or unreadable ({' '.join(str(error).split())}); {_ADVICE}") from error
    if shape is not None and (images.shape != tuple(shape) or images.dtype != dtype):
        raise DataError(
            f"{path}: holds {images.dtype} of shape {images.shape}, expected {dtype} of {tuple(shape)}; {_ADVICE}"
        )
    if path.stat().st_size != images.offset + images.nbytes:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes long, expected {images.offset + images.nbytes}; {_ADVICE}"
        )
    return images


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Makes the folder and turns the operating system's refusals into sentences."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"{folder}: a file is in the way of this folder") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"{folder}: the disk is full; make room and start again to go on") from error
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds the folder against other processes; the system lets go when the holder ends, however it ends."""
    with (folder / "images.lock").open("w") as file:
        if not lock(file.fileno()):
            _LOGGER.warning("%s: waiting for another process that is making the images", folder)
            lock(file.fileno(), wait=True)
        yield


def release_pages(array: NDArray[Any]) -> None:
    """Takes a read-only memory-mapped array's pages out of this process's memory; they are read again when needed.

    Where the system cannot be told to, it takes them itself when memory runs short.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    # A private mapping (writable without touching the file) would lose what was written to it.
    if isinstance(base, mmap.mmap) and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
