"""Stream arrays from .npz archives, without reading the whole archive into memory and without unpickling.

An .npz is a zip of .npy files. Each of its arrays can be read on its own, from start to end, whether it is compressed
or not. The zip's check sum is compared at the end.
"""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.data.store import files_recipe, finished_images, load_or_make_images
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.files import DAMAGED_ZIP, is_file

_SKIPPED_AT_ONCE = 1 << 20


def missing_file(name: str, path: Path) -> DataError:
    """Return the error for a data set whose file is missing."""
    return DataError(
        f"data set {name!r}: {path} is missing; download it with `python -m disentanglement_challenge.data download "
        f"{name}`, or set DISENTANGLEMENT_LIB_DATA to the folder of your data sets"
    )


class NpzMember:
    """One array of an .npz, as a context manager that reads it from start to end, or whole.

    Attributes:
        shape, dtype: those of the array.
        crc32: the check sum of the .npy file that the archive records.
    """

    def __init__(self, archive: Path, key: str, by_rows: bool = True) -> None:
        """Open the array; raise DataError if the archive is damaged or has no such array of plain numbers.

        Args:
            archive, key: the .npz and the name of its array.
            by_rows: whether it is to be read by rows, which must lie one after the other.
        """
        self._archive = archive
        with _reading(archive):
            self._zip = zipfile.ZipFile(archive)
            try:
                info = self._zip.getinfo(f"{key}.npy")
            except KeyError:
                names = ", ".join(name.removesuffix(".npy") for name in self._zip.namelist())
                raise DataError(f"{archive}: there is no array {key!r}; it holds {names or 'nothing'}") from None
            self.crc32 = info.CRC
            self._info = info
            self._stream = self._zip.open(info)
            try:
                self.shape, self._is_fortran, self.dtype = self._read_header()
                if by_rows and (self._is_fortran or not self.shape):
                    raise ValueError("it is a scalar or in Fortran order; expected rows in C order")
            except ValueError as error:
                raise DataError(f"{archive}: {key!r} is not an array ({' '.join(str(error).split())})") from error
            self._start = self._stream.tell()
            if self.dtype.hasobject:
                raise DataError(f"{archive}: {key!r} is {self.dtype}, which would need unpickling; expected numbers")
            size = self._start + int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
            if info.file_size != size:
                raise DataError(f"{archive}: {key!r} has {info.file_size} bytes; its header says {size}")

    def _read_header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        version = np.lib.format.read_magic(self._stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"unknown format version {version}")
        return read(self._stream)

    def read(self, start: int, stop: int, item_shape: Sequence[int]) -> NDArray[Any]:
        """Return items [start, stop) of the array, read as [num_items, *item_shape].

        Reading forwards streams; going back starts again from the beginning. Raises DataError if the file is damaged.
        """
        num_values = int(np.prod(item_shape))
        return self._values(start * num_values, stop * num_values).reshape(stop - start, *item_shape)

    def read_whole(self) -> NDArray[Any]:
        """Return the array, also of one that is not opened by rows; raise DataError if the file is damaged."""
        values = self._values(0, int(np.prod(self.shape)))
        return values.reshape(self.shape, order="F" if self._is_fortran else "C")

    def _values(self, start: int, stop: int) -> NDArray[Any]:
        num_bytes = (stop - start) * self.dtype.itemsize
        with _reading(self._archive):
            self._go_to(self._start + start * self.dtype.itemsize)
            content = self._stream.read(num_bytes)
        if len(content) < num_bytes:
            raise DataError(f"{self._archive} is damaged (it ends early); replace it with an intact copy")
        return np.frombuffer(content, dtype=self.dtype)

    def _go_to(self, position: int) -> None:
        """Go to a byte by reading: from Python 3.12 on, seeking in a stored array gives up the zip's check sum."""
        if position < self._stream.tell():
            self._stream.close()
            self._stream = self._zip.open(self._info)
        while (gap := position - self._stream.tell()) > 0 and self._stream.read(min(gap, _SKIPPED_AT_ONCE)):
            pass

    def close(self) -> None:
        self._stream.close()
        self._zip.close()

    def __enter__(self) -> "NpzMember":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    try:
        yield
    except (NotImplementedError, RuntimeError) as error:
        raise DataError(f"cannot unpack {archive} ({error})") from error
    except OSError as error:
        raise DataError(f"cannot read {archive} ({error.strerror or error})") from error
    except DAMAGED_ZIP as error:
        reason = str(error) or "it ends early"
        raise DataError(f"{archive} is damaged ({reason}); replace it with an intact copy") from error


def load_npz_images(
    name: str,
    archive: Path,
    key: str,
    check: Callable[[Sequence[int], np.dtype[Any]], Sequence[int]],
    folder: Path,
    convert: Callable[[NDArray[Any]], NDArray[Any]] = lambda images: images,
) -> NDArray[np.uint8]:
    """Map the images of an .npz from `folder`/images.npy; the first call converts them.

    A killed conversion resumes. The archive may be deleted after the conversion; a changed archive is converted again.

    Args:
        name: the data set, for messages.
        archive, key: the .npz and the name of its array.
        check: takes the array's shape and dtype and returns the shape with one axis for the images, [num_images,
            height, width, channels]; raises DataError if the array is not the data set's.
        folder: the folder of the converted images.
        convert: converts the values of a batch of images.

    Raises:
        DataError: the archive is missing, damaged, or of another data set.
        OutputError: the folder cannot be written, or the disk is too full.
    """
    with _reading(archive):
        there = is_file(archive)
    if not there:
        finished = finished_images(folder)
        if finished is None:
            raise missing_file(name, archive)
        return finished
    with NpzMember(archive, key) as member:
        shape = check(member.shape, member.dtype)
        recipe = {**files_recipe([archive]), "crc32": member.crc32}

        def make(start: int, stop: int) -> NDArray[Any]:
            return convert(member.read(start, stop, shape[1:]))

        return load_or_make_images(folder, shape, recipe, make, f"converting {archive.name}")
