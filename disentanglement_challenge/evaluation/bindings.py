"""Translate between gin's bindings and the settings of metrics: from gin for runs, to gin for the library.

disentanglement_lib's metrics are configured by gin, so gin's names are the names of settings everywhere, such as
"dci.num_train". A gin reference is a string here: "@histogram_discretizer".
"""

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import gin
from gin import config as gin_config

from disentanglement_challenge import library
from disentanglement_challenge.checks import check_count, check_number
from disentanglement_challenge.config import bound_value, gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.evaluation.scores import check_engine
from disentanglement_challenge.metrics import METRICS, RECORDS, Metric


@dataclass(frozen=True)
class Evaluation:
    """The evaluation that a gin configuration describes.

    Attributes:
        metrics: the records of the metrics to compute.
        settings: their settings by gin name.
        engine: "fast" or "library".
        seed: the seed of the random state that each metric draws from.
        memory_limit: the maximum bytes of the table of representations in memory.
    """

    metrics: list[Metric]
    settings: dict[str, Any]
    engine: str
    seed: int
    memory_limit: int


@gin.configurable("evaluation")
def _evaluation(evaluation_fn: Any = None, random_seed: int = 0, name: str = "", engine: str = "fast") -> None:
    """Declare the bindings of an evaluation, those of disentanglement_lib's `evaluate`, for `read_evaluation`."""


@gin.configurable("representation_table")
def _representation_table(memory_limit: int = 1 << 30) -> None:
    """Declare the bindings of the table of representations, for `read_evaluation`."""


def register(records: Iterable[Metric]) -> None:
    """Register the names of these metrics with gin; the library's own by importing its module."""
    for record in records:
        if record.library:
            getattr(library, record.library.partition(".")[0])
        for configurable, names in record.gin_names().items():
            if gin_config._REGISTRY.get_match(configurable) is None:
                _register(configurable, names)


def _register(name: str, parameters: Sequence[str]) -> None:
    def settings(**_: Any) -> None:
        """Declare the settings of a metric, for `read_evaluation`."""

    settings.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(parameter, inspect.Parameter.KEYWORD_ONLY, default=None) for parameter in parameters]
    )
    gin.configurable(name, module="disentanglement_challenge.metrics")(settings)


register(
    record for record in RECORDS.values() if record.library.partition(".")[0] != "unified_scores"
)  # its import draws random numbers


def read_evaluation(metrics: Sequence[Metric] | None, metric_files: Sequence[str] = ()) -> Evaluation:
    """Read the evaluation that the current gin configuration describes.

    Args:
        metrics: the metrics to compute; by default those of `evaluation.evaluation_fn`, or the challenge's five.
        metric_files: gin files that may each name a metric, like disentanglement_lib's metric_configs.

    Raises:
        ConfigError: an unknown metric, or a setting that is not allowed.
    """
    if metrics is None:
        metrics = _named_metrics(metric_files) or list(METRICS.values())
    settings = read_bound(dict(pair for record in metrics for pair in record.official().items()))
    others = {
        "evaluation.engine": "fast",
        "evaluation.random_seed": 0,
        "representation_table.memory_limit": 1 << 30,
    }
    engine, seed, limit = read_bound(others).values()
    check_engine("evaluation.engine", engine)
    check_count("evaluation.random_seed", seed, minimum=0)
    check_number("representation_table.memory_limit", limit, minimum=1)
    for record in metrics:
        record.check(settings, fast=engine == "fast")
    return Evaluation(list(metrics), settings, engine, seed, int(limit))


def read_bound(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return gin's values of these settings, or the given defaults."""
    values = dict(defaults)
    for name in values:
        with suppress(ValueError):  # not bound
            values[name] = _value(gin.query_parameter(name))
    return values


def _named_metrics(files: Sequence[str]) -> list[Metric]:
    """Return the metrics that `evaluation.evaluation_fn` names, in each of these files and in the configuration."""
    bound = bound_value("evaluation.evaluation_fn")
    if bound is None:
        return []
    named = [_value(bound)]
    if len(files) > 1:  # gin keeps only the last file's binding
        for file in files:
            with isolated(), gin_configuration([file]):
                function = bound_value("evaluation.evaluation_fn")
                if function is not None and _value(function) not in named:
                    named.insert(-1, _value(function))
    return [record for function in named for record in _records_of(function)]


def _records_of(function: Any) -> list[Metric]:
    name = str(function).lstrip("@").rsplit(".", 1)[-1]
    found = [record for record in RECORDS.values() if name in (record.gin_name or record.name, record.name)]
    if not found:
        known = ", ".join(f"@{record.gin_name or record.name}" for record in RECORDS.values())
        raise ConfigError(f"evaluation.evaluation_fn is {function}, an unknown metric; it must be one of {known}")
    return found


def _value(value: Any) -> Any:
    """Return a bound value: macros by their value, references by their name."""
    if isinstance(value, list | tuple):
        return type(value)(_value(item) for item in value)
    if isinstance(value, gin_config.ConfigurableReference):
        if value.selector == "gin.macro":
            return copy.deepcopy(value)
        return f"@{value.selector}"
    return value


def _reference(value: Any) -> Any:
    """Invert `_value`."""
    if isinstance(value, list | tuple):
        return [_reference(item) for item in value]
    if isinstance(value, str) and value.startswith("@"):
        return gin_config.ConfigurableReference(value[1:], False)
    return value


@contextmanager
def isolated() -> Iterator[None]:
    """Start with an empty gin configuration inside the block; restore the caller's afterwards."""
    tables = (gin_config._CONFIG, gin_config._OPERATIVE_CONFIG, gin_config._SINGLETONS)
    before = [dict(table) for table in tables]
    modules, locked = set(gin_config._IMPORTED_MODULES), gin_config._CONFIG_IS_LOCKED
    prefixes = list(gin_config._LOCATION_PREFIXES)
    gin.clear_config()
    try:
        yield
    finally:
        gin.clear_config()
        for table, content in zip(tables, before, strict=True):
            table.update(content)
        gin_config._IMPORTED_MODULES.update(modules)
        gin_config._LOCATION_PREFIXES[:] = prefixes
        gin_config._set_config_is_locked(locked)


@contextmanager
def bound(values: Mapping[str, Any]) -> Iterator[None]:
    """Make exactly these values gin's configuration inside the block, both bound and operative."""
    with isolated():
        for name, value in values.items():
            gin.bind_parameter(name, _reference(value))
        for key, parameters in gin_config._CONFIG.items():
            gin_config._OPERATIVE_CONFIG[key] = dict(parameters)
        yield
