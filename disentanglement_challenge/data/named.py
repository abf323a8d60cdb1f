"""Data sets by name: the one table in which a new one is entered."""

import os
from collections.abc import Callable
from pathlib import Path

import gin

from disentanglement_challenge.data import cars3d, dsprites, mpi3d, shapes3d, smallnorb
from disentanglement_challenge.data.archive import missing_file
from disentanglement_challenge.data.catalogue import CATALOGUE
from disentanglement_challenge.data.dummy import load_dummy
from disentanglement_challenge.data.embedded import SIZES, load_embedded
from disentanglement_challenge.data.folder import check_there, folder_or_npz, load_folder
from disentanglement_challenge.data.ground_truth import NamedGroundTruthData
from disentanglement_challenge.environment import data_path, get_dataset_name
from disentanglement_challenge.errors import DataError, did_you_mean

LOADERS: dict[str, Callable[[str, Path], NamedGroundTruthData]] = {
    **dict.fromkeys(SIZES, load_embedded),
    **dict.fromkeys(mpi3d.ARCHIVES, mpi3d.load_mpi3d),
    **dict.fromkeys(dsprites.SOURCES, dsprites.load_dsprites),
    "cars3d": cars3d.load_cars3d,
    "smallnorb": smallnorb.load_smallnorb,
    "shapes3d": shapes3d.load_shapes3d,
    "dummy_data": load_dummy,
    "folder": load_folder,
}


@gin.configurable("dataset")
def get_named_ground_truth_data(name: str = "auto") -> NamedGroundTruthData:
    """Loads a data set by its name (disentanglement_lib's `named_data.get_named_ground_truth_data`).

    Args:
        name: a key of `LOADERS`, or "auto" for the one that AICROWD_DATASET_NAME names.

    Raises:
        DataError: the name is unknown, or its files are missing or wrong.
    """
    if name == "auto":
        name = get_dataset_name()
    check_name(name)
    return LOADERS[name](name, data_path())


def check_available(name: object, folder_path: object = None) -> None:
    """Raises DataError where the data set is unknown or its files are not there; reads none of them.

    `folder_path` is what `folder.path` is bound to.
    """
    check_name(name)
    entry = CATALOGUE.get(str(name))
    if entry is not None and not entry.is_ready(data_path()):
        for source in entry.sources:
            if not os.path.exists(data_path() / source.target):
                raise missing_file(str(name), data_path() / source.target)
    if name == "folder":
        check_there("folder", folder_or_npz(data_path(), folder_path))


def check_name(name: object) -> None:
    """Raises DataError for what is not a key of `LOADERS`."""
    if name not in LOADERS:
        raise DataError(f"unknown data set {name!r}; known are {', '.join(LOADERS)}{did_you_mean(name, LOADERS)}")
