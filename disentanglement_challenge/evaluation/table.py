"""Encode once: the representations of all images that the metrics sample, in a table on disk.

A representation is a function of the image alone, and the metrics sample the same images many times. So the metrics run
on image indices instead of images (`IndexOnlyData`), and their representation function looks codes up in a table
(`RepresentationTable.lookup`). To find the images that the table needs, each metric makes its draws once on a stand-in
representation, which records the requested images (`sampled_indices`). The random streams are the library's own.
"""

import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.sampling import GridSampler, RepresentationFunction
from disentanglement_challenge.data.store import take_images
from disentanglement_challenge.errors import OutputError, RepresentationError

# Accessing one page of a mapped file may map as much of it as the kernel caches in one piece: up to a huge page.
_HUGE_PAGE = 2 << 20


class IndexOnlyData(GroundTruthData):
    """Ground-truth data whose observations are image indices, int64 [N]; the wrapped data draws the factors."""

    def __init__(self, ground_truth_data: IndexedGroundTruthData) -> None:
        self._ground_truth_data = ground_truth_data

    @property
    def num_factors(self) -> int:
        return self._ground_truth_data.num_factors

    @property
    def factors_num_values(self) -> list[int]:
        return self._ground_truth_data.factors_num_values

    @property
    def observation_shape(self) -> list[int]:
        """The shape [] of an observation, which is one number."""
        return []

    def sample_factors(self, num: int, random_state: RandomState) -> NDArray[np.int64]:
        return self._ground_truth_data.sample_factors(num, random_state)

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: RandomState
    ) -> NDArray[np.int64]:
        return self._ground_truth_data.sample_indices(factors, random_state)


def sampled_indices(
    ground_truth_data: IndexedGroundTruthData, draw: Callable[[GridSampler], object]
) -> NDArray[np.int64]:
    """Find the images that a metric encodes, by making its draws on a stand-in representation of two latents.

    Args:
        ground_truth_data: the data of the metric.
        draw: called once with a sampler over the data's indices and the stand-in.

    Returns:
        The sorted image indices without repetitions, int64 [num_images].
    """
    seen = np.zeros(len(ground_truth_data.images), dtype=bool)

    def stand_in(indices: NDArray[np.int64]) -> NDArray[np.float64]:
        seen[indices] = True
        # The codes vary, as some metrics stop sampling on a collapsed representation.
        return np.stack([indices, indices], axis=1).astype(np.float64)

    draw(GridSampler(IndexOnlyData(ground_truth_data), stand_in))
    return np.flatnonzero(seen)


class RepresentationTable:
    """The representations of chosen images, each encoded once, in a memory-mapped temporary file.

    It is a context manager. The file has no name: the system removes it when the table is closed or the process ends.

    Attributes:
        index_data: the ground-truth data for metrics; its observations are the arguments of `lookup`.
        num_latent: the width of the representation.
    """

    def __init__(
        self,
        ground_truth_data: IndexedGroundTruthData,
        representation_function: RepresentationFunction,
        indices: NDArray[np.int64],
        batch_size: int = 512,
        memory_limit: int = 1 << 30,
        folder: Path | None = None,
    ) -> None:
        """Encode the images, in their stored order, with a progress bar.

        Args:
            ground_truth_data: the data with the images.
            representation_function: maps float32 NHWC images in [0, 1] to float representations [N, num_latent].
            indices: the images to encode, int64, in any order; repetitions are encoded once.
            batch_size: the number of images to encode at a time.
            memory_limit: the maximum bytes of the table in this process's memory. The rest is on disk or in the
                kernel's cache, which yields to other needs. `take_images` also maps a part of the image file.
            folder: the folder of the file; by default the system's temporary folder.

        Raises:
            RepresentationError: a representation is not a float array [N, num_latent], or not finite.
            OutputError: the folder cannot be written, or the disk is too full.
        """
        self.index_data = IndexOnlyData(ground_truth_data)
        self._folder = folder or Path(tempfile.gettempdir())

        needed = np.zeros(len(ground_truth_data.images), dtype=bool)
        needed[indices] = True
        encoded = np.flatnonzero(needed)
        self._row_of_image = np.full(len(needed), -1, dtype=np.int32)
        self._row_of_image[encoded] = np.arange(len(encoded), dtype=np.int32)

        try:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise OutputError(f"cannot make the table of representations in {self._folder}: {error}") from error
        try:
            dtype = self._encode(ground_truth_data, representation_function, encoded, batch_size)
            self._mapping = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except BaseException:
            self._file.close()
            raise
        self._codes: NDArray[Any] = np.frombuffer(self._mapping, dtype=dtype).reshape(len(encoded), self.num_latent)
        if self._codes.nbytes <= memory_limit:
            self._rows_per_release = sys.maxsize
        else:
            self._rows_per_release = max(1, memory_limit // (self._codes[0].nbytes + _HUGE_PAGE))
        self._rows_touched = 0

    def _encode(
        self,
        ground_truth_data: IndexedGroundTruthData,
        representation_function: RepresentationFunction,
        encoded: NDArray[np.int64],
        batch_size: int,
    ) -> np.dtype[Any]:
        """Write the rows of the table; return their dtype."""
        dtype: np.dtype[Any] | None = None
        with tqdm(total=len(encoded), desc="encoding", unit="image") as progress:
            parts = [encoded[start : start + batch_size] for start in range(0, len(encoded), batch_size)]
            for batch_indices, codes in _codes_of(ground_truth_data, representation_function, parts):
                _check_codes(codes, batch_indices)
                if dtype is None:
                    dtype, self.num_latent = codes.dtype, codes.shape[1]
                    self._check_disk(len(encoded) * codes[0].nbytes)
                elif (codes.dtype, codes.shape[1]) != (dtype, self.num_latent):
                    raise RepresentationError(
                        f"the representation changes from {self.num_latent} latents of {dtype} to {codes.shape[1]} of "
                        f"{codes.dtype} at image {batch_indices[0]}; it must be the same for all images"
                    )
                self._write(np.ascontiguousarray(codes))
                progress.update(len(batch_indices))
        if dtype is None:
            raise RepresentationError("there are no images to encode")
        return dtype

    def _check_disk(self, num_bytes: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if num_bytes > free:
            raise OutputError(
                f"{self._folder}: its disk has {free / 1e9:.2f} GB free; the table of representations needs "
                f"{num_bytes / 1e9:.2f} GB"
            )

    def _write(self, codes: NDArray[Any]) -> None:
        # Plain writes: if the disk fills up under a memory map, the process is killed instead of getting an error.
        rest = codes.data.cast("B")
        try:
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]
        except OSError as error:
            raise OutputError(f"cannot write the table of representations in {self._folder}: {error}") from error

    def lookup(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Return the representations [N, num_latent] of these images [N], in the representation function's dtype.

        Raises KeyError for an image that was not encoded.
        """
        rows = self._row_of_image[indices]
        if (rows < 0).any():
            raise KeyError(f"image {indices[rows < 0][0]} is not in the table")
        codes = np.empty((len(rows), self.num_latent), dtype=self._codes.dtype)
        for start in range(0, len(rows), self._rows_per_release):
            chunk = rows[start : start + self._rows_per_release]
            self._rows_touched += len(chunk)
            if self._rows_touched > self._rows_per_release:
                if hasattr(mmap, "MADV_DONTNEED"):  # without it, the system decides which pages stay in memory
                    self._mapping.madvise(mmap.MADV_DONTNEED)
                self._rows_touched = len(chunk)
            codes[start : start + len(chunk)] = self._codes[chunk]
        return codes

    def __len__(self) -> int:
        """Return the number of images in the table."""
        return len(self._codes)

    def close(self) -> None:
        """Release the disk space; `lookup` no longer works."""
        del self._codes  # it keeps the mapping open
        self._mapping.close()
        self._file.close()

    def __enter__(self) -> "RepresentationTable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _codes_of(
    ground_truth_data: IndexedGroundTruthData,
    representation_function: RepresentationFunction,
    parts: Sequence[NDArray[np.int64]],
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Encode the images part by part; yield the indices and codes of each part.

    A GPU gets bytes; while it computes, the next part is read.
    """
    if not getattr(representation_function, "takes_pixels", False):
        for part in parts:
            yield part, np.asarray(representation_function(ground_truth_data.observations(part)))
        return
    function: Any = representation_function

    def read(part: NDArray[np.int64]) -> Any:
        return function.prepare(take_images(ground_truth_data.images, part))

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, parts[0]) if parts else None
        for number, part in enumerate(parts, start=1):
            assert following is not None
            prepared = following.result()
            following = reader.submit(read, parts[number]) if number < len(parts) else None
            yield part, function.encode_pixels(prepared)


def _check_codes(codes: NDArray[Any], indices: NDArray[np.int64]) -> None:
    if codes.ndim != 2 or len(codes) != len(indices) or codes.shape[1] == 0:
        raise RepresentationError(
            f"the representation of {len(indices)} images has shape {codes.shape}; it must be ({len(indices)}, "
            "num_latent)"
        )
    if not np.issubdtype(codes.dtype, np.floating):
        raise RepresentationError(f"the representation's dtype is {codes.dtype}; it must be floating point")
    finite = np.isfinite(codes)
    if not finite.all():
        image, latents = indices[~finite.all(axis=1)][0], np.flatnonzero(~finite.all(axis=0))
        shown = ", ".join(map(str, latents[:5])) + (", ..." if len(latents) > 5 else "")
        raise RepresentationError(
            f"the representation is not finite: {len(latents)} of {codes.shape[1]} latents ({shown}) are NaN or "
            f"infinite, first at image {image}"
        )
