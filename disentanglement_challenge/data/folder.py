"""The user's own images, as the data set `folder`.

`folder.path` (gin; by default DISENTANGLEMENT_LIB_DATA/folder) is one of

* a folder of pictures, grey or colour, of 64 x 64 pixels, or of any size with `folder.resize = True`. A table
  factors.csv has the header "file,<factor>,<factor>,...", separated by commas, semicolons or tabs, and a row for each
  picture: its file name and a value of each factor, words or numbers;
* an .npz with `images`, uint8 [N, 64, 64, channels] or [N, 64, 64], numeric `factors` [N, num_factors], and optionally
  their names, `factor_names`.

The images are converted once, beside the originals, or to `folder.cache`.

There must be one image for each combination of factor values. Without the table, or without `factors`, one can train
on the images but not compute scores.
"""

import csv
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gin
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from disentanglement_challenge.checks import check_switch
from disentanglement_challenge.data.archive import NpzMember, load_npz_images
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, positions_of
from disentanglement_challenge.data.store import file_stamp, load_or_make_images
from disentanglement_challenge.data.table_files import split_table
from disentanglement_challenge.environment import absolute
from disentanglement_challenge.errors import ConfigError, DataError, OutputError
from disentanglement_challenge.files import DAMAGED_ZIP

_LOGGER = logging.getLogger(__name__)

TABLE = "factors.csv"
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
# Other data sets' names for the array of factors.
_MISTAKEN = {"factor", "factors", "label", "labels", "latents", "latents_classes", "latents_values", "targets", "y"}
# Accepted names of the column of files, in any case.
_FILE_HEADERS = {"file", "filename", "file_name", "path", "image"}
_ALPHA = ("RGBA", "LA", "PA")  # Pillow's modes with an alpha channel
_SIZE = 64
_MAX_FACTORS = 63  # the limit of numpy.ravel_multi_index


class FolderData(IndexedGroundTruthData):
    """The user's images and factors (see the top of this module).

    A factor's values are numbered in ascending order, words alphabetically.
    """

    def __init__(self, path: Path, name: str = "folder", cache: Path | None = None, resize: bool = False) -> None:
        """Read the table, and convert the images to `converted` beside them the first time.

        Args:
            path: a folder of pictures, or an .npz.
            name: the data set's name.
            cache: another folder for the converted images, for originals in a read-only place.
            resize: whether to scale pictures of another size, distorting those that are not square.

        Raises:
            DataError: the path does not hold what the top of this module describes; the message names file and fault.
            OutputError: the disk is too full for the converted images, or the folder cannot be written.
        """
        check_there(name, path)
        contents = _read_npz(path, cache) if path.suffix == ".npz" else _read_folder(path, cache, resize)
        if contents.values is None:
            # The image's number is one factor that is not latent.
            note = "it has no factors, so no scores can be computed"
            images = contents.load()
            super().__init__(name, images, [len(images)], ["image"], note, latent_factor_indices=[])
            return
        if len(contents.names) > _MAX_FACTORS:
            raise DataError(f"{path}: there are {len(contents.names)} factors; at most {_MAX_FACTORS} are possible")
        for factor, column in zip(contents.names, contents.values, strict=True):
            if column.dtype.kind == "f" and np.isnan(column).any():
                image = int(np.isnan(column).argmax())
                raise DataError(f"{path}: factor {factor!r} of image {image} is not a number; each image needs a value")
        columns = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in contents.values]
        factors = np.stack(columns, axis=1)
        sizes = [int(size) for size in factors.max(axis=0) + 1]
        positions = positions_of(factors, sizes)
        if positions is None:
            for factor, size in zip(contents.names, sizes, strict=True):
                if size == len(factors):
                    raise DataError(
                        f"{path}: factor {factor!r} has another value for every image, like an id; remove its column"
                    )
            counts = " x ".join(f"{size} {factor}" for size, factor in zip(sizes, contents.names, strict=True))
            raise DataError(
                f"{path}: its factors ({counts}) have {np.prod(sizes, dtype=object)} combinations and there are "
                f"{len(factors)} images; each combination needs exactly one image, but "
                f"{_odd_combination(factors, sizes, contents.values, contents.names)}"
            )
        super().__init__(name, contents.load(), sizes, contents.names, positions=positions)


def _odd_combination(
    factors: NDArray[np.int64], sizes: Sequence[int], values: Sequence[NDArray[Any]], names: Sequence[str]
) -> str:
    """Describe the first combination that has no image or several."""
    times = Counter(map(tuple, factors.tolist()))
    odd = next(combination for combination in np.ndindex(*sizes) if times[combination] != 1)
    levels = [np.unique(column) for column in values]
    named = ", ".join(
        f"{name} {str(level[i]).removesuffix('.0')}" for name, level, i in zip(names, levels, odd, strict=True)
    )
    return f"{named} has {times[odd] or 'none'}"


@gin.configurable("folder", denylist=["name", "data_path"])
def load_folder(
    name: str, data_path: Path, path: str | None = None, cache: str | None = None, resize: bool = False
) -> FolderData:
    """Load the user's own data from `path`, by default data_path/folder; keep its converted images in `cache`.

    Raises what `FolderData` raises, and ConfigError if the path or cache is not a string.
    """
    check_switch("folder.resize", resize)
    if cache is not None and not isinstance(cache, str):
        raise ConfigError(f"folder.cache is {cache!r}; it must be the path of a folder, in quotes")
    return FolderData(folder_or_npz(data_path, path), name, None if cache is None else absolute(cache), resize)


def folder_or_npz(data_path: Path, path: object) -> Path:
    """Return the path of the images that `folder.path` gives, by default data_path/folder; raise ConfigError."""
    if path is not None and not isinstance(path, str | Path):
        raise ConfigError(f"folder.path is {path!r}; it must be the path of a folder or an .npz, in quotes")
    return data_path / "folder" if path is None else absolute(path)


def check_there(name: str, path: Path) -> None:
    """Raise DataError if the path is neither a folder nor an .npz."""
    try:
        is_there = path.is_file() if path.suffix == ".npz" else path.is_dir()
    except (OSError, ValueError):
        is_there = False
    if not is_there:
        kind = "file" if path.suffix == ".npz" else "folder"
        raise DataError(
            f"data set {name!r}: there is no {kind} {path}; put it there, or bind folder.path to an .npz or a folder "
            "of pictures"
        )


class _Contents(NamedTuple):
    """The user's data: a function that loads the images, a column of values for each factor or None, their names."""

    load: Callable[[], NDArray[np.uint8]]
    values: Sequence[NDArray[Any]] | None
    names: list[str]


def _read_folder(path: Path, cache: Path | None, resize: bool) -> _Contents:
    table = path / TABLE
    _check_spelling(path)
    if table.exists():
        files, values, names = _read_table(table)
    else:
        try:
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        except OSError as error:
            raise DataError(f"cannot read {path} ({error.strerror})") from error
        values, names = None, []
    if not files:
        what = f"{table}: it has no rows" if table.exists() else f"{path}: there are no pictures in it"
        raise DataError(f"{what}; pictures are files such as .png or .jpg")
    # In the table's order, with relative paths: pictures in different folders may share a name.
    stamps = [[os.path.relpath(file, path), *file_stamp(file)] for file in files]
    recipe: dict[str, object] = {"files": hashlib.sha256(json.dumps(stamps).encode()).hexdigest()}
    if resize:
        recipe["resize"] = _SIZE
    first, _ = _read_picture(files[0], resize)
    with_alpha: list[Path] = []

    def make(start: int, stop: int) -> NDArray[np.uint8]:
        pictures = []
        for file in files[start:stop]:
            picture, has_alpha = _read_picture(file, resize)
            pictures.append(picture)
            if has_alpha and not with_alpha:
                with_alpha.append(file)
                _LOGGER.warning("%s has an alpha channel; alpha is dropped from all pictures", file)
        for file, picture in zip(files[start:stop], pictures, strict=True):
            if picture.shape != first.shape:
                raise DataError(
                    f"{file} has {picture.shape[2]} channel(s), {files[0].name} has {first.shape[2]}; "
                    "all pictures must have the same number"
                )
        return np.stack(pictures)

    shape = [len(files), *first.shape]
    return _Contents(
        lambda: _converted(
            cache,
            path / "converted",
            lambda folder: load_or_make_images(folder, shape, recipe, make, "converting pictures"),
        ),
        values,
        names,
    )


def _converted(cache: Path | None, beside: Path, load: Callable[[Path], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Load the converted images from the cache, or from beside the originals."""
    try:
        return load(beside if cache is None else cache)
    except OutputError as error:
        if cache is not None or os.access(beside.parent, os.W_OK):
            raise
        raise OutputError(f"{error}; bind folder.cache to a writable folder for the converted images") from error


def _check_spelling(path: Path) -> None:
    """Raise DataError if the table's name has capital letters, as its factors would be ignored."""
    try:
        names = os.listdir(path)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror})") from error
    nearly = [name for name in names if name.lower() == TABLE and name != TABLE]
    if nearly and TABLE not in names:
        raise DataError(f"{path / nearly[0]} must be called {TABLE}, in small letters")


def _read_table(table: Path) -> tuple[list[Path], Sequence[NDArray[Any]] | None, list[str]]:
    try:
        rows = split_table(table.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {table} ({error})") from error
    header = rows[0] if rows else []
    if len(header) < 2 or header[0].lower() not in _FILE_HEADERS:
        raise DataError(
            f"{table}: its first line is {', '.join(header)[:80]!r}; it must be 'file' and the factors' names, "
            "separated by commas"
        )
    names = header[1:]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise DataError(f"{table}: row {number} has {len(row)} values; the header has {len(rows[0])} columns")
        for name, cell in zip(("file", *names), row, strict=True):
            if not cell.strip():
                raise DataError(f"{table}: row {number} has no value of {name!r}; each picture needs one")
    files = [table.parent / row[0].strip() for row in rows[1:]]
    if len(set(files)) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise DataError(f"{table}: {twice.name} is in several rows; each picture needs exactly one")
    for picture in files:
        if not picture.exists():
            raise DataError(f"there is no picture {picture}, which {table.name} names")
    columns = [np.array([row[i].strip() for row in rows[1:]]) for i in range(1, len(rows[0]))]
    return files, [_numbers(column) for column in columns], names


def _numbers(column: NDArray[np.str_]) -> NDArray[Any]:
    """Convert a column to numbers, so that 10 comes after 9; return it unchanged if a value is not a number."""
    try:
        return column.astype(np.float64)
    except ValueError:
        return column


def _read_picture(path: Path, resize: bool) -> tuple[NDArray[np.uint8], bool]:
    """Read a picture; return it as uint8 [64, 64, channels], and whether it had an alpha channel."""
    try:
        with Image.open(path) as image:
            if image.size != (_SIZE, _SIZE) and not resize:
                raise DataError(
                    f"{path} has {image.size[0]} x {image.size[1]} pixels; pictures must have {_SIZE} x {_SIZE}, or "
                    "set folder.resize = True to scale them"
                )
            if image.mode not in ("1", "L", "RGB", "P", *_ALPHA):
                raise DataError(f"{path} is of Pillow's mode {image.mode}; pictures must be grey (L) or colour (RGB)")
            plain = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
            if plain.size != (_SIZE, _SIZE):
                plain = plain.resize((_SIZE, _SIZE), Image.Resampling.LANCZOS)
            pixels, has_alpha = np.array(plain), image.has_transparency_data
    except UnidentifiedImageError:
        raise DataError(f"{path} is not a picture that Pillow can read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read {path} ({error})") from error
    return pixels.reshape(_SIZE, _SIZE, -1), has_alpha


def _read_npz(path: Path, cache: Path | None) -> _Contents:
    def check(shape: Sequence[int], dtype: np.dtype[Any]) -> Sequence[int]:
        if dtype != np.uint8 or len(shape) not in (3, 4) or tuple(shape[1:3]) != (_SIZE, _SIZE):
            raise DataError(
                f"{path}: images are {dtype} of shape {tuple(shape)}; they must be uint8 of shape "
                f"(N, {_SIZE}, {_SIZE}, channels) or (N, {_SIZE}, {_SIZE})"
            )
        channels = shape[3] if len(shape) == 4 else 1
        if channels not in (1, 3) or shape[0] == 0:
            raise DataError(
                f"{path}: images have shape {tuple(shape)}; there must be at least one, with 1 or 3 channels"
            )
        return [*shape[:3], channels]

    keys = _keys(path)
    mistaken = sorted(key for key in keys if key.lower() in _MISTAKEN)
    if "factors" not in keys and mistaken:
        raise DataError(f"{path}: there is no array 'factors', but one {mistaken[0]!r}; rename it to 'factors'")
    images = _converted(
        cache,
        path.parent / f"{path.stem}.converted",
        lambda folder: load_npz_images("folder", path, "images", check, folder),
    )
    if "factors" not in keys:
        return _Contents(lambda: images, None, [])
    factors = _read_array(path, "factors")
    if factors.ndim != 2 or factors.dtype.kind not in "biuf" or not factors.shape[1] or len(factors) != len(images):
        raise DataError(
            f"{path}: factors are {factors.dtype} of shape {factors.shape}; {len(images)} images need numbers of shape "
            f"({len(images)}, num_factors)"
        )
    names = [f"factor_{i}" for i in range(factors.shape[1])]
    if "factor_names" in keys:
        given = _read_array(path, "factor_names")
        if given.dtype.kind != "U" or given.shape != (factors.shape[1],):
            raise DataError(
                f"{path}: factor_names are {given.dtype} of shape {given.shape}; expected {factors.shape[1]} strings"
            )
        names = [str(text) for text in given]
    return _Contents(lambda: images, list(factors.T), names)


def _keys(path: Path) -> set[str]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return set(arrays.files)
    except (*DAMAGED_ZIP, AttributeError) as error:  # np.load returns a plain array for an .npy
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"cannot read {path} ({error.strerror})") from error
        raise DataError(f"{path} is damaged or not an .npz") from error


def _read_array(path: Path, key: str) -> NDArray[Any]:
    with NpzMember(path, key, by_rows=False) as member:
        return member.read_whole()
