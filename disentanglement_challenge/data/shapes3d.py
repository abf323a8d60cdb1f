"""Shapes3D (Burgess and Kim, 2018) from the .npz that disentanglement_lib reads, converted to a memory-mapped file.

It is published as 3dshapes.h5. `download` writes its arrays into that .npz. A 3dshapes.h5 that the user puts into the
same folder is read directly.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from disentanglement_challenge.data.archive import load_npz_images
from disentanglement_challenge.data.download import Source, damage_in
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.store import files_recipe, load_or_make_images
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.files import exists, replacing

FACTOR_NAMES = ["floor_color", "wall_color", "object_color", "object_size", "object_type", "azimuth"]
FACTOR_SIZES = [10, 10, 10, 8, 4, 15]
ARCHIVE = "3dshapes/look-at-object-room_floor-hueXwall-hueXobj-hueXobj-sizeXobj-shapeXview-azi.npz"
H5 = "3dshapes/3dshapes.h5"  # the published file, if the user puts it beside the archive's place


def unpack_h5(packed: Path, target: Path) -> None:
    """Write the arrays of 3dshapes.h5 to disentanglement_lib's .npz, which has one axis for each factor."""
    num_images = int(np.prod(FACTOR_SIZES))
    with (
        replacing(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        damage_in(packed),
        h5py.File(packed, "r") as arrays,
    ):
        for key, item_shape in (("images", (64, 64, 3)), ("labels", (6,))):
            array = arrays.get(key)
            if not isinstance(array, h5py.Dataset) or array.shape != (num_images, *item_shape):
                raise DataError(f"{packed.name}: the download is not Shapes3D ({key} differ); it was removed")
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": (*FACTOR_SIZES, *item_shape)}
            with archive.open(f"{key}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array_header_1_0(out, header)
                for start in tqdm(range(0, num_images, 1024), desc=f"unpacking {key}", unit_scale=1024, unit="image"):
                    out.write(np.ascontiguousarray(array[start : start + 1024]).data)


SOURCES = {
    "shapes3d": [
        Source(
            ("https://storage.googleapis.com/3d-shapes/3dshapes.h5",),
            ARCHIVE,
            # From TensorFlow Datasets' url_checksums/shapes3d.txt.
            size=267573662,
            checksum="sha256:0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",
            unpack=unpack_h5,
            by_hand=H5,
        )
    ]
}


def load_shapes3d(name: str, data_path: Path) -> IndexedGroundTruthData:
    """Map Shapes3D into memory; the first call converts its archive.

    Args:
        name: the data set's name.
        data_path: disentanglement_lib's folder of data sets.

    Raises:
        DataError: the archive is missing, damaged, or not Shapes3D's.
        OutputError: the disk is too full for the converted images, or the folder cannot be written.
    """
    archive = data_path / ARCHIVE
    num_images = int(np.prod(FACTOR_SIZES))

    def check(shape: Sequence[int], dtype: np.dtype[Any]) -> Sequence[int]:
        if dtype != np.uint8 or tuple(shape) not in ((*FACTOR_SIZES, 64, 64, 3), (num_images, 64, 64, 3)):
            raise DataError(
                f"{archive}: images are {dtype} of shape {tuple(shape)}; Shapes3D's are uint8 of shape "
                f"{(*FACTOR_SIZES, 64, 64, 3)}"
            )
        return [num_images, 64, 64, 3]

    folder = archive.parent / "converted"
    if exists(data_path / H5) and not exists(archive):
        images = _load_h5(data_path / H5, folder)
    else:
        images = load_npz_images(name, archive, "images", check, folder)
    check(images.shape, images.dtype)
    return IndexedGroundTruthData(name, images, FACTOR_SIZES, FACTOR_NAMES)


def _load_h5(path: Path, folder: Path) -> NDArray[np.uint8]:
    num_images = int(np.prod(FACTOR_SIZES))
    try:
        with h5py.File(path, "r") as arrays:
            images = arrays.get("images")
            if not isinstance(images, h5py.Dataset) or (images.shape, images.dtype) != (
                (num_images, 64, 64, 3),
                np.uint8,
            ):
                found = f"{images.dtype} {images.shape}" if isinstance(images, h5py.Dataset) else "none"
                raise DataError(f"{path}: images are {found}; Shapes3D's are uint8 {(num_images, 64, 64, 3)}")
            rows = images

            def make(start: int, stop: int) -> NDArray[Any]:
                try:
                    return np.asarray(rows[start:stop])
                except OSError as error:
                    raise _damaged(path, error) from error

            return load_or_make_images(folder, rows.shape, files_recipe([path]), make, f"converting {path.name}")
    except OSError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: OSError) -> DataError:
    reason = error.strerror or " ".join(str(error).split())
    return DataError(f"{path} is damaged or unreadable ({reason}); replace it with an intact copy")
