"""What a metric is: one record, from which every other part reads all that it wants to know of it.

There are two kinds. Most metrics are functions of points: they say how many points they want (`Metric.draws`) and get
them. The others, such as the FactorVAE score, draw for themselves from a `Sampler`.

Which latents a metric sees, and in which precision, is decided here for all of them (`usable`):

* A latent of one value over the points is left out. It is recognised by its least and greatest value, never by its
  variance, which numpy's float32 sums do not make 0 for a constant.
* Where no latent is left, the score is `Metric.collapsed`.
* float16 is computed as float64, and so is all else where a variance or a range over- or underflows in float32.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray

from disentanglement_challenge.checks import check_choice, check_count, check_number
from disentanglement_challenge.data.sampling import Points, Sampler
from disentanglement_challenge.data.tables import columns_of
from disentanglement_challenge.errors import (
    ConfigError,
    DataError,
    RepresentationError,
    ScoreError,
    did_you_mean,
    lines_of,
)

# Beyond this a float64's square, or its sum over points, may not be finite.
_LARGEST = 2.0**200


class Result(NamedTuple):
    """What a metric computes.

    Attributes:
        values: its results under disentanglement_lib's names where the library has the metric.
        matrix: latents by factors, float64 [num_latent, num_factors]; None where the metric has none.
    """

    values: dict[str, Any]
    matrix: NDArray[Any] | None = None


@dataclass(frozen=True)
class Setting:
    """A setting of a metric.

    Attributes:
        official: the challenge's value, or disentanglement_lib's (unsupervised_study_v1) for metrics that the challenge
            does not have.
        parameter: the keyword of `Metric.compute` that takes it; by default the last part of its gin name.
        least, most: the bounds of a number, if any. It must be an integer where `official` is one.
        choices: the values that it may have, where it is no number; its items', where it is a list.
        fast: those of them that the fast engine can compute with; all by default.
    """

    official: Any
    parameter: str | None = None
    least: float | None = None
    most: float | None = None
    choices: Sequence[Any] | None = None
    fast: Sequence[Any] | None = None

    def check(self, name: str, value: object) -> None:
        """Raise ConfigError, with this name in it, for a value that it cannot have."""
        if isinstance(self.official, list):
            if not isinstance(value, list | tuple) or not value:
                raise ConfigError(f"{name} is {value!r}; it must be a list such as {self.official!r}")
            for item in value:
                self._check_one(name, item)
        else:
            self._check_one(name, value)

    def _check_one(self, name: str, value: object) -> None:
        official = self.official[0] if isinstance(self.official, list) else self.official
        if self.choices is not None:
            check_choice(name, value, self.choices)
        elif isinstance(official, int):
            check_count(name, value, 1 if self.least is None else int(self.least))
        else:
            check_number(name, value, minimum=self.least, maximum=self.most)


def count(official: int, least: int = 1, parameter: str | None = None) -> Setting:
    """Make the setting of a number of points, bins or the like."""
    return Setting(official, parameter, least)


# What disentanglement_lib's metrics take for the discretizer, by its gin names.
HISTOGRAM = {
    "discretizer.discretizer_fn": Setting("@histogram_discretizer", choices=("@histogram_discretizer",), parameter=""),
    "discretizer.num_bins": count(20, least=2),
}


@dataclass(frozen=True)
class Metric:
    """All that is to be known of a metric.

    Attributes:
        name: in results, files and on the command line.
        key: which of its results is the score.
        label: what a table's heading says.
        explanation: a sentence or two for a reader of the page: what the score, or its matrix, shows.
        compute: (points, ...) or, without `draws`, (sampler, random_state), then settings as keywords, to `Result`. It
            gets the latents that `usable` leaves, of which there is at least one, and gives a matrix of these.
        settings: by the names that gin has for them, such as "mig.num_train".
        draws: the settings that say how many points each argument of `compute` holds.
        draw: for a metric without `draws` whose `compute` is slow: the same draws and nothing else.
        column: its column in the report's tables, from 1; 0 for a metric that is none of the challenge's five.
        bounds: the least and the greatest score there can be.
        higher_is_better: whether the greatest is the best.
        tolerance: how far the fast engine's score may lie from the library's at the official settings; None where the
            library has no such metric.
        library: name of disentanglement_lib's function, "module.function" below its evaluation.metrics.
        gin_name: what gin calls that function.
        aliases: other names that are understood.
        collapsed: the score where no latent varies; None where there is none then.
        every_latent: whether `compute` gets all latents, as they are, those that do not vary too.
        codes_alone: whether it looks at codes, and at no factors.
        beside: results that are shown beside the score, with their labels.
        matrix_label: what the matrix's heading says.
        missing: what the matrix holds for a latent that was left out.
        is_count: whether the matrix holds counts.
        on_rows: whether it is defined for rows that are no full grid.
    """

    name: str
    key: str
    label: str
    explanation: str
    compute: Callable[..., Result]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    draws: Sequence[str] = ()
    draw: Callable[..., object] | None = None
    column: int = 0
    bounds: tuple[float, float] = (0.0, 1.0)
    higher_is_better: bool = True
    tolerance: float | None = None
    library: str = ""
    gin_name: str = ""
    aliases: Sequence[str] = ()
    collapsed: float | None = 0.0
    every_latent: bool = False
    codes_alone: bool = False
    beside: Mapping[str, str] = field(default_factory=dict)
    matrix_label: str = ""
    missing: float = math.nan
    is_count: bool = False
    on_rows: bool = True

    def official(self) -> dict[str, Any]:
        """Return the official settings by name."""
        return {name: setting.official for name, setting in self.settings.items()}

    def gin_names(self) -> dict[str, list[str]]:
        """Return the names that gin has for the metric and its settings, with the parameters that are settings."""
        names: dict[str, list[str]] = {self.gin_name or self.name: []}
        for name in self.settings:
            configurable, _, parameter = name.rpartition(".")
            names.setdefault(configurable, []).append(parameter)
        return names

    def check(self, settings: Mapping[str, Any], fast: bool = True) -> None:
        """Raise ConfigError for a setting with a value that it cannot have, or that the fast engine cannot compute."""
        for name, setting in self.settings.items():
            setting.check(name, settings[name])
            if fast and setting.fast is not None and settings[name] not in setting.fast:
                raise ConfigError(f"{name} = {settings[name]!r} needs evaluation.engine = 'library'")

    def results(self, sampler: Sampler, seed: int, settings: Mapping[str, Any]) -> Result:
        """Compute the metric.

        Args:
            sampler: what to draw from.
            seed: of the random state that it draws with.
            settings: a value for each of `settings`, by gin name.

        Raises:
            ScoreError: the points that were drawn cannot be scored.
        """
        random_state = RandomState(seed)
        keywords = self._keywords(settings)
        with _global_state(seed):
            if not self.draws:
                return self._drawing(sampler, random_state, keywords)
            samples = self._draw(sampler, random_state, settings)
            try:
                result = self._of_points(samples, sampler.factor_names, self._without_draws(keywords))
            except (DataError, RepresentationError) as error:
                raise ScoreError(str(error)) from error
            if len(samples) > 1:
                result.values["test_seen_in_training"] = share_seen(*samples)
            return result

    def of_arrays(self, *arrays: ArrayLike, **settings: Any) -> Result:
        """Compute the metric on these points, without sampling.

        Args:
            *arrays: codes [N, num_latent] and factors [N, num_factors], once for each of `draws`.
            **settings: those of `compute`; the official ones by default.
        """
        keywords = {**self._without_draws(self._keywords(self.official())), **settings}
        samples = points_of(*arrays)
        names = [f"factor {index}" for index in range(samples[0].factors.shape[1])]
        return self._of_points(samples, names, keywords)

    def draw_only(self, sampler: Sampler, seed: int, settings: Mapping[str, Any]) -> None:
        """Make the draws of `results`, so that whoever answers them learns what is asked for."""
        random_state = RandomState(seed)
        if self.draws:
            self._draw(sampler, random_state, settings)
            return
        with _global_state(seed):
            (self.draw or self.compute)(sampler, random_state, **self._keywords(settings))

    def _drawing(self, sampler: Sampler, random_state: RandomState, keywords: Mapping[str, Any]) -> Result:
        try:
            return self.compute(sampler, random_state, **keywords)
        except DataError as error:
            raise ScoreError(str(error)) from error

    def _of_points(self, samples: Sequence[Points], factor_names: Sequence[str], keywords: Mapping[str, Any]) -> Result:
        for index, name in enumerate(() if self.codes_alone else factor_names):
            values = samples[0].factors[:, index]
            if (values == values[0]).all():
                raise DataError(f"factor {name!r} has one value in all points drawn, so there is nothing to tell apart")
        num_latent = samples[0].codes.shape[1]
        if self.every_latent:
            return self._checked(self.compute(*samples, **keywords), num_latent, len(factor_names))
        left, arrays = usable(*(sample.codes for sample in samples))
        if not left.any():
            collapsed = {} if self.collapsed is None else {self.key: self.collapsed}
            return Result(collapsed, np.full((num_latent, len(factor_names)), self.missing))
        points = [sample._replace(codes=codes) for codes, sample in zip(arrays, samples, strict=True)]
        result = self._checked(self.compute(*points, **keywords), int(left.sum()), len(factor_names))
        return spread(result, left, self.missing)

    def _checked(self, result: Result, num_latent: int, num_factors: int) -> Result:
        """Return a result, if its matrix fits the latents and factors that it is of."""
        shape = (num_latent, num_factors)
        if result.matrix is not None and np.shape(result.matrix) != shape and not self.codes_alone:
            raise DataError(f"{self.name} gives a matrix of shape {np.shape(result.matrix)}; it must be {shape}")
        return result

    def _draw(self, sampler: Sampler, random_state: RandomState, settings: Mapping[str, Any]) -> list[Points]:
        batch_size = next((settings[name] for name in self.settings if self._parameter(name) == "batch_size"), 16)
        return [sampler.points(settings[name], batch_size, random_state) for name in self.draws]

    def _without_draws(self, keywords: Mapping[str, Any]) -> dict[str, Any]:
        drawn = {*map(self._parameter, self.draws), "batch_size"}
        return {name: value for name, value in keywords.items() if name not in drawn}

    def _keywords(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {self._parameter(name): settings[name] for name in self.settings if self._parameter(name)}

    def _parameter(self, name: str) -> str:
        parameter = self.settings[name].parameter
        return name.rpartition(".")[2] if parameter is None else parameter


@contextmanager
def _global_state(seed: int) -> Iterator[None]:
    """Seed numpy's global generator for a block.

    Some of scikit-learn's models draw from it, as the library leaves them unseeded, and so does one of its metrics.
    """
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def usable(
    codes: NDArray[Any], *others: NDArray[Any], together: bool = False
) -> tuple[NDArray[np.bool_], list[NDArray[Any]]]:
    """Leave out the latents of one value, and choose the precision to compute in.

    Args:
        codes: [N, num_latent]; they decide.
        *others: further codes of the same latents.
        together: whether latents too large to square are scaled with all others, as where their sizes are compared.

    Returns:
        Which latents are left, bool [num_latent], and the arrays of these, in numpy's own memory order.
    """
    left = varying(codes)
    # A mask as an index would give the other memory order, on which the last bit of a float32 sum depends.
    arrays = [array if left.all() else np.compress(left, array, axis=1) for array in (codes, *others)]
    if not left.any():
        return left, arrays
    arrays = [array.astype(precision(arrays[0]), copy=False) for array in arrays]
    largest = np.abs(arrays[0]).max(axis=0).astype(np.float64)
    over = largest > _LARGEST
    if over.any():
        excess = np.frexp(largest)[1] - math.frexp(_LARGEST)[1]
        exponents = np.full(len(largest), excess.max()) if together else np.where(over, excess, 0)
        with np.errstate(under="ignore"):
            arrays = [np.ldexp(array, -exponents) for array in arrays]  # a power of two changes no digit
        kept = varying(arrays[0])  # what vanishes beside the largest
        left = left.copy()
        left[left] = kept
        arrays = [np.compress(kept, array, axis=1) for array in arrays]
    return left, arrays


def varying(codes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which latents have more than one value, bool [num_latent]."""
    return codes.min(axis=0) < codes.max(axis=0)


def precision(codes: NDArray[Any]) -> np.dtype[Any]:
    """Return the dtype to compute these latents in, of which none is constant: the codes' own, or float64.

    float64 where they are float16, or where a variance or a range is no normal number in their own dtype.
    """
    if codes.dtype != np.float32:
        return np.dtype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        spans = np.stack([codes.var(axis=0), np.ptp(codes, axis=0)])
    fits = np.isfinite(spans) & (spans >= np.finfo(np.float32).tiny)
    return np.dtype(np.float32 if fits.all() else np.float64)


def spread(result: Result, left: NDArray[np.bool_], missing: float) -> Result:
    """Give the result's matrix a row for each latent, those that were left out filled with `missing`."""
    if result.matrix is None:
        return result
    matrix = np.full((len(left), result.matrix.shape[1]), missing, dtype=np.float64)
    matrix[left] = result.matrix
    return Result(result.values, matrix)


def as_codes(codes: ArrayLike, name: str = "codes") -> NDArray[Any]:
    """Return codes as a float array [N, num_latent].

    Raises:
        RepresentationError: they have another shape, are no numbers, or are not finite.
    """
    if np.ma.is_masked(codes):
        raise RepresentationError(f"{name} are a masked array with values missing; each needs a value")
    try:
        array = np.asarray(_off_device(codes))
    except ValueError as error:
        raise RepresentationError(
            f"{name} are rows of unequal length; they must be an array (N, num_latent)"
        ) from error
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise RepresentationError(f"{name} are no array: {lines_of(error)[0]:.200}") from error
    if array.ndim != 2 or 0 in array.shape:
        raise RepresentationError(f"{name} have shape {array.shape}; they must be an array (N, num_latent)")
    if array.dtype.kind not in "fiub":
        raise RepresentationError(f"{name} are of dtype {array.dtype}; they must be numbers")
    if array.dtype.kind != "f":
        if array.dtype.kind in "iu" and np.abs(array.astype(np.float64)).max() > 2.0**53:
            raise RepresentationError(
                f"{name} hold integers above 2**53, which float64 cannot tell apart; subtract some"
            )
        array = array.astype(np.float64)
    elif array.dtype.itemsize > 8 or not array.dtype.isnative:
        array = array.astype(np.float32 if array.dtype.itemsize == 4 else np.float64)
    finite = np.isfinite(array)
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        raise RepresentationError(
            f"{name} hold {array[row, column]} at row {row}, column {column}; they must be finite"
        )
    return array


def _off_device(codes: Any) -> Any:
    """Return a tensor as numpy can take it: without gradients, dense, on the CPU, and of a type that numpy has."""
    if not hasattr(codes, "detach"):
        return codes
    tensor = codes.detach()
    if getattr(tensor, "is_sparse", False):
        tensor = tensor.to_dense()
    tensor = tensor.cpu()
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def points_of(*arrays: ArrayLike) -> list[Points]:
    """Return codes [N, num_latent] and factors [N, num_factors], given in turn, as points.

    Each factor's values become indices into its sorted values, those of all arrays together.

    Raises:
        RepresentationError, DataError: an array has another shape or length, or holds what it cannot.
    """
    codes = [as_codes(array) for array in arrays[::2]]
    factors = [list(columns_of(array).values()) for array in arrays[1::2]]
    for one, columns in zip(codes, factors, strict=True):
        shape = (len(columns[0]), len(columns))
        if shape != (len(one), len(factors[0])):
            raise DataError(f"factors have shape {shape}; they must be ({len(one)}, num_factors) to go with codes")
    ends = np.cumsum([len(one) for one in codes])[:-1]
    together = [np.concatenate(parts) for parts in zip(*factors, strict=True)]
    indices = np.stack([np.unique(column, return_inverse=True)[1] for column in together], axis=1).astype(np.int64)
    return [Points(one, index, np.arange(len(one))) for one, index in zip(codes, np.split(indices, ends), strict=True)]


def share_seen(train: Points, test: Points) -> float:
    """Return which share of the test points are training points too: the same rows, or the same factors on a grid."""
    if train.rows is not None and test.rows is not None:
        return float(np.isin(test.rows, train.rows).mean())
    sizes = tuple(int(size) for size in np.maximum(train.factors.max(axis=0), test.factors.max(axis=0)) + 1)
    ours, theirs = (np.ravel_multi_index(tuple(points.factors.T), sizes) for points in (train, test))
    return float(np.isin(theirs, ours).mean())


def find(name: object, records: Mapping[str, Metric]) -> Metric:
    """Return the record of a name or an alias; raise ConfigError, with the nearest name, where there is none."""
    for record in records.values():
        if name == record.name or name in record.aliases:
            return record
    known = [word for record in records.values() for word in (record.name, *record.aliases)]
    raise ConfigError(f"there is no metric {name!r}{did_you_mean(name, known)}; known are {', '.join(records)}")
