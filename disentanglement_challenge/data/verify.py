"""Check a data set's files: check sums, shape, and the mean of each channel."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from disentanglement_challenge.data.catalogue import CATALOGUE, Entry
from disentanglement_challenge.data.download import Source, accepted_sum, sums
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, NamedGroundTruthData
from disentanglement_challenge.data.store import take_images

# Maximum difference between the mean of all images and the recorded one, which is rounded and, for Cars3D, of pictures
# scaled differently. Images with lost or shifted bytes, such as those of mpi3d_real in 2024, mix the channels, whose
# means are 0.01 to 0.03 from their common mean.
TOLERANCE = 0.005
_CHUNK = 1024


class Finding(NamedTuple):
    """One result of a check, and whether it is right."""

    is_right: bool
    text: str


def check_files(name: str, data_path: Path) -> Iterator[Finding]:
    """Check the sums of the local files that are kept as published."""
    for source in CATALOGUE[name].sources if name in CATALOGUE else ():
        path = source.here(data_path)
        if path is not None and path.is_file():
            yield _check_sum(source, path, data_path)


def check_data(name: str, data: NamedGroundTruthData) -> Iterator[Finding]:
    """Check the shape and the mean of loaded data."""
    yield Finding(True, f"factor sizes {data.factors_num_values}, observations {list(data.observation_shape)}")
    entry = CATALOGUE.get(name)
    if not isinstance(data, IndexedGroundTruthData) or entry is None or not entry.mean:
        yield Finding(True, "no published mean of its images to compare with")
    elif len(data.images) != entry.num_images:
        yield Finding(
            True, f"{len(data.images)} images, whose mean is not published; the current version has {entry.num_images}"
        )
    else:
        yield _check_mean(entry, data)


def _check_sum(source: Source, path: Path, data_path: Path) -> Finding:
    is_published = source.checksum is not None and (source.unpack is None or path != data_path / source.target)
    if not is_published:
        return Finding(
            True, f"{path}: no check sum to compare with, as {'it was unpacked' if source.unpack else 'none is known'}"
        )
    algorithm, _, expected = str(source.checksum).partition(":")
    try:
        found = sums(path, [algorithm])[algorithm]
    except OSError as error:
        return Finding(False, f"cannot read {path} ({error.strerror or error})")
    accepted = accepted_sum(source, data_path)
    if found == expected:
        return Finding(True, f"{path}: {algorithm} as published")
    if accepted is not None and accepted["sum"] == f"{algorithm}:{found}":
        return Finding(True, f"{path}: {algorithm}:{found}, accepted on {accepted['accepted']} in place of {expected}")
    return Finding(False, f"{path}: its {algorithm} is {found}, the recorded one is {expected}")


def _check_mean(entry: Entry, data: IndexedGroundTruthData) -> Finding:
    total = np.zeros(data.images.shape[-1])
    for start in tqdm(range(0, len(data.images), _CHUNK), desc="mean", unit_scale=_CHUNK, unit="image", delay=1):
        chunk = take_images(data.images, np.arange(start, min(start + _CHUNK, len(data.images))))
        total += chunk.sum(axis=(0, 1, 2), dtype=np.float64)
    mean = total / (255 * np.prod(data.images.shape[:-1], dtype=np.float64))
    is_right = bool(np.all(np.abs(mean - entry.mean) <= TOLERANCE))
    found, known = (", ".join(f"{value:.4f}" for value in values) for values in (mean, entry.mean))
    wrong = "" if is_right else f", more than {TOLERANCE} away: the images are damaged or of another data set"
    return Finding(is_right, f"mean {found}, published {known}{wrong}")
