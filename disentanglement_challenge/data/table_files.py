"""Read codes and factors from files of arrays and tables of text."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.data.tables import array_of_integers, columns_of
from disentanglement_challenge.errors import ConfigError, DataError, did_you_mean
from disentanglement_challenge.files import DAMAGED_ZIP

# The integers up to this are float64's, too.
_LARGEST_INTEGER = 2**53

_FORMATS = "it must be a .npy, an .npz or a table of text"
# Texts of a cell without a value.
_ABSENT = {"", "na", "n/a", "nan", "null"}


def read_codes(path: Path) -> NDArray[Any]:
    """Read codes [N, num_latent] from a .npy, an .npz (its array `codes`, or its only one) or a table of numbers.

    Raises:
        DataError: the file is missing, or it holds no codes. Pickles are never loaded.
    """
    if path.suffix in (".npy", ".npz"):
        codes = _read_array(path, "codes")
        if codes.dtype.kind not in "fiub":
            raise DataError(f"{path}: codes are of dtype {codes.dtype}; they must be numbers")
        return codes
    columns = _read_csv(path, with_header=None)
    for name, column in columns.items():
        if column.dtype.kind == "U":
            raise DataError(f"{path}: column {name!r} holds {str(column[0])!r}; codes must be numbers")
        if column.dtype.kind != "f" and max(map(abs, column.tolist())) > _LARGEST_INTEGER:
            raise DataError(f"{path}: column {name!r} holds integers beyond 2**53, which float64 cannot tell apart")
    return np.stack(list(columns.values()), axis=1).astype(np.float64)


def read_factors(path: Path, leave_out: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read factors from a table with a header, a .npy or an .npz (`factors`, or `labels`, and `factor_names`).

    Args:
        path: the file.
        leave_out: columns that are not factors.

    Returns:
        A column of values for each factor, by name.

    Raises:
        DataError: the file is missing, or it holds no factors. Pickles are never loaded.
    """
    if path.suffix in (".npy", ".npz"):
        factors = _read_array(path, "factors", "labels")
        columns = columns_of(factors)
        if path.suffix == ".npz":
            given = _names(path, _read_array(path, "factor_names")) if "factor_names" in _names_of_arrays(path) else []
            if given:
                if len(set(given)) < len(given):
                    raise DataError(
                        f"{path}: factor_names are {', '.join(given)[:120]!r}; each factor needs a different name"
                    )
                if len(given) != len(columns):
                    raise DataError(f"{path}: there are {len(given)} factor_names and {len(columns)} factors")
                columns = dict(zip(given, columns.values(), strict=True))
    else:
        columns = _read_csv(path, with_header=True)
    for name in leave_out:
        if name not in columns:
            raise ConfigError(f"there is no factor {name!r} in {path}{did_you_mean(name, columns)}")
    return {name: column for name, column in columns.items() if name not in leave_out}


def _names(path: Path, names: NDArray[Any]) -> list[str]:
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise DataError(f"{path}: factor_names are {names.dtype} of shape {names.shape}; they must be a row of strings")
    return [str(name) for name in (np.char.decode(names, "utf-8", "replace") if names.dtype.kind == "S" else names)]


def _names_of_arrays(path: Path) -> list[str]:
    with _reading(path):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return []
        with loaded as arrays:
            return list(arrays.files)


def _read_array(path: Path, *names: str) -> NDArray[Any]:
    with _reading(path):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as arrays:
            found = next((name for name in names if name in arrays.files), None)
            if found is None and len(arrays.files) == 1:
                found = arrays.files[0]
            if found is None:
                held = ", ".join(arrays.files) or "nothing"
                raise DataError(f"{path}: there is no array {' or '.join(map(repr, names))}; it holds {held}")
            return arrays[found]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (*DAMAGED_ZIP, MemoryError) as error:
        is_object = "Object arrays" in str(error)
        reason = "it holds Python objects, which are never loaded" if is_object else _reason(error)
        raise DataError(f"cannot read {path} ({reason}); {_FORMATS}") from error


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _read_csv(path: Path, with_header: bool | None) -> dict[str, NDArray[Any]]:
    """Read the columns of a table; if `with_header` is None, the first row is a header if it is not all numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({_reason(error)}); {_FORMATS}") from error
    try:
        rows = split_table(text)
    except csv.Error as error:
        raise DataError(f"cannot read {path} ({error})") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    words = rows[0][0].split()
    if with_header is None and len(rows[0]) == 1 and len(words) > 1 and _is_numbers(words):  # as np.savetxt writes
        rows = [row[0].split() for row in rows]
    has_header = not _is_numbers(rows[0]) if with_header is None else with_header
    if with_header and _is_numbers(rows[0]):
        raise DataError(f"{path}: its first line is {', '.join(rows[0])[:60]!r}; it must name the factors")
    names = rows.pop(0) if has_header else [f"latent {index}" for index in range(len(rows[0]))]
    if len(set(names)) < len(names) or "" in names:
        raise DataError(f"{path}: its header is {', '.join(names)[:120]!r}; each column needs a different name")
    for number, row in enumerate(rows, start=2 if has_header else 1):
        if len(row) != len(names):
            counts = f"{len(row)}; the first row has {len(names)}"
            raise DataError(f"{path}: the number of values in row {number} is {counts}")
        for name, cell in zip(names, row, strict=True):
            if cell.lower() in _ABSENT:
                raise DataError(f"{path}: row {number} has no value of {name!r} (the cell is {cell!r})")
    if not rows:
        raise DataError(f"{path} has no rows below its header, {', '.join(names)[:120]!r}")
    return {name: _parsed([row[index] for row in rows]) for index, name in enumerate(names)}


def split_table(text: str) -> list[list[str]]:
    """Split a table into rows of cells, by the most frequent of comma, semicolon and tab in its first line."""
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    rows = csv.reader(text.splitlines(), delimiter=separator)
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


def _is_numbers(cells: Sequence[str]) -> bool:
    return _parsed(cells).dtype.kind in "fiuO"


def _parsed(cells: Sequence[str]) -> NDArray[Any]:
    """Convert cells to integers or floats, so that 10 comes after 9; to words if one is not a number."""
    if any("_" in cell for cell in cells):  # which Python's numbers may have
        return np.array(cells)
    try:
        return array_of_integers([int(cell) for cell in cells])
    except ValueError:
        pass
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        return np.array(cells)
