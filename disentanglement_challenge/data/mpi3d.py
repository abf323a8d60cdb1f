"""MPI3D (Gondal et al., 2019) from its official .npz files, converted once to a file that is memory-mapped.

The files exist in two generations. Those of the challenge hold 460,800 images for mpi3d_toy and mpi3d_realistic (4
colours and 4 shapes: what disentanglement_lib's class assumes); the final published ones hold 1,036,800 (6 and 6),
which that class reads as wrong images without a word. Here the number of images decides, and nothing else is let
through. mpi3d_real_complex came after the library, which has no class for it.
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
# How many images each set has as published now. Only the rendered sets were ever of another number.
NUM_IMAGES = {
    "mpi3d_toy": 1_036_800,
    "mpi3d_realistic": 1_036_800,
    "mpi3d_real": 1_036_800,
    "mpi3d_real_complex": 460_800,
}
_NEVER = {"mpi3d_real": 460_800, "mpi3d_real_complex": 1_036_800}
# Where disentanglement_lib looks for each file, below DISENTANGLEMENT_LIB_DATA.
ARCHIVES = {
    "mpi3d_toy": "mpi3d_toy/mpi3d_toy.npz",
    "mpi3d_realistic": "mpi3d_realistic/mpi3d_realistic.npz",
    "mpi3d_real": "mpi3d_real/mpi3d_real.npz",
    "mpi3d_real_complex": "real3d_complicated_shapes_ordered.npz",
}
# The authors' hub, which has corrected files since 2025-04-17; the bucket that they name in issue 4 of
# rr-learning/disentanglement_dataset, where mpi3d_real is called real; and the first one, reported dead since 2023.
_HUB = "https://huggingface.co/datasets/waleedgondal/mpi3d/resolve/main/{}.npz"
_BUCKET = "https://storage.googleapis.com/mpi3d_disentanglement_dataset/data/{}.npz"
_FIRST_BUCKET = "https://storage.googleapis.com/disentanglement_dataset/Final_Dataset/{}.npz"
# The sums of the final files of 2019, as the disent project records them. Those of the corrected files are not known
# here.
_MD5 = {
    "mpi3d_toy": "55889cb7c7dfc655d6e0277beee88868",
    "mpi3d_realistic": "59a6225b88b635365f70c91b3e52f70f",
    "mpi3d_real": "0f33f609918fb5c97996692f91129802",
}


def check_images(name: str, archive: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> Sequence[int]:
    """The shape, where it and the dtype are those of this set's images; raises DataError where they are not."""
    if dtype != np.uint8 or tuple(shape[1:]) != (64, 64, 3):
        raise DataError(
            f"{archive}: images are {dtype} of shape {tuple(shape)}; MPI3D's are uint8 of shape (N, 64, 64, 3)"
        )
    possible = {num: sizes for num, sizes in FACTOR_SIZES_BY_NUM_IMAGES.items() if num != _NEVER.get(name)}
    if shape[0] not in possible:
        known = " or ".join(f"{num} (factor sizes {sizes})" for num, sizes in possible.items())
        raise DataError(f"{archive} holds {shape[0]} images; {name} has {known}: another file?")
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
                # Its authors link to Google Drive; this form serves a large file without asking back.
                "https://drive.usercontent.google.com/download"
                "?id=1Tp8eTdHxgUMtsZv5uAoYAbJR1BOa_OQm&export=download&confirm=t",
                _HUB.format("real3d_complicated_shapes_ordered"),
            ),
        )
    ],
}


def load_mpi3d(name: str, data_path: Path) -> IndexedGroundTruthData:
    """Maps one of the MPI3D sets into memory, converting its archive the first time.

    Args:
        name: mpi3d_toy, mpi3d_realistic, mpi3d_real or mpi3d_real_complex.
        data_path: the folder that disentanglement_lib looks for data sets in.

    Raises:
        DataError: the archive is not there, is damaged, or holds something else than this set's images.
        OutputError: there is no room or no permission to convert it.
    """
    archive = data_path / ARCHIVES[name]
    check = partial(check_images, name, archive)
    images = load_npz_images(name, archive, "images", check, data_path / name / "converted")
    check(images.shape, images.dtype)
    return IndexedGroundTruthData(name, images, FACTOR_SIZES_BY_NUM_IMAGES[len(images)], FACTOR_NAMES)
