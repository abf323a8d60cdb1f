"""MPI3D (Gondal et al., 2019) from its official .npz files, memory-mapped instead of read into memory.

An .npz is a zip of .npy files, so the one conversion needed is to stream the `images` member out of it, once, into an
.npy that numpy maps. disentanglement_lib reads the 12.7 GB whole.

The files exist in two generations. Those of the challenge hold 460,800 images for mpi3d_toy and mpi3d_realistic (4
colours and 4 shapes: what disentanglement_lib's class assumes); the final published ones hold 1,036,800 (6 and 6),
which that class reads as wrong images without a word. Here the number of images decides, and nothing else is let
through.
"""

import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np

from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import DataError, OutputError
from disentanglement_challenge.files import replacing

FACTOR_NAMES = [
    "object_color",
    "object_shape",
    "object_size",
    "camera_height",
    "background_color",
    "horizontal_axis",
    "vertical_axis",
]
FACTOR_SIZES_BY_NUM_IMAGES = {
    460_800: [4, 4, 2, 3, 3, 40, 40],
    1_036_800: [6, 6, 2, 3, 3, 40, 40],
}
_FOLDER = "https://storage.googleapis.com/disentanglement_dataset/Final_Dataset/"
# Where disentanglement_lib looks for each file, below DISENTANGLEMENT_LIB_DATA, and where it is published.
ARCHIVES = {
    name: (f"{name}/{name}.npz", f"{_FOLDER}{name}.npz") for name in ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real")
}


def load_mpi3d(name: str, data_path: Path) -> IndexedGroundTruthData:
    """Maps one of the MPI3D sets into memory, unpacking its archive beside itself the first time.

    Args:
        name: mpi3d_toy, mpi3d_realistic or mpi3d_real.
        data_path: the folder that disentanglement_lib looks for data sets in.

    Raises:
        DataError: the archive is not there, is damaged, or holds something else than MPI3D's images.
        OutputError: there is no room or no permission to unpack it.
    """
    relative, address = ARCHIVES[name]
    archive = data_path / relative
    if not archive.is_file():
        raise DataError(
            f"data set {name!r}: no file {archive}; download {address} to that place, or set DISENTANGLEMENT_LIB_DATA"
        )
    unpacked = archive.with_name(f"{archive.stem}.images.npy")
    if not unpacked.exists() or unpacked.stat().st_mtime < archive.stat().st_mtime:
        _unpack(archive, unpacked)
    try:
        images = np.load(unpacked, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{unpacked} is damaged ({error}); delete it, and it is unpacked again") from error
    return IndexedGroundTruthData(name, images, FACTOR_SIZES_BY_NUM_IMAGES[len(images)], FACTOR_NAMES)


def _unpack(archive: Path, unpacked: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as members:
            try:
                member = members.getinfo("images.npy")
            except KeyError:
                raise DataError(f"{archive} holds {members.namelist()}, not MPI3D's 'images'") from None
            _check_header(members, archive)
            free = shutil.disk_usage(archive.parent).free
            if free < member.file_size:
                raise OutputError(
                    f"unpacking {archive} needs {member.file_size / 1e9:.1f} GB; its disk has {free / 1e9:.1f} GB free"
                )
            with members.open(member) as packed, replacing(unpacked) as temporary, temporary.open("wb") as out:
                shutil.copyfileobj(packed, out, length=1 << 24)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive} is damaged ({error}); download it again") from error


def _check_header(members: zipfile.ZipFile, archive: Path) -> None:
    """Raises DataError before gigabytes are unpacked that are not MPI3D's images."""
    with members.open("images.npy") as member:
        try:
            version = np.lib.format.read_magic(member)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(member)
        except ValueError as error:
            raise DataError(f"{archive}: 'images' is not an array ({error})") from error
    if dtype != np.uint8 or shape[1:] != (64, 64, 3):
        raise DataError(f"{archive}: images are {dtype} of shape {shape}; MPI3D's are uint8 of shape (N, 64, 64, 3)")
    if shape[0] not in FACTOR_SIZES_BY_NUM_IMAGES:
        known = " or ".join(f"{number} (factor sizes {sizes})" for number, sizes in FACTOR_SIZES_BY_NUM_IMAGES.items())
        raise DataError(f"{archive} holds {shape[0]} images; an MPI3D set has {known}")
