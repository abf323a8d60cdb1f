"""Factors beside codes, from an array or a data frame, as indices of values.

Each factor is replaced by the rank of its sorted values. A full grid has exactly one row for each combination of
values; it is scored with disentanglement_lib's own draws. Other rows are drawn directly (`sampling.RowSampler`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.data.ground_truth import positions_of
from disentanglement_challenge.errors import ConfigError, DataError

Bins = int | Sequence[int | None] | None

# A factor with more non-integer values than this is taken for continuous.
_MOST_VALUES = 100
_MOST_FACTORS = 63  # the limit of numpy.ravel_multi_index


@dataclass(frozen=True)
class FactorTable:
    """The factors of a table's rows.

    Attributes:
        names: a name for each factor.
        indices: the rank of each row's value among the factor's sorted values, int64 [num_rows, num_factors].
        positions: on a full grid, the row of each combination, the last factor varying fastest, int64 [num_rows];
            otherwise None.
    """

    names: list[str]
    indices: NDArray[np.int64]
    positions: NDArray[np.int64] | None

    @property
    def sizes(self) -> list[int]:
        """The number of values of each factor."""
        return [int(size) for size in self.indices.max(axis=0) + 1]


class FactorGrid(GroundTruthData):
    """Ground-truth data over the rows of a full grid: an observation is a row's number, int64.

    Factors are drawn as disentanglement_lib draws them: one `randint` per factor, in order.
    """

    def __init__(self, table: FactorTable) -> None:
        assert table.positions is not None
        self.factor_names = list(table.names)
        self._sizes = table.sizes
        self._strides = len(table.indices) // np.cumprod(self._sizes)
        self._positions = table.positions

    @property
    def num_factors(self) -> int:
        return len(self._sizes)

    @property
    def factors_num_values(self) -> list[int]:
        return self._sizes

    @property
    def observation_shape(self) -> list[int]:
        """The shape [] of an observation, which is one number."""
        return []

    def sample_factors(self, num: int, random_state: RandomState) -> NDArray[np.int64]:
        """Draw factors uniformly, int64 [num, num_factors]."""
        return np.stack([random_state.randint(size, size=num) for size in self._sizes], axis=1)

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: RandomState
    ) -> NDArray[np.int64]:
        """Return the rows with these factors [num, num_factors], int64 [num]."""
        return self._positions[factors @ self._strides]


def factor_table(factors: Any, bins: Bins = None) -> FactorTable:
    """Make a table of factors.

    Args:
        factors: [num_rows, num_factors], an array or nested lists; or named columns, in a mapping, a data frame or a
            structured array. Values are numbers, words, or anything else that numpy sorts.
        bins: the number of equal bins for continuous factors; or a sequence with a number or None for each factor,
            where a number bins any values.

    Raises:
        DataError: the factors have another shape, or a column is not a valid factor; the message names it.
        ConfigError: bins are not such numbers.
    """
    columns = columns_of(factors)
    if len(columns) > _MOST_FACTORS:
        raise DataError(f"there are {len(columns)} factors; at most {_MOST_FACTORS} are possible")
    asked = _bins_of(bins, list(columns))
    ranked = {name: _ranks(_binned(column, asked[name])) for name, column in columns.items()}
    positions = _positions(ranked)
    if positions is not None and isinstance(bins, Integral):
        raise ConfigError(
            f"bins is {bins}, but the rows are a full grid, so no factor is continuous; give one number for each factor"
        )
    if positions is None:
        for name, column in columns.items():
            if asked[name] is None and _is_continuous(column):
                if not isinstance(bins, Integral):
                    raise DataError(
                        f"factor {name!r} has {len(np.unique(column))} values that are not integers, so it is "
                        "continuous; bins=20 (--bins 20) cuts it into 20 equal bins"
                    )
                ranked[name] = _ranks(_binned(column, int(bins)))
        positions = _positions(ranked)
    for name, ranks in ranked.items():
        size = int(ranks.max()) + 1
        if size == 1:
            raise DataError(f"factor {name!r} has only one value; a factor needs at least two: leave it out")
        if positions is None and size == len(ranks):
            raise DataError(
                f"factor {name!r} has a different value in every row, like an id; leave it out (--leave_out) or "
                "bin it (--bins)"
            )
    return FactorTable(list(ranked), np.stack(list(ranked.values()), axis=1), positions)


def columns_of(factors: Any) -> dict[str, NDArray[Any]]:
    """Return the values of factors, as `factor_table` takes them, by name; raise DataError if they are invalid."""
    given = list(factors) if isinstance(factors, Mapping) else list(getattr(factors, "columns", []))
    if len({str(name) for name in given}) < len(given):
        raise DataError(f"factors are named {', '.join(map(str, given))[:120]!r}; each needs a different name")
    if hasattr(factors, "detach"):
        factors = factors.detach().cpu()
    if np.ma.is_masked(factors):
        raise DataError("factors are an array with masked values; each row needs a value")
    if isinstance(factors, Mapping):
        named = {str(name): factors[name] for name in factors}
    elif hasattr(factors, "columns") and hasattr(factors, "to_numpy"):  # a data frame, of pandas or another library
        named = {str(name): factors[name].to_numpy() for name in factors.columns}
    else:
        try:
            array = np.asarray(factors)
        except ValueError as error:
            raise DataError("factors are rows of unequal length; their shape must be (N, num_factors)") from error
        if array.dtype.names:
            named = {name: array[name] for name in array.dtype.names}
        elif array.ndim != 2 or 0 in array.shape:
            hint = "; one factor is factors[:, None]" if array.ndim == 1 and array.size else ""
            raise DataError(f"factors have shape {array.shape}; they must be (N, num_factors){hint}")
        else:
            named = {f"factor {index}": column for index, column in enumerate(array.T)}
    columns = {name: _column(name, column) for name, column in named.items()}
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(
            f"factors have columns of {', '.join(map(str, sorted(lengths))) or 'no'} rows; all must have as many"
        )
    return columns


def _column(name: str, values_given: Any) -> NDArray[Any]:
    """Return one factor's values as numbers or words; raise DataError if a row has none."""
    if np.ma.is_masked(values_given):
        raise DataError(f"factor {name!r} has masked values; each row needs a value")
    column = np.asarray(values_given)
    if column.dtype.kind == "S":
        column = np.char.decode(column, "utf-8", "replace")
    if column.dtype.kind == "c":
        raise DataError(f"factor {name!r} holds complex numbers; values must have an order")
    if column.dtype.kind in "mM" and np.isnat(column).any():
        raise DataError(f"factor {name!r} has no value in row {int(np.isnat(column).argmax())}")
    if column.ndim != 1:
        raise DataError(f"factor {name!r} has shape {column.shape}; a factor is a column of values")
    if column.dtype.kind == "O":
        values = column.tolist()
        absent = [row for row, value in enumerate(values) if _is_absent(value)]
        if absent:
            raise DataError(f"factor {name!r} has no value in row {absent[0]}")
        if all(isinstance(value, str) for value in values):
            column = np.array(values)
        elif all(isinstance(value, Integral) for value in values):
            column = array_of_integers([int(value) for value in values])
        elif all(isinstance(value, int | float | np.number) for value in values):
            column = np.array(values, dtype=np.float64)
        else:
            kinds = sorted({type(value).__name__ for value in values})
            raise DataError(f"factor {name!r} holds {', '.join(kinds)}; values must be all numbers or all words")
    if column.dtype.kind == "U" and (np.char.strip(column) == "").any():
        raise DataError(f"factor {name!r} has no value in row {int((np.char.strip(column) == '').argmax())}")
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        row = int((~np.isfinite(column)).argmax())
        raise DataError(f"factor {name!r} is {column[row]} in row {row}; each row needs a finite value")
    return column


def array_of_integers(values: Sequence[int]) -> NDArray[Any]:
    """Return an array that holds these integers exactly: of Python's integers, if they exceed 64 bits.

    numpy makes floats of signed and unsigned integers of 64 bits together.
    """
    array = np.array(values)
    return np.array(values, dtype=object) if array.dtype.kind == "f" else array


def _is_absent(value: object) -> bool:
    """Return whether a table's cell is empty: None, NaN or pandas.NA, which cannot be told to be unequal to itself."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def _bins_of(bins: Bins, names: Sequence[str]) -> dict[str, int | None]:
    """Return the bins given for each single factor, or None."""
    if bins is None:
        return dict.fromkeys(names)
    if isinstance(bins, Integral):
        check_count("bins", int(bins), minimum=2)
        return dict.fromkeys(names)
    if not isinstance(bins, list | tuple | np.ndarray) or len(bins) != len(names):
        raise ConfigError(f"bins is {bins!r}; it must be an integer, or one for each of the {len(names)} factors")
    numbers = [int(number) if isinstance(number, Integral) else number for number in bins]
    for name, number in zip(names, numbers, strict=True):
        if number is not None:
            check_count(f"bins of factor {name!r}", number, minimum=2)
    return dict(zip(names, numbers, strict=True))


def _binned(column: NDArray[Any], bins: int | None) -> NDArray[Any]:
    if bins is None:
        return column
    if column.dtype.kind not in "fiub":
        raise DataError(f"a factor has words such as {column[0]!r}; only numbers can be cut into bins")
    if column.min() == column.max():
        return column
    edges = np.linspace(column.min(), column.max(), bins + 1)
    return np.digitize(column, edges[1:-1])


def _ranks(column: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(column, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _positions(ranked: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64] | None:
    if len(ranked) == 1:  # otherwise any column with a different value in every row would be a grid
        return None
    indices = np.stack(list(ranked.values()), axis=1)
    return positions_of(indices, [int(size) for size in indices.max(axis=0) + 1])


def _is_continuous(column: NDArray[Any]) -> bool:
    return column.dtype.kind == "f" and not (column == np.round(column)).all() and len(np.unique(column)) > _MOST_VALUES
