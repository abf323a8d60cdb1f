"""The embedded data sets: a stand-in for MPI3D that is rendered locally, so that everything runs without a download.

They have MPI3D's seven factors, in its order and with its values, but their own pictures (see `scene`). Scores on them
are not the challenge's.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.data import scene
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.mpi3d import FACTOR_NAMES
from disentanglement_challenge.data.store import load_or_make_images
from disentanglement_challenge.errors import DataError

_TABLES: list[dict[str, Any]] = [scene.COLORS, scene.SHAPES, scene.SIZES, scene.CAMERAS, scene.BACKGROUNDS]
_COMMON = [list(table) for table in _TABLES[2:]]

# For each data set: the named values of the first five factors, then the number of steps of the two axes. The axes
# always span the arm's whole range. The small set keeps the colours and shapes that are easiest to tell apart.
_VALUES: dict[str, tuple[list[list[str]], int]] = {
    "mpi3d_embedded": ([["white", "green", "red", "blue"], ["cone", "cube", "cylinder", "sphere"], *_COMMON], 10),
    "mpi3d_embedded_full": ([list(scene.COLORS), list(scene.SHAPES), *_COMMON], 40),
}
SIZES = {name: [*map(len, values), steps, steps] for name, (values, steps) in _VALUES.items()}


def render_factors(factors: NDArray[np.int64], values: list[list[str]], steps: int) -> NDArray[np.uint8]:
    """Render factor combinations, int64 [N, 7], as images, uint8 [N, 64, 64, 3].

    Args:
        factors: rows in the order of FACTOR_NAMES; the first five are positions in `values`, the last two steps.
        values: the names of the values of each of the first five factors, from `scene`'s tables.
        steps: the number of positions of each axis, spread evenly over its range; at least 2.
    """
    columns = [
        np.array([list(table).index(value) for value in chosen])[factors[:, i]]
        for i, (table, chosen) in enumerate(zip(_TABLES, values, strict=True))
    ]
    return scene.render(np.stack(columns, axis=1), factors[:, 5:] / (steps - 1))


def load_embedded(name: str, data_path: Path) -> IndexedGroundTruthData:
    """Map an embedded data set from data_path/name/images.npy; the first call renders it.

    On two cores `mpi3d_embedded` (28,800 images, 354 MB) takes well under a minute, `mpi3d_embedded_full` (1,036,800
    images, 12.7 GB) about ten minutes. A killed rendering resumes. Images of an older renderer are rendered again.

    Raises:
        DataError: the name is not in SIZES, or the rendered file is damaged.
        OutputError: the folder cannot be written, or the disk is too full.
    """
    if name not in _VALUES:
        raise DataError(f"{name!r} is not an embedded data set; these are {', '.join(_VALUES)}")
    values, steps = _VALUES[name]
    return _load(name, data_path, values, steps)


def _load(name: str, data_path: Path, values: list[list[str]], steps: int) -> IndexedGroundTruthData:
    sizes = [*map(len, values), steps, steps]

    def render_range(start: int, stop: int) -> NDArray[np.uint8]:
        return render_factors(np.stack(np.unravel_index(np.arange(start, stop), sizes), axis=1), values, steps)

    recipe: dict[str, object] = {
        "renderer": hashlib.sha256(Path(scene.__file__).read_bytes()).hexdigest(),
        "values": values,
        "steps": steps,
    }
    shape = [int(np.prod(sizes)), scene.IMAGE_SIZE, scene.IMAGE_SIZE, 3]
    images = load_or_make_images(
        data_path / name, shape, recipe, render_range, f"rendering {name} (a stand-in for MPI3D)"
    )
    note = "a rendered stand-in for MPI3D; scores on it are not the challenge's"
    return IndexedGroundTruthData(name, images, sizes, FACTOR_NAMES, note)
