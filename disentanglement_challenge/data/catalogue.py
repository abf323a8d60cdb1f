"""Facts about each data set that are known before it is loaded, for the list and for downloads."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from disentanglement_challenge.data import cars3d, dsprites, embedded, mpi3d, shapes3d, smallnorb
from disentanglement_challenge.data.download import Source
from disentanglement_challenge.files import exists


@dataclass(frozen=True)
class Entry:
    """A data set of the catalogue.

    Attributes:
        factor_sizes: the number of values of each latent factor, in the files that are published now.
        num_images: the number of images; 0 if each observation is generated when it is drawn.
        channels: 1 or 3.
        licence: the licence that its publishers state.
        sources: the published files; empty if nothing is downloaded.
        converted: the folder of the loader's memory-mapped file, below DISENTANGLEMENT_LIB_DATA; "" if there is none.
        mean: the mean of each channel over all published images in [0, 1], if the disent project records it (vis_mean
            in its experiment/config/dataset); otherwise empty.
    """

    factor_sizes: Sequence[int]
    num_images: int
    channels: int
    licence: str
    sources: Sequence[Source] = field(default_factory=list)
    converted: str = ""
    mean: Sequence[float] = ()

    @property
    def num_bytes(self) -> int:
        """The size of the memory-mapped file in bytes."""
        bytes_a_value = 2 if self.converted.startswith("small_norb") else 1
        stored_channels = 1 if self.converted.startswith("dsprites") else self.channels
        return self.num_images * 64 * 64 * stored_channels * bytes_a_value

    def state(self, data_path: Path) -> str:
        """Return the state of its local files in a few words."""
        if not self.converted:
            return "made as needed"
        if self.is_ready(data_path):
            return "here, ready"
        if not self.sources:
            return "made on first use"
        here = [source.here(data_path) is not None for source in self.sources]
        return "here, converted on first use" if all(here) else "incomplete" if any(here) else "not here"

    def is_ready(self, data_path: Path) -> bool:
        """Return whether it is converted and its loader needs no missing file."""
        return self._is_converted(data_path) and not self.missing(data_path)

    def missing(self, data_path: Path) -> list[Source]:
        """Return the missing files that its loader needs. It no longer needs an .npz that is converted."""
        is_converted = self._is_converted(data_path)
        return [
            source
            for source in self.sources
            if source.here(data_path) is None and not (is_converted and source.target.endswith(".npz"))
        ]

    def _is_converted(self, data_path: Path) -> bool:
        folder = data_path / self.converted
        return bool(self.converted) and exists(folder / "images.npy") and exists(folder / "images.json")


_MPI3D_MEANS = {
    "mpi3d_toy": (0.2268, 0.2235, 0.2267),
    "mpi3d_realistic": (0.1799, 0.2047, 0.1815),
    "mpi3d_real": (0.1311, 0.1675, 0.1405),
}


def _mpi3d(name: str) -> Entry:
    num_images = mpi3d.NUM_IMAGES[name]
    sizes = mpi3d.FACTOR_SIZES_BY_NUM_IMAGES[num_images]
    return Entry(
        sizes, num_images, 3, "CC BY 4.0", mpi3d.SOURCES[name], f"{name}/converted", _MPI3D_MEANS.get(name, ())
    )


def _dsprites(name: str, sizes: Sequence[int], channels: int) -> Entry:
    licence = "zlib" if name != "scream_dsprites" else "zlib; the painting is in the public domain"
    num_images = int(np.prod(dsprites.FACTOR_SIZES))
    mean = (0.0425,) if channels == 1 else ()
    return Entry(sizes, num_images, channels, licence, dsprites.SOURCES[name], "dsprites/converted", mean)


CATALOGUE = {
    **{name: Entry(sizes, int(np.prod(sizes)), 3, "MIT", [], name) for name, sizes in embedded.SIZES.items()},
    **{name: _mpi3d(name) for name in mpi3d.ARCHIVES},
    "dsprites_full": _dsprites("dsprites_full", dsprites.FACTOR_SIZES, 1),
    "dsprites_noshape": _dsprites("dsprites_noshape", dsprites.FACTOR_SIZES[1:], 1),
    "color_dsprites": _dsprites("color_dsprites", dsprites.FACTOR_SIZES, 3),
    "noisy_dsprites": _dsprites("noisy_dsprites", dsprites.FACTOR_SIZES, 3),
    "scream_dsprites": _dsprites("scream_dsprites", dsprites.FACTOR_SIZES, 3),
    "cars3d": Entry(
        cars3d.FACTOR_SIZES, int(np.prod(cars3d.FACTOR_SIZES)), 3, "not stated", cars3d.SOURCES["cars3d"],
        "cars/converted", (0.898, 0.889, 0.885),
    ),
    "smallnorb": Entry(
        [smallnorb.FACTOR_SIZES[i] for i in smallnorb.LATENT_FACTOR_INDICES],
        int(np.prod(smallnorb.FACTOR_SIZES)), 1, "for research; may not be sold", smallnorb.SOURCES["smallnorb"],
        "small_norb/converted",
    ),
    "shapes3d": Entry(
        shapes3d.FACTOR_SIZES, int(np.prod(shapes3d.FACTOR_SIZES)), 3, "Apache 2.0", shapes3d.SOURCES["shapes3d"],
        "3dshapes/converted", (0.5026, 0.5788, 0.6034),
    ),
    "dummy_data": Entry([5] * 10, 0, 1, "Apache 2.0"),
}  # fmt: skip
