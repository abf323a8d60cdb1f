"""Data sets by name. A new data set gets an entry in `LOADERS`."""

import inspect
from collections.abc import Callable
from typing import Any

from disentanglement_challenge.config import bound_parameters
from disentanglement_challenge.data import cars3d, dsprites, mpi3d, shapes3d, smallnorb
from disentanglement_challenge.data.archive import missing_file
from disentanglement_challenge.data.catalogue import CATALOGUE
from disentanglement_challenge.data.download import accepted_sum
from disentanglement_challenge.data.dummy import load_dummy
from disentanglement_challenge.data.embedded import SIZES, load_embedded
from disentanglement_challenge.data.folder import check_there, folder_or_npz, load_folder
from disentanglement_challenge.data.ground_truth import NamedGroundTruthData
from disentanglement_challenge.environment import data_path, get_dataset_name
from disentanglement_challenge.errors import DataError, did_you_mean
from disentanglement_challenge.tensorflow_stand_in import importing_library

# The library's `dataset` is the configurable behind `dataset.name`. A second configurable of that name would make the
# binding ambiguous in a process that also uses the library's named data.
with importing_library(scikit_learn_later=True):
    import disentanglement_lib.data.ground_truth.named_data  # noqa: F401

LOADERS: dict[str, Callable[..., NamedGroundTruthData]] = {
    **dict.fromkeys(SIZES, load_embedded),
    **dict.fromkeys(mpi3d.ARCHIVES, mpi3d.load_mpi3d),
    **dict.fromkeys(dsprites.SOURCES, dsprites.load_dsprites),
    "cars3d": cars3d.load_cars3d,
    "smallnorb": smallnorb.load_smallnorb,
    "shapes3d": shapes3d.load_shapes3d,
    "dummy_data": load_dummy,
    "folder": load_folder,
}


def get_named_ground_truth_data(name: str | None = None) -> NamedGroundTruthData:
    """Load a data set by its name, as disentanglement_lib's `named_data.get_named_ground_truth_data` does.

    Args:
        name: a key of `LOADERS`, or "auto" for the data set that AICROWD_DATASET_NAME names. By default gin's binding
            of `dataset.name`, or "auto" without one.

    Raises:
        DataError: the name is unknown, or its files are missing or wrong.
    """
    if name is None:
        name = bound_parameters("dataset").get("name", "auto")
    if name == "auto":
        name = get_dataset_name()
    check_name(name)
    return load_data(name)


def load_data(name: str, **options: Any) -> NamedGroundTruthData:
    """Load a data set by its name, without gin.

    Args:
        name: a key of `LOADERS`.
        **options: the loader's options, such as `path` for "folder".

    Raises:
        DataError: the name is unknown, its files are missing or wrong, or it has no such option.

    Example:
        >>> load_data("mpi3d_embedded").factors_num_values
        [4, 4, 2, 3, 3, 10, 10]
    """
    check_name(name)
    known = list(inspect.signature(LOADERS[name]).parameters)[2:]
    for option in options:
        if option not in known:
            raise DataError(
                f"data set {name!r} has no option {option!r}{did_you_mean(option, known)}; "
                f"it has {', '.join(known) or 'none'}"
            )
    data = LOADERS[name](name, data_path(), **options)
    accepted = []
    for source in CATALOGUE[name].sources if name in CATALOGUE else ():
        if note := accepted_sum(source, data_path()):
            said = "was accepted on {accepted}, with the sum {sum} in place of {recorded}".format(**note)
            accepted.append(f"The file {source.file_name} {said}.")
    data.accepted = " ".join(accepted)
    return data


def check_available(name: object, folder_path: object = None) -> None:
    """Raise DataError if the data set is unknown or its files are missing, without reading them.

    `folder_path` is the value of `folder.path`.
    """
    check_name(name)
    missing = CATALOGUE[str(name)].missing(data_path()) if name in CATALOGUE else []
    if missing:
        raise missing_file(str(name), data_path() / missing[0].target)
    if name == "folder":
        check_there("folder", folder_or_npz(data_path(), folder_path))


def check_name(name: object) -> None:
    """Raise DataError if the name is not a key of `LOADERS`."""
    if not isinstance(name, str) or name not in LOADERS:
        raise DataError(f"unknown data set {name!r}; known: {', '.join(LOADERS)}{did_you_mean(name, LOADERS)}")
