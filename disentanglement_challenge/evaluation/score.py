"""Score a representation: a pure function that reads no gin configuration and leaves no file.

Each image is encoded once, even if several metrics sample it; the codes are in an unnamed temporary file.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.typing import NDArray

from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.checks import check_count
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.sampling import GridSampler, Sampler
from disentanglement_challenge.data.tables import Bins
from disentanglement_challenge.errors import (
    ChallengeError,
    ConfigError,
    DataError,
    ScoreError,
    did_you_mean,
    lines_of,
)
from disentanglement_challenge.evaluation.representation import representation_function_of
from disentanglement_challenge.evaluation.scores import Score, Scores, check_engine, metric_of, plain
from disentanglement_challenge.evaluation.subject import Subject, code_subject, image_subject
from disentanglement_challenge.evaluation.table import RepresentationTable, sampled_indices
from disentanglement_challenge.hub.repository import is_address, model_file
from disentanglement_challenge.metrics import METRICS, RECORDS, Metric

_MEMORY_LIMIT = 1 << 30


def compute_scores(
    subject: Subject,
    metrics: Sequence[Metric],
    settings: Mapping[str, Any],
    seed: int = 0,
    engine: str = "fast",
    batch_size: int = 64,
    memory_limit: int = _MEMORY_LIMIT,
    folder: Path | None = None,
) -> Scores:
    """Compute metrics.

    Args:
        subject: the representation and its data.
        metrics: the records of the metrics.
        settings: a value for each of their settings, by gin name.
        seed: the seed of the random state that each metric draws from.
        engine: "fast", or "library" for disentanglement_lib's own code for the metrics that it has.
        batch_size: the number of images to encode at a time.
        memory_limit: the maximum bytes of codes in memory; the others stay on the disk.
        folder: the folder of the temporary file of codes; by default the system's temporary folder.

    Raises:
        RepresentationError: the representation of an image is invalid.
        OutputError: the disk is too full for the codes.
    """
    _check_sampler(subject.sampler, metrics, engine)
    fast = [metric for metric in metrics if engine != "library" or not metric.library]
    sampler, encoding_seconds = subject.sampler, 0.0
    needed: dict[str, NDArray[np.int64]] = {}
    with ExitStack() as stack:
        if subject.images is not None:
            started = time.monotonic()
            needed = _needed_images(fast, subject.images, seed, settings)
            if any(map(len, needed.values())):
                assert isinstance(sampler, GridSampler)
                table = RepresentationTable(
                    subject.images,
                    sampler.representation_function,
                    np.concatenate(list(needed.values())),
                    batch_size=batch_size,
                    memory_limit=memory_limit,
                    folder=folder,
                )
                stack.enter_context(table)
                sampler = GridSampler(table.index_data, table.lookup, sampler.factor_names)
                encoding_seconds = time.monotonic() - started
        by_metric = {
            metric.name: _score(metric, sampler if metric.name in needed else subject.sampler, seed, settings, engine)
            for metric in metrics
        }
    shown = {name: settings[name] for metric in metrics for name in metric.settings}
    return Scores(
        by_metric,
        {**shown, "evaluation.random_seed": seed},
        engine,
        subject.data,
        [*subject.notes, *_seen_notes(by_metric.values())],
        encoding_seconds,
    )


def _needed_images(
    metrics: Sequence[Metric], images: IndexedGroundTruthData, seed: int, settings: Mapping[str, Any]
) -> dict[str, NDArray[np.int64]]:
    """Return the indices of the images that each metric encodes; without a metric that fails on the stand-in's codes.

    That metric encodes as it draws. If it fails there too, only its own score is missing.
    """
    needed = {}
    for metric in metrics:
        with suppress(Exception):
            needed[metric.name] = sampled_indices(images, partial(metric.draw_only, seed=seed, settings=settings))
    return needed


def _score(metric: Metric, sampler: Sampler, seed: int, settings: Mapping[str, Any], engine: str) -> Score:
    started = time.monotonic()
    results: dict[str, Any] = {}
    matrix, reason = None, ""
    by_library = engine == "library" and bool(metric.library)
    try:
        if by_library:
            from disentanglement_challenge.evaluation.library_engine import library_results

            assert isinstance(sampler, GridSampler)
            data, function = sampler.ground_truth_data, sampler.representation_function
            results = library_results(metric, data, function, seed, settings)
        else:
            results, matrix = _computed(metric, sampler, seed, settings)
    except ScoreError as error:
        reason = str(error)
    value = results.get(metric.key)
    if value is None:
        reason = reason or f"{metric.label} has no value for these codes"
    elif not np.isfinite(value):
        value, reason = None, f"{metric.label} is {value} for these codes"
    number = None if value is None else float(value)
    engine = "library" if by_library else "fast"
    return Score(metric, number, reason, dict(results), matrix, engine, time.monotonic() - started)


def _computed(
    metric: Metric, sampler: Sampler, seed: int, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Compute a metric with the fast engine.

    Raises ScoreError for a lack of memory, and for any exception of a user's own metric.
    """
    try:
        results, matrix = metric.results(sampler, seed, settings)
        values = dict(results)
        if values.get(metric.key) is not None:
            float(values[metric.key])
        return values, None if matrix is None else np.asarray(matrix, dtype=np.float64)
    except ScoreError:
        raise
    except MemoryError as error:
        counts = [f"{name} = {settings[name]}" for name in metric.settings if isinstance(settings[name], int)]
        advice = f"; lower {' or '.join(counts)}" if counts else ""
        raise ScoreError(f"{metric.name} needs more memory than there is{advice}") from error
    except Exception as error:
        if RECORDS.get(metric.name) is metric or isinstance(error, ChallengeError):
            raise
        raise ScoreError(f"{metric.name} fails ({type(error).__name__}: {lines_of(error)[0]:.200})") from error


def score(
    representation: Any,
    data: Any,
    metrics: str | Metric | Iterable[str | Metric] | None = None,
    seed: int = 0,
    engine: str = "fast",
    settings: Mapping[str, Any] | None = None,
    bins: Bins = None,
) -> Scores:
    """Score a representation: the implementation of `disentanglement_challenge.score`."""
    keep_freed_memory()
    records = chosen(metrics)
    check_engine("engine", engine)
    seed = check_count("seed", seed.item() if isinstance(seed, np.integer) else seed, minimum=0)
    values = settings_of(records, settings or {}, engine)
    if bins is not None and isinstance(data, str | GroundTruthData):
        raise ConfigError(f"bins is {bins!r}; a data set needs none, as its factors are discrete")
    if is_address(representation):
        representation = model_file(representation)
    is_codes = not (callable(representation) or isinstance(representation, str | os.PathLike))
    if isinstance(data, str):
        from disentanglement_challenge.data.named import load_data  # it imports PyTorch, which codes do not need

        data = load_data(data)
    if is_codes:
        return compute_scores(code_subject(representation, data, bins), records, values, seed, engine)
    if not isinstance(data, GroundTruthData):
        raise DataError(
            f"data is {type(data).__name__}; for a model or function it must be a data set's name or ground-truth data"
        )
    function, batch_size = representation_function_of(representation)
    return compute_scores(image_subject(data, function), records, values, seed, engine, batch_size)


def chosen(metrics: str | Metric | Iterable[str | Metric] | None) -> list[Metric]:
    """Return the records of metrics given by name, alias or record; the challenge's five by default.

    Raises ConfigError for an unknown name.
    """
    if metrics is None:
        return list(METRICS.values())
    if not isinstance(metrics, str | Metric | Iterable):
        raise ConfigError(f"metrics is {metrics!r}; it must be names or records")
    given = [metrics] if isinstance(metrics, str | Metric) else list(metrics)
    records = [item if isinstance(item, Metric) else metric_of(item) for item in given]
    if not records:
        raise ConfigError(f"metrics is empty; name at least one, such as {next(iter(METRICS))!r}")
    return list({record.name: record for record in records}.values())


def settings_of(records: Sequence[Metric], settings: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """Return a value for each setting of the metrics: the given one, or the official one.

    Raises ConfigError if none of the metrics has a setting, or if a value is not allowed.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"settings is {settings!r}; it must be names and values, such as {{'dci.num_train': 2000}}")
    values = {name: value for record in records for name, value in record.official().items()}
    for name in settings:
        if name not in values:
            raise ConfigError(
                f"none of the metrics has a setting {name!r}{did_you_mean(name, values)}; "
                f"their settings are {', '.join(values)}"
            )
    values.update({name: plain(value) for name, value in settings.items()})
    for record in records:
        record.check(values, fast=engine == "fast")
    return values


def _check_sampler(sampler: Sampler, metrics: Sequence[Metric], engine: str) -> None:
    if isinstance(sampler, GridSampler):
        return
    if engine == "library":
        raise ConfigError(
            "engine is 'library', which needs a full grid of factors; these rows are not one, so it must be 'fast'"
        )
    for metric in metrics:
        if not metric.on_rows:
            raise DataError(
                f"the rows are not a full grid; {metric.name} changes one factor and keeps the others, which needs a "
                "row for each combination of factors"
            )


def _seen_notes(scores: Iterable[Score]) -> list[str]:
    shares = [score.results["test_seen_in_training"] for score in scores if "test_seen_in_training" in score.results]
    if not any(shares):
        return []
    percent = max(1, round(100 * max(shares)))
    return [f"Up to {percent}% of a metric's test points were also among its training points."]
