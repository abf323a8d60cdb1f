"""The record of a metric, which holds all facts that other modules need.

There are two kinds of metrics. Most are functions of points: they state the number of points (`Metric.draws`) and
receive them. The others, such as the FactorVAE score, draw from a `Sampler` themselves.

`codes.usable` selects latents and precision for all metrics. If no latent is left, the score is `Metric.collapsed`.
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
from disentanglement_challenge.errors import (
    ConfigError,
    DataError,
    RepresentationError,
    ScoreError,
    did_you_mean,
)
from disentanglement_challenge.metrics.codes import points_of, usable


class Result(NamedTuple):
    """The results of a metric.

    Attributes:
        values: results by name; disentanglement_lib's names if the library has the metric.
        matrix: latents by factors, float64 [num_latent, num_factors]; None if the metric has none.
    """

    values: dict[str, Any]
    matrix: NDArray[Any] | None = None


@dataclass(frozen=True)
class Setting:
    """A setting of a metric.

    Attributes:
        official: the challenge's value, or disentanglement_lib's (unsupervised_study_v1) for other metrics.
        parameter: the keyword of `Metric.compute`; by default the last part of its gin name.
        least, most: the bounds of a number, if any. It must be an integer if `official` is one.
        choices: the allowed values if it is not a number; for a list, those of its items.
        fast: the choices that the fast engine supports; all by default.
    """

    official: Any
    parameter: str | None = None
    least: float | None = None
    most: float | None = None
    choices: Sequence[Any] | None = None
    fast: Sequence[Any] | None = None

    def check(self, name: str, value: object) -> None:
        """Raise ConfigError, with this name, if the value is not allowed."""
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
    """Make the setting for a number of points, bins or the like."""
    return Setting(official, parameter, least)


# The discretizer of disentanglement_lib's metrics, by its gin names.
HISTOGRAM = {
    "discretizer.discretizer_fn": Setting("@histogram_discretizer", choices=("@histogram_discretizer",), parameter=""),
    "discretizer.num_bins": count(20, least=2),
}


@dataclass(frozen=True)
class Metric:
    """The record of a metric.

    Attributes:
        name: its name in results, files and on the command line.
        key: the name of the result that is the score.
        label: its heading in tables.
        explanation: one or two sentences for readers of the page: what the score, or its matrix, shows.
        compute: takes (points, ...) or, without `draws`, (sampler, random_state), then the settings as keywords, and
            returns a `Result`. It gets the latents that `usable` keeps, at least one, and its matrix has these rows.
        settings: the settings by their gin names, such as "mig.num_train".
        draws: the settings with the number of points in each argument of `compute`.
        draw: makes the same draws as `compute` and nothing else, for a metric without `draws` and a slow `compute`.
        column: its column in the report's tables, from 1; 0 if it is not one of the challenge's five.
        bounds: the least and the greatest possible score.
        higher_is_better: whether the greatest score is the best.
        tolerance: the maximum difference between the fast engine's score and the library's at the official settings;
            None if the library does not have the metric.
        library: disentanglement_lib's function, as "module.function" below its evaluation.metrics.
        gin_name: gin's name of that function.
        aliases: other accepted names.
        collapsed: the score if no latent varies; None if there is none then.
        every_latent: whether `compute` gets all latents unchanged, including constant ones.
        codes_alone: whether it uses only codes, no factors.
        beside: further results shown beside the score, with their labels.
        matrix_label: the heading of the matrix.
        missing: the matrix's entry for a latent that was left out.
        is_count: whether the matrix holds counts.
        on_rows: whether it is defined for rows that are not a full grid.
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
        """Return gin's names of the metric and its settings, with the parameters that are settings."""
        names: dict[str, list[str]] = {self.gin_name or self.name: []}
        for name in self.settings:
            configurable, _, parameter = name.rpartition(".")
            names.setdefault(configurable, []).append(parameter)
        return names

    def check(self, settings: Mapping[str, Any], fast: bool = True) -> None:
        """Raise ConfigError if a setting has a value that is not allowed, or that the fast engine does not support."""
        for name, setting in self.settings.items():
            setting.check(name, settings[name])
            if fast and setting.fast is not None and settings[name] not in setting.fast:
                raise ConfigError(f"{name} = {settings[name]!r} needs evaluation.engine = 'library'")

    def results(self, sampler: Sampler, seed: int, settings: Mapping[str, Any]) -> Result:
        """Compute the metric.

        Args:
            sampler: the source of points.
            seed: the seed of the random state of the draws.
            settings: a value for each of `settings`, by gin name.

        Raises:
            ScoreError: the score is undefined on the points that were drawn.
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
            **settings: the keywords of `compute`; by default the official values.
        """
        keywords = {**self._without_draws(self._keywords(self.official())), **settings}
        samples = points_of(*arrays)
        names = [f"factor {index}" for index in range(samples[0].factors.shape[1])]
        return self._of_points(samples, names, keywords)

    def draw_only(self, sampler: Sampler, seed: int, settings: Mapping[str, Any]) -> None:
        """Make the same draws as `results` without computing, so that a sampler can record them."""
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
                raise DataError(f"factor {name!r} has one value in all sampled points; the metric needs at least two")
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
        """Return a result; raise DataError if its matrix does not have the shape of its latents and factors."""
        shape = (num_latent, num_factors)
        if result.matrix is not None and np.shape(result.matrix) != shape and not self.codes_alone:
            raise DataError(f"{self.name} returns a matrix of shape {np.shape(result.matrix)}; it must be {shape}")
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

    The library leaves some of scikit-learn's models unseeded, which then draw from it; so does one of its metrics.
    """
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def spread(result: Result, left: NDArray[np.bool_], missing: float) -> Result:
    """Give the result's matrix a row for each latent; rows of latents that were left out hold `missing`."""
    if result.matrix is None:
        return result
    matrix = np.full((len(left), result.matrix.shape[1]), missing, dtype=np.float64)
    matrix[left] = result.matrix
    return Result(result.values, matrix)


def share_seen(train: Points, test: Points) -> float:
    """Return the share of test points that are also training points: the same rows, or the same factors on a grid."""
    if train.rows is not None and test.rows is not None:
        return float(np.isin(test.rows, train.rows).mean())
    sizes = tuple(int(size) for size in np.maximum(train.factors.max(axis=0), test.factors.max(axis=0)) + 1)
    ours, theirs = (np.ravel_multi_index(tuple(points.factors.T), sizes) for points in (train, test))
    return float(np.isin(theirs, ours).mean())


def find(name: object, records: Mapping[str, Metric]) -> Metric:
    """Return the record of a name or an alias; raise ConfigError, with the nearest name, if there is none."""
    for record in records.values():
        if name == record.name or name in record.aliases:
            return record
    known = [word for record in records.values() for word in (record.name, *record.aliases)]
    raise ConfigError(f"there is no metric {name!r}{did_you_mean(name, known)}; known: {', '.join(records)}")
