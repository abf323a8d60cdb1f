"""Data sets by name: the one table in which a new one is entered."""

import difflib
from collections.abc import Callable
from pathlib import Path

import gin

from disentanglement_challenge.data.embedded import SIZES, load_embedded
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.mpi3d import ARCHIVES, load_mpi3d
from disentanglement_challenge.environment import data_path, get_dataset_name
from disentanglement_challenge.errors import DataError

LOADERS: dict[str, Callable[[str, Path], IndexedGroundTruthData]] = {
    **dict.fromkeys(SIZES, load_embedded),
    **dict.fromkeys(ARCHIVES, load_mpi3d),
}


@gin.configurable("dataset")
def get_named_ground_truth_data(name: str = "auto") -> IndexedGroundTruthData:
    """Loads a data set by its name (disentanglement_lib's `named_data.get_named_ground_truth_data`).

    Args:
        name: a key of `LOADERS`, or "auto" for the one that AICROWD_DATASET_NAME names.

    Raises:
        DataError: the name is unknown, or its files are missing or wrong.
    """
    if name == "auto":
        name = get_dataset_name()
    if name not in LOADERS:
        close = difflib.get_close_matches(str(name), LOADERS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(f"unknown data set {name!r}; {hint}known are {', '.join(LOADERS)}")
    return LOADERS[name](name, data_path())
