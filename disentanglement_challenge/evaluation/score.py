"""Score a representation: a pure function that reads no gin configuration and leaves no file.

Each image is encoded once, even if several metrics sample it; the codes are in an unnamed temporary file.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray

from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.checks import check_count
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.sampling import GridSampler, RepresentationFunction, RowSampler, Sampler
from disentanglement_challenge.data.tables import Bins, FactorGrid, FactorTable, factor_table
from disentanglement_challenge.errors import (
    ChallengeError,
    ConfigError,
    DataError,
    RepresentationError,
    ScoreError,
    did_you_mean,
    lines_of,
)
from disentanglement_challenge.evaluation.scores import Score, Scores, check_engine, metric_of, plain
from disentanglement_challenge.evaluation.table import IndexOnlyData, RepresentationTable, sampled_indices
from disentanglement_challenge.hub.repository import is_address, model_file
from disentanglement_challenge.metrics import METRICS, RECORDS, Metric
from disentanglement_challenge.metrics.metric import as_codes

_MEMORY_LIMIT = 1 << 30
# Two factors whose normalised mutual information is above this get a note.
_DEPENDENT = 0.05


@dataclass(frozen=True)
class Subject:
    """The representation and the data to score it on.

    Attributes:
        data: facts about the data: name, note, factor_names, factor_sizes, and, for codes, the number of rows.
        sampler: draws codes and factors; for images it encodes each draw.
        images: the data whose images are encoded once; None if there is nothing to encode, or if observations are
            random and encoded as they are drawn.
        notes: caveats for readers of the scores.
    """

    data: dict[str, Any]
    sampler: Sampler
    images: IndexedGroundTruthData | None = None
    notes: tuple[str, ...] = ()


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
    by_library = [metric for metric in metrics if engine == "library" and metric.library]
    fast = [metric for metric in metrics if metric not in by_library]
    sampler, encoding_seconds = subject.sampler, 0.0
    with ExitStack() as stack:
        if subject.images is not None and fast:
            assert isinstance(sampler, GridSampler)
            started = time.monotonic()
            needed = [
                sampled_indices(subject.images, lambda drawn, metric=metric: metric.draw_only(drawn, seed, settings))  # type: ignore[misc]
                for metric in fast
            ]
            table = RepresentationTable(
                subject.images,
                sampler.representation_function,
                np.concatenate(needed),
                batch_size=batch_size,
                memory_limit=memory_limit,
                folder=folder,
            )
            stack.enter_context(table)
            sampler = GridSampler(table.index_data, table.lookup, sampler.factor_names)
            encoding_seconds = time.monotonic() - started
        by_metric = {
            metric.name: _score(metric, subject.sampler if metric in by_library else sampler, seed, settings, engine)
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
    """Compute a metric with the fast engine; raise ScoreError for any exception of a user's own metric."""
    try:
        results, matrix = metric.results(sampler, seed, settings)
        values = dict(results)
        if values.get(metric.key) is not None:
            float(values[metric.key])
        return values, None if matrix is None else np.asarray(matrix, dtype=np.float64)
    except ScoreError:
        raise
    except Exception as error:
        if RECORDS.get(metric.name) is metric or isinstance(error, ChallengeError):
            raise
        raise ScoreError(f"{metric.name} fails ({type(error).__name__}: {lines_of(error)[0]:.200})") from error


def image_subject(ground_truth_data: GroundTruthData, representation_function: RepresentationFunction) -> Subject:
    """Make a subject from the images of a data set and a function that encodes them.

    Raises:
        DataError: the data has no factors, or one with a single value.
        RepresentationError: the function's output is invalid, or is not a function of the image.
    """
    data = describe(ground_truth_data)
    check_representation_function(ground_truth_data, representation_function)
    indexed = ground_truth_data if isinstance(ground_truth_data, IndexedGroundTruthData) else None
    return Subject(data, GridSampler(ground_truth_data, representation_function, data["factor_names"]), indexed)


def code_subject(codes: Any, data: Any, bins: Bins = None) -> Subject:
    """Make a subject from codes and their data set or factors.

    Args:
        codes: [N, num_latent], numbers.
        data: ground-truth data with N images in the order of the codes, or factors (see `tables.factor_table`).
        bins: the bins of continuous factors.

    Raises:
        RepresentationError, DataError, ConfigError: codes or factors are invalid; the message names the place.
    """
    codes = as_codes(codes)
    _check_num_latent(codes.shape[1])
    if isinstance(data, GroundTruthData):
        if not isinstance(data, IndexedGroundTruthData):
            raise DataError(
                "the data set's observations are random; codes in a data set's order need a fixed image for each "
                "combination of factors"
            )
        described = describe(data)
        if len(codes) != len(data.images):
            raise DataError(
                f"there are {len(codes)} codes; data set {data.name!r} has {len(data.images)} images and needs as many"
            )
        sampler: Sampler = GridSampler(IndexOnlyData(data), codes.__getitem__, described["factor_names"])
        return Subject({**described, "rows": len(codes)}, sampler)
    table = data if isinstance(data, FactorTable) else factor_table(data, bins)
    if len(codes) != len(table.indices):
        raise DataError(f"there are {len(codes)} codes and {len(table.indices)} rows of factors; each row needs both")
    described = {
        "name": "", "note": "", "factor_names": table.names, "factor_sizes": table.sizes, "rows": len(codes),
        "is_full_grid": table.positions is not None,
    }  # fmt: skip
    notes = []
    if (codes.min(axis=0) == codes.max(axis=0)).all():
        notes.append("Every latent is constant, so these codes say nothing of the factors.")
    if table.positions is not None:
        return Subject(described, GridSampler(FactorGrid(table), codes.__getitem__, table.names), notes=tuple(notes))
    notes.append(
        f"The {len(codes)} rows are not a full grid of their factors, so rows are drawn with replacement; IRS measures "
        "association here, not the effect of an intervention."
    )
    if len(table.names) > 1:
        shared, *names = _dependence(table)
        described["largest_mutual_information"] = {"normalised": shared, "factors": names}
        if shared >= _DEPENDENT:
            notes.append(
                f"Factors {names[0]!r} and {names[1]!r} share information (normalised mutual information {shared:.2f}, "
                "the largest of all pairs), so even perfect codes cannot reach the best scores."
            )
    return Subject(described, RowSampler(codes, table.indices, table.names), notes=tuple(notes))


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


def representation_function_of(representation: Any) -> tuple[RepresentationFunction, int]:
    """Return the function that encodes images, and its batch size.

    Args:
        representation: a model file's path, a torch module, or a function of images [N, height, width, channels].

    Raises:
        RepresentationError: the file is not a model.
    """
    if isinstance(representation, str | os.PathLike) or _is_module(representation):
        # Importing PyTorch takes seconds, and codes do not need it.
        from disentanglement_challenge.export.model_file import import_model
        from disentanglement_challenge.export.representor import encoding_batch, make_representor, module_representor

        if isinstance(representation, str | os.PathLike):
            function = make_representor(import_model(representation))
        else:
            function = module_representor(representation)
        return function, encoding_batch(function)
    return _of_callable(representation), 64


def _is_module(representation: Any) -> bool:
    return any(kind.__module__ == "torch.nn.modules.module" for kind in type(representation).__mro__)


def _of_callable(function: Callable[[NDArray[Any]], Any]) -> RepresentationFunction:
    widths: set[int] = set()

    def representation_function(images: NDArray[Any]) -> NDArray[Any]:
        try:
            given = function(images.copy())  # the function may change its argument
        except ChallengeError:
            raise
        except Exception as error:  # the caller's own code may raise anything
            reason = f"{type(error).__name__}: {lines_of(error)[0]}"
            raise RepresentationError(f"the representation fails on images {images.shape}: {reason:.300}") from error
        codes = np.array(as_codes(given, "the representation's codes"))  # a copy, as the function may reuse its array
        if len(codes) != len(images):
            raise RepresentationError(
                f"the representation returns {len(codes)} codes for {len(images)} images; there must be one for each"
            )
        widths.add(codes.shape[1])
        if len(widths) > 1:
            raise RepresentationError(
                f"the representation's number of latents varies ({sorted(widths)}); it must be the same for all images"
            )
        return codes

    return representation_function


def check_representation_function(
    ground_truth_data: GroundTruthData, representation_function: RepresentationFunction
) -> None:
    """Raise RepresentationError for faults that would only show after an hour of metrics, or never."""
    observations = ground_truth_data.sample_observations(64, RandomState(0))
    try:
        at_once = representation_function(observations)
    except RepresentationError as error:
        _check_channels(representation_function, observations)
        raise error
    _check_num_latent(at_once.shape[1])
    one_by_one = np.concatenate([representation_function(observations[i : i + 1]) for i in range(8)])
    if one_by_one.shape[1] != at_once.shape[1] or not np.allclose(one_by_one, at_once[:8], rtol=1e-3, atol=1e-4):
        raise RepresentationError(
            "the representation of an image depends on the batch or is random; it must be a function of the image"
        )


def _check_channels(representation_function: RepresentationFunction, observations: NDArray[Any]) -> None:
    """Raise RepresentationError if a function that failed accepts images with another number of channels."""
    channels = observations.shape[-1]
    other = 3 if channels == 1 else 1
    try:
        representation_function(np.repeat(observations[:2, ..., :1], other, axis=-1))
    except Exception:  # it also fails on these, so the channels are not the cause
        return
    raise RepresentationError(f"the data set's images have {channels} channel(s); the model takes {other}")


def describe(ground_truth_data: GroundTruthData) -> dict[str, Any]:
    """Return facts about a data set: name, note, factor_names and factor_sizes.

    Raises DataError if scores are impossible: it has no factors, or one with a single value.
    """
    name = getattr(ground_truth_data, "name", type(ground_truth_data).__name__)
    sizes = [int(size) for size in ground_truth_data.factors_num_values]
    names = list(getattr(ground_truth_data, "factor_names", [])) or [f"factor {index}" for index in range(len(sizes))]
    fault = "" if sizes else "it has no factors"
    for factor, size in zip(names, sizes, strict=True):
        if size == 1:
            fault = f"its factor {factor!r} has only one value"
    if fault:
        raise DataError(
            f"data set {name!r}: {fault}; scores need factors with at least two values (train_pytorch.py trains "
            "without scores)"
        )
    note = getattr(ground_truth_data, "note", "")
    return {"name": name, "note": note, "factor_names": names, "factor_sizes": sizes}


def _check_num_latent(num_latent: int) -> None:
    if num_latent < 2:
        raise RepresentationError("the representation has 1 latent; SAP and MIG need at least 2")


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


def _dependence(table: FactorTable) -> tuple[float, str, str]:
    """Compute the largest normalised mutual information of two factors, in [0, 1], and return it with their names."""
    from sklearn.metrics import normalized_mutual_info_score  # takes a second to import, and a grid does not need it

    pairs = [(a, b) for b in range(len(table.names)) for a in range(b)]
    shared = [float(normalized_mutual_info_score(table.indices[:, a], table.indices[:, b])) for a, b in pairs]
    largest = int(np.argmax(shared))
    a, b = pairs[largest]
    return shared[largest], table.names[a], table.names[b]


def _seen_notes(scores: Iterable[Score]) -> list[str]:
    shares = [score.results["test_seen_in_training"] for score in scores if "test_seen_in_training" in score.results]
    if not shares:
        return []
    return [f"Up to {max(shares):.0%} of a metric's test points were also among its training points."]
