"""SmallNORB (LeCun et al., 2004) from its binary matrices, scaled to 64 x 64 as disentanglement_lib does it.

The library reads the pictures' bytes as 32-bit integers and resamples those. Edges overshoot, so values leave 0 to 255;
the converted images are therefore int16.
"""

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disentanglement_challenge.data.archive import missing_file
from disentanglement_challenge.data.download import Source, damage_in
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, positions_of
from disentanglement_challenge.data.store import files_recipe, load_or_make_images
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.files import replacing

FACTOR_NAMES = ["category", "instance", "elevation", "azimuth", "lighting"]
FACTOR_SIZES = [5, 10, 9, 18, 6]
# The instance (one of ten toys of a category) is not latent: it is drawn again for each observation.
LATENT_FACTOR_INDICES = [0, 2, 3, 4]

CHUNKS = ["5x46789x9x18x6x2x96x96-training", "5x01235x9x18x6x2x96x96-testing"]
_FILE = "small_norb/smallnorb-{}-{}.mat"
# Bytes and SHA-256 of the published .gz files, from TensorFlow Datasets' url_checksums/smallnorb.txt.
_PUBLISHED = {
    (0, "dat"): (131896188, "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873"),
    (0, "cat"): (348, "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa"),
    (0, "info"): (71052, "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32"),
    (1, "dat"): (130799817, "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474"),
    (1, "cat"): (347, "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff"),
    (1, "info"): (10428, "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2"),
}


def unpack_gzip(packed: Path, target: Path) -> None:
    """Unpack a .gz of one file."""
    with replacing(target) as temporary, temporary.open("wb") as out, damage_in(packed), gzip.open(packed) as stream:
        shutil.copyfileobj(stream, out)


SOURCES = {
    "smallnorb": [
        Source(
            (f"https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/smallnorb-{CHUNKS[chunk]}-{kind}.mat.gz",),
            _FILE.format(CHUNKS[chunk], kind),
            size=size,
            checksum=f"sha256:{sha256}",
            unpack=unpack_gzip,
        )
        for (chunk, kind), (size, sha256) in _PUBLISHED.items()
    ]
}

# The first number of a binary matrix gives its dtype.
_TYPES = {0x1E3D4C55: np.uint8, 0x1E3D4C54: np.int32, 0x1E3D4C51: np.float32, 0x1E3D4C53: np.float64}


def load_smallnorb(name: str, data_path: Path) -> IndexedGroundTruthData:
    """Map SmallNORB into memory; the first call converts its files.

    Images are in the files' order, training before testing.

    Args:
        name: the data set's name.
        data_path: disentanglement_lib's folder of data sets.

    Raises:
        DataError: a file is missing, damaged, or not SmallNORB's.
        OutputError: the disk is too full for the converted images, or the folder cannot be written.
    """
    pictures: list[NDArray[np.uint8]] = []
    factors: list[NDArray[np.int64]] = []
    paths: list[Path] = []
    for chunk in CHUNKS:
        files = {kind: data_path / _FILE.format(chunk, kind) for kind in ("dat", "cat", "info")}
        dat, cat, info = (_read_matrix(name, files[kind]) for kind in files)
        if dat.dtype != np.uint8 or dat.shape[1:] != (2, 96, 96):
            raise DataError(
                f"{files['dat']} is {dat.dtype} of shape {dat.shape}; SmallNORB's pictures are uint8 of shape "
                "(N, 2, 96, 96)"
            )
        if cat.shape != (len(dat),) or info.shape != (len(dat), 4):
            raise DataError(
                f"{files['cat']} and {files['info']} have shapes {cat.shape} and {info.shape}; {len(dat)} pictures "
                f"need {(len(dat),)} and {(len(dat), 4)}"
            )
        pictures.append(dat)
        factors.append(np.column_stack([cat, info]).astype(np.int64))
        paths += files.values()
    all_factors = np.concatenate(factors)
    all_factors[:, 3] //= 2  # azimuths are numbered 0, 2, 4, ..., 34
    positions = positions_of(all_factors, FACTOR_SIZES)
    if positions is None:
        raise DataError(
            f"{paths[0].parent}: the factors of its {len(all_factors)} pictures are not SmallNORB's; each combination "
            f"of factor sizes {FACTOR_SIZES} must occur once"
        )
    bounds = np.cumsum([0, *map(len, pictures)])

    def make(start: int, stop: int) -> NDArray[np.int16]:
        chunks = [
            chunk[max(start - low, 0) : max(stop - low, 0)]
            for chunk, low in zip(pictures, bounds[:-1], strict=True)
        ]  # fmt: skip
        return np.concatenate([_scale(chunk[:, 0]) for chunk in chunks])

    shape = [len(positions), 64, 64, 1]
    folder = paths[0].parent / "converted"
    images = load_or_make_images(folder, shape, files_recipe(paths), make, "converting smallnorb", np.int16)
    return IndexedGroundTruthData(
        name, images, FACTOR_SIZES, FACTOR_NAMES, latent_factor_indices=LATENT_FACTOR_INDICES, positions=positions
    )


def _scale(pictures: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Scale pictures, uint8 [N, 96, 96] to int16 [N, 64, 64, 1]."""
    scaled = np.empty((len(pictures), 64, 64, 1), dtype=np.int16)
    for i, picture in enumerate(pictures):
        image = Image.fromarray(picture.astype(np.int32))
        scaled[i, ..., 0] = np.asarray(image.resize((64, 64), Image.Resampling.LANCZOS))
    return scaled


def _read_matrix(name: str, path: Path) -> NDArray[Any]:
    """Map a matrix of https://cs.nyu.edu/~ylclab/data/norb-v1.0-small: type, rank, at least three lengths, values."""
    try:
        with path.open("rb") as file:
            magic, rank = (int(value) for value in np.frombuffer(file.read(8), "<i4", 2))
            lengths = np.frombuffer(file.read(4 * max(3, rank)), "<i4", max(3, rank))
            shape = tuple(int(length) for length in lengths[:rank])
            return np.memmap(path, _TYPES[magic], "r", offset=file.tell(), shape=shape)
    except FileNotFoundError:
        raise missing_file(name, path) from None
    except (ValueError, KeyError, OverflowError, MemoryError) as error:
        raise DataError(f"{path} is damaged or not a binary matrix of NORB; delete it and download it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror})") from error
