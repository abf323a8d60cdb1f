#!/usr/bin/env python
"""Time random batches: this package's against the starter kit's loader, and .npy against HDF5 files.

    make bench-batches ARGS="--rounds 15"

The starter kit draws one image per item through disentanglement_lib's class (which has all images in memory), and
PyTorch's DataLoader makes batches of them. It is timed with that class, in this process and with two workers. Both
sides are timed up to the network's input, float32 [64, 3, 64, 64] on the CPU. HDF5 is read with h5py, in chunks of one
image and contiguous, against the same bytes in a memory-mapped .npy, as uint8.

All are timed in turns, so that other load on the machine affects all of them. The table shows medians over the rounds,
and the median and spread of the ratios of each round. `--apart` is for a data set that does not fit twice in memory,
once as the kit's array and once in the system's cache, which this package uses: the kit is timed first and its array is
released, then the file is read once, and then this package is timed. The ceiling is a copy of 64 adjacent images. On a
busy machine, `--threads 1` prevents PyTorch from waiting for a core.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from disentanglement_challenge import library
from disentanglement_challenge.cli import run_script
from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.loader import DLIBDataset
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.files import write_json
from disentanglement_challenge.provenance import available_cores

BATCH_SIZE = 64
CPU = torch.device("cpu")


class LibraryDataset(DLIBDataset):
    """The starter kit's data set over disentanglement_lib's MPI3D class, which has its images in memory."""

    def __init__(self, ours: IndexedGroundTruthData) -> None:
        self._ours = ours
        super().__init__(ours.name, iterator_len=1 << 40)

    def load_dataset(self) -> Any:
        # The constructor would look for MPI3D's files; all other methods are the library's.
        data = object.__new__(library.mpi3d.MPI3D)
        data.images = np.array(self._ours.images)
        data.factor_sizes = self._ours.factor_sizes
        data.latent_factor_indices = self._ours.latent_factor_indices
        data.state_space = library.mpi3d.util.SplitDiscreteStateSpace(data.factor_sizes, data.latent_factor_indices)
        data.factor_bases = np.prod(data.factor_sizes) / np.cumprod(data.factor_sizes)
        return data


def kit_batches(dataset: LibraryDataset, num_workers: int) -> Iterator[torch.Tensor]:
    """Return batches of the starter kit's loader, with an endless epoch, so that the start of workers is not timed."""
    sampler: Any = iter(int, 1)
    return iter(torch.utils.data.DataLoader(dataset, batch_size=BATCH_SIZE, num_workers=num_workers, sampler=sampler))


def our_batches(data: IndexedGroundTruthData) -> Iterator[torch.Tensor]:
    for batch in random_batches(data, BATCH_SIZE, np.random.default_rng(0)):
        yield to_network(batch, CPU)


def npy_batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    generator, array = np.random.default_rng(0), np.asarray(images)
    while True:
        yield array[generator.integers(len(array), size=BATCH_SIZE)]


def hdf5_batches(dataset: h5py.Dataset) -> Iterator[NDArray[np.uint8]]:
    """Yield random batches from an HDF5 data set; h5py needs increasing indices without repetitions."""
    generator = np.random.default_rng(0)
    while True:
        indices, inverse = np.unique(generator.integers(len(dataset), size=BATCH_SIZE), return_inverse=True)
        yield dataset[indices][inverse]


def adjacent_batches(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    generator, array = np.random.default_rng(0), np.asarray(images)
    while True:
        start = generator.integers(len(array) - BATCH_SIZE)
        yield array[start : start + BATCH_SIZE].copy()


def read_whole(images: NDArray[Any]) -> None:
    """Read the images' file into the system's cache, where it is after some minutes of training, if it fits."""
    with open(str(getattr(images, "filename", os.devnull)), "rb") as file:
        while file.read(64 << 20):
            pass


def seconds_a_batch(batches: Iterator[Any], at_least: float) -> float:
    """Return the mean seconds per batch, over as many batches as take at least `at_least` seconds."""
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < at_least:
        next(batches)
        count += 1
    return elapsed / count


def in_turns(sides: dict[str, Iterator[Any]], rounds: int, at_least: float) -> dict[str, list[float]]:
    """Return the seconds per batch of each side, a number for each round."""
    for batches in sides.values():
        next(batches)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, batches in sides.items():
            seconds[side].append(seconds_a_batch(batches, at_least))
    return seconds


def show(title: str, seconds: dict[str, list[float]], baseline: str) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("ms a batch", "images a second", f"times as fast as {baseline}"):
        table.add_column(column, justify="right")
    for side, values in seconds.items():
        ratios = [base / value for base, value in zip(seconds[baseline], values, strict=True)]
        middle = statistics.median(values)
        table.add_row(
            side,
            f"{middle * 1000:.3f}",
            f"{BATCH_SIZE / middle:,.0f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        )
    Console(width=110).print(table)


def main(flags: argparse.Namespace) -> None:
    data = get_named_ground_truth_data(flags.dataset)
    if not isinstance(data, IndexedGroundTruthData) or data.observation_shape != [64, 64, 3]:
        raise ConfigError(
            f"--dataset is {flags.dataset}; the comparison is with MPI3D's class, so it must be one of MPI3D"
        )
    torch.set_num_threads(flags.threads)
    library = LibraryDataset(data)
    theirs: dict[str, Iterator[Any]] = {
        "starter kit": kit_batches(library, 0),
        "starter kit, 2 workers": kit_batches(library, 2),
    }
    ours: dict[str, Iterator[Any]] = {
        "here": our_batches(data),
        "here, bytes only": random_batches(data, BATCH_SIZE, np.random.default_rng(0)),
        "ceiling: adjacent images copied": adjacent_batches(data.images),
    }
    if flags.apart:
        results = {"loaders": in_turns(theirs, flags.rounds, flags.seconds)}
        theirs.clear()
        del library
        read_whole(data.images)
        results["loaders"].update(in_turns(ours, flags.rounds, flags.seconds))
    else:
        results = {"loaders": in_turns({**theirs, **ours}, flags.rounds, flags.seconds)}
        theirs.clear()
    show(
        f"batches of {BATCH_SIZE} of {data.name} for a network, medians of {flags.rounds}",
        results["loaders"],
        "starter kit",
    )
    ours.clear()

    Path("scratch").mkdir(exist_ok=True)
    with TemporaryDirectory(dir="scratch") as folder, h5py.File(Path(folder) / "images.h5", "w") as file:
        num_images = min(len(data.images), flags.images)
        image_shape = tuple(data.observation_shape)
        shape = (num_images, *image_shape)
        stores = {
            "HDF5, a chunk an image": file.create_dataset("chunked", shape, np.uint8, chunks=(1, *image_shape)),
            "HDF5, contiguous": file.create_dataset("contiguous", shape, np.uint8),
        }
        npy = np.lib.format.open_memmap(Path(folder) / "images.npy", "w+", np.uint8, shape=shape)
        for start in range(0, num_images, 1024):
            for store in (npy, *stores.values()):
                store[start : start + 1024] = data.images[start : min(start + 1024, num_images)]
        npy.flush()
        file.flush()
        sides: dict[str, Iterator[Any]] = {name: hdf5_batches(store) for name, store in stores.items()}
        sides[".npy, memory-mapped"] = npy_batches(np.load(Path(folder) / "images.npy", mmap_mode="r"))
        results["stores"] = in_turns(sides, flags.rounds, flags.seconds)
    show(
        f"random batches of {BATCH_SIZE} as bytes from {num_images:,} images, medians of {flags.rounds}",
        results["stores"],
        "HDF5, contiguous",
    )
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": available_cores(),
        "torch_threads": flags.threads,
        "load_average": os.getloadavg()[0],
    }
    print(f"load average at the end: {machine['load_average']:.1f} on {machine['cores']} cores")
    write_json(Path(flags.output), {"machine": machine, "seconds_a_batch": results})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mpi3d_embedded", help="a data set with 3 channels")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds of each side in each round")
    parser.add_argument("--images", type=int, default=100_000, help="number of images to write to compare file formats")
    parser.add_argument("--apart", action="store_true", help="one side after the other instead of in turns")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="number of PyTorch's threads")
    parser.add_argument("--output", default="scratch/benchmark_batches.json")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), debug=True)
