"""MPI3D (Gondal et al., 2019) from its official .npz files, converted once to a memory-mapped file.

The files exist in two versions. Those of the challenge hold 460,800 images for mpi3d_toy and mpi3d_realistic (4 colours
and 4 shapes, as disentanglement_lib's class assumes). The final published ones hold 1,036,800 (6 and 6), and that class
silently reads wrong images from them. Here the number of images decides, and any other number is refused.
mpi3d_real_complex is newer than the library, which has no class for it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from disentanglement_challenge.data.archive import NpzMember, load_npz_images
from disentanglement_challenge.data.download import Source
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import DataError

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
# The number of images of each set as published now. Only the rendered sets ever had another number.
NUM_IMAGES = {
    "mpi3d_toy": 1_036_800,
    "mpi3d_realistic": 1_036_800,
    "mpi3d_real": 1_036_800,
    "mpi3d_real_complex": 460_800,
}
_NEVER = {"mpi3d_real": 460_800, "mpi3d_real_complex": 1_036_800}
# The place where disentanglement_lib looks for each file, below DISENTANGLEMENT_LIB_DATA.
ARCHIVES = {
    "mpi3d_toy": "mpi3d_toy/mpi3d_toy.npz",
    "mpi3d_realistic": "mpi3d_realistic/mpi3d_realistic.npz",
    "mpi3d_real": "mpi3d_real/mpi3d_real.npz",
    "mpi3d_real_complex": "real3d_complicated_shapes_ordered.npz",
}
# The authors' hub, with corrected files since 2025-04-17; the bucket that they name in issue 4 of
# rr-learning/disentanglement_dataset, which calls mpi3d_real "real"; and the first bucket, reported dead since 2023.
_HUB = "https://huggingface.co/datasets/waleedgondal/mpi3d/resolve/main/{}.npz"
_BUCKET = "https://storage.googleapis.com/mpi3d_disentanglement_dataset/data/{}.npz"
_FIRST_BUCKET = "https://storage.googleapis.com/disentanglement_dataset/Final_Dataset/{}.npz"
# The sums of the final files of 2019, as the disent project records them. Those of the corrected files are unknown.
_MD5 = {
    "mpi3d_toy": "55889cb7c7dfc655d6e0277beee88868",
    "mpi3d_realistic": "59a6225b88b635365f70c91b3e52f70f",
    "mpi3d_real": "0f33f609918fb5c97996692f91129802",
}


def check_images(name: str, archive: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> Sequence[int]:
    """Return the shape; raise DataError if the shape or the dtype is not that of this set's images."""
    if dtype != np.uint8 or tuple(shape[1:]) != (64, 64, 3):
        raise DataError(
            f"{archive}: images are {dtype} of shape {tuple(shape)}; MPI3D's are uint8 of shape (N, 64, 64, 3)"
        )
    possible = {num: sizes for num, sizes in FACTOR_SIZES_BY_NUM_IMAGES.items() if num != _NEVER.get(name)}
    if shape[0] not in possible:
        known = " or ".join(f"{num} (factor sizes {sizes})" for num, sizes in possible.items())
        raise DataError(f"{archive} holds {shape[0]} images; {name} has {known}")
    return shape


def _inspect(name: str, archive: Path) -> str:
    with NpzMember(archive, "images") as member:
        check_images(name, archive, member.shape, member.dtype)
        return f"images {member.dtype} {member.shape}"


def _source(name: str, addresses: tuple[str, ...], checksum: str | None = None) -> Source:
    return Source(addresses, ARCHIVES[name], checksum=checksum, inspect=partial(_inspect, name))


SOURCES = {
    **{
        name: [
            _source(
                name,
                (
                    _HUB.format(name),
                    _BUCKET.format("real" if name == "mpi3d_real" else name),
                    _FIRST_BUCKET.format(name),
                ),
                f"md5:{md5}",
            )
        ]
        for name, md5 in _MD5.items()
    },
    "mpi3d_real_complex": [
        _source(
            "mpi3d_real_complex",
            (
                # Its authors link to Google Drive; this form of the address serves a large file without a question.
                "https://drive.usercontent.google.com/download"
                "?id=1Tp8eTdHxgUMtsZv5uAoYAbJR1BOa_OQm&export=download&confirm=t",
                _HUB.format("real3d_complicated_shapes_ordered"),
            ),
        )
    ],
}


def load_mpi3d(name: str, data_path: Path) -> IndexedGroundTruthData:
    """Map one of the MPI3D sets into memory; the first call converts its archive.

    Args:
        name: mpi3d_toy, mpi3d_realistic, mpi3d_real or mpi3d_real_complex.
        data_path: disentanglement_lib's folder of data sets.

    Raises:
        DataError: the archive is missing, damaged, or does not hold this set's images.
        OutputError: the disk is too full for the converted images, or the folder cannot be written.
    """
    archive = data_path / ARCHIVES[name]
    check = partial(check_images, name, archive)
    images = load_npz_images(name, archive, "images", check, data_path / name / "converted")
    check(images.shape, images.dtype)
    return IndexedGroundTruthData(name, images, FACTOR_SIZES_BY_NUM_IMAGES[len(images)], FACTOR_NAMES)
