"""The challenge's five scores of an exported representation, laid out as the starter kit's evaluation lays them out.

This stands in for `disentanglement_lib.evaluation.evaluate`, which needs packages that no longer exist. The metrics are
the library's own under `evaluation.engine = "library"`, and those of `exact` otherwise.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gin
import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.typing import NDArray

from disentanglement_challenge import library
from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.config import bound_parameters, bound_value, gin_configuration
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, NamedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.environment import use_cuda
from disentanglement_challenge.errors import ConfigError, DataError, OutputError, RepresentationError
from disentanglement_challenge.evaluation.exact import exact_metric
from disentanglement_challenge.evaluation.settings import check_numbers
from disentanglement_challenge.evaluation.table import RepresentationTable
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import import_model, read_metadata
from disentanglement_challenge.export.representor import RepresentationFunction, make_representor
from disentanglement_challenge.export.sandbox import Sandbox
from disentanglement_challenge.files import make_folder, write_arrays, write_json
from disentanglement_challenge.metrics import ACTIVITY, METRICS, MORE_METRICS
from disentanglement_challenge.provenance import provenance

METRIC_FILE = "metrics/{}.gin"

EvaluationFn = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Score:
    """A metric's score, and the seconds it took to compute."""

    value: float
    seconds: float


@dataclass(frozen=True)
class Scores:
    """What one evaluation found.

    Attributes:
        ground_truth_data: what the representation was scored on.
        engine: "exact" or "library".
        encoding_seconds: what encoding all images beforehand took; 0 where each metric encodes its own.
        by_metric: in the order of METRICS, ACTIVITY and MORE_METRICS.
    """

    ground_truth_data: NamedGroundTruthData
    engine: str
    encoding_seconds: float
    by_metric: dict[str, Score]


def evaluate(
    experiment: Experiment,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
    overwrite: bool = False,
    all_metrics: bool = False,
    sandbox: bool = False,
) -> Scores:
    """Computes the five scores of `experiment.model_to_score` and writes them below the experiment's folder.

    Each metric runs under its official settings (gin/metrics), overridden by `gin_files` and then by `gin_bindings`. It
    writes metrics/<metric>/results as `disentanglement_lib.utils.results.update_result_directory` does, then the latent
    by factor matrices where the engine tells them and what all was computed with, and at the end scores.json. All of it
    takes its place at once, when it is whole.

    Args:
        experiment: must hold a model.
        gin_files, gin_bindings: as for `gin_configuration`; a `dataset.name` other than "auto" names the data set,
            which is otherwise the one the model was trained on if that is on record, else AICROWD_DATASET_NAME's.
        overwrite: whether scores that are there already may be replaced.
        all_metrics: whether to compute `MORE_METRICS` too; they get their results, and scores.json stays the five.
        sandbox: whether to load and compute the model in a `Sandbox`.

    Raises:
        RepresentationError: the model cannot be loaded, or does not compute a representation.
        DataError, ConfigError, OutputError: as those stages raise them.
    """
    keep_freed_memory()
    with _loaded(experiment.model_to_score, gin_files, gin_bindings, sandbox) as representation_function:
        return _evaluate(experiment, representation_function, gin_files, gin_bindings, overwrite, all_metrics)


def _evaluate(
    experiment: Experiment,
    representation_function: RepresentationFunction,
    gin_files: Sequence[str],
    gin_bindings: Sequence[str],
    overwrite: bool,
    all_metrics: bool,
) -> Scores:
    experiment.check_scores(overwrite)
    check_settings(gin_files, gin_bindings, all_metrics)
    configurations = _configurations(gin_files, gin_bindings, all_metrics)
    needed = []
    for files, bindings in configurations.values():
        with gin_configuration(files, bindings):
            ground_truth_data = _load_data(experiment)
            _check_factors(ground_truth_data)
            evaluation = Evaluation()
            needed.append(evaluation.images(ground_truth_data))
    _check(representation_function, ground_truth_data)

    keys = {**METRICS, **ACTIVITY, **MORE_METRICS}
    images = np.concatenate(needed)
    scores: dict[str, Score] = {}
    matrices: dict[str, NDArray[Any]] = {}
    with ExitStack() as stack:
        unfinished = stack.enter_context(experiment.scoring())
        source: tuple[Any, RepresentationFunction] = (ground_truth_data, representation_function)
        encoding_seconds = 0.0
        if len(images) and isinstance(ground_truth_data, IndexedGroundTruthData):
            started = time.monotonic()
            with gin_configuration(gin_files, gin_bindings):  # which may set the table's memory limit
                folder = make_folder(unfinished.path)
                table = RepresentationTable(
                    ground_truth_data, representation_function, images, batch_size=_encoding_batch(), folder=folder
                )
            stack.enter_context(table)
            source = (table.index_data, table.lookup)
            encoding_seconds = time.monotonic() - started
        for metric, (files, bindings) in configurations.items():
            with gin_configuration(files, bindings):
                _load_data(experiment)  # so that the saved configuration names the data set
                started = time.monotonic()
                results, matrix = Evaluation().results(*source)
                seconds = time.monotonic() - started
                if keys[metric] not in results:
                    raise ConfigError(f"evaluation.evaluation_fn gives no {keys[metric]}, the score of {metric}")
                _write_results(experiment, unfinished, metric, {**results, "elapsed_time": seconds})
            scores[metric] = Score(float(results[keys[metric]]), seconds)
            if matrix is not None:
                matrices[metric] = matrix.astype(np.float64)
        found = Scores(ground_truth_data, evaluation.engine, encoding_seconds, scores)
        write_arrays(unfinished.matrices, matrices)
        write_json(unfinished.metrics_provenance, _provenance(found))
        write_json(unfinished.scores, {metric: scores[metric].value for metric in METRICS})
        experiment.take_scores()
    return found


def check_settings(gin_files: Sequence[str] = (), gin_bindings: Sequence[str] = (), all_metrics: bool = False) -> None:
    """Raises ConfigError where a metric cannot be computed under these settings; reads no data and no model."""
    for files, bindings in _configurations(gin_files, gin_bindings, all_metrics).values():
        with gin_configuration(files, bindings):
            check_numbers()
            Evaluation()


@contextmanager
def _loaded(
    path: Path, gin_files: Sequence[str], gin_bindings: Sequence[str], sandbox: bool
) -> Iterator[RepresentationFunction]:
    if not sandbox:
        yield make_representor(import_model(path))
        return
    with gin_configuration(gin_files, gin_bindings):  # which may set the sandbox's limits
        sandboxed = Sandbox(path)
    with sandboxed:
        yield sandboxed


def check_before_training() -> None:
    """Raises DataError or ConfigError where what gin describes, data set and encoder, cannot be scored once trained."""
    if bound_parameters("encoder").get("num_latent") == 1:
        raise ConfigError(
            "encoder.num_latent is 1, which cannot be scored, as SAP and MIG are gaps between two latents; "
            "train_pytorch.py trains it"
        )
    _check_factors(get_named_ground_truth_data())


def _check_factors(ground_truth_data: NamedGroundTruthData) -> None:
    fault = "it has no factors" if ground_truth_data.num_factors == 0 else ""
    for name, size in zip(ground_truth_data.factor_names, ground_truth_data.factors_num_values, strict=True):
        if size == 1:
            fault = f"its factor {name!r} has one value, so that there is nothing to tell apart"
    if fault:
        raise DataError(
            f"data set {ground_truth_data.name!r} cannot be scored, as {fault}; train_pytorch.py trains on it"
        )


def _configurations(
    gin_files: Sequence[str], gin_bindings: Sequence[str], all_metrics: bool
) -> dict[str, tuple[list[str], list[str]]]:
    """The gin files and bindings of each metric."""
    return {
        metric: ([METRIC_FILE.format(metric), *gin_files], [*gin_bindings, f"evaluation.name = {metric!r}"])
        for metric in (*METRICS, *ACTIVITY, *(MORE_METRICS if all_metrics else ()))
    }


@gin.configurable("evaluation")
class Evaluation:
    """One metric, as gin's `evaluation` bindings describe it (`disentanglement_lib.evaluation.evaluate`)."""

    def __init__(
        self,
        evaluation_fn: EvaluationFn = gin.REQUIRED,
        random_seed: int = gin.REQUIRED,
        name: str = "",
        engine: str = "exact",
    ) -> None:
        """Reads the bindings.

        Args:
            evaluation_fn: disentanglement_lib's function.
            random_seed: of the random state that it draws from.
            name: only labels the saved configuration.
            engine: "library" runs `evaluation_fn` as it is, "exact" the fast stand-in for it (`exact`).

        Raises:
            ConfigError: another engine, a seed that is none, or a function or setting that the exact engine has no
                stand-in for.
        """
        if engine not in ("exact", "library"):
            raise ConfigError(f"evaluation.engine is {engine!r}; it is 'exact' or 'library'")
        if isinstance(random_seed, bool) or not isinstance(random_seed, int) or not 0 <= random_seed < 2**32:
            raise ConfigError(f"evaluation.random_seed is {random_seed!r}; it is an integer from 0 to 2**32 - 1")
        self.random_seed = random_seed
        self.engine = engine
        self.evaluation_fn = evaluation_fn
        self.exact = exact_metric(evaluation_fn) if engine == "exact" else None
        if self.exact is not None:
            self.exact.settings()

    def images(self, ground_truth_data: NamedGroundTruthData) -> NDArray[np.int64]:
        """The indices of the images whose representations `results` looks up.

        None where they are encoded as they are sampled: by the library's code, and of data whose observations are
        random, so that none comes twice.
        """
        if self.exact is None or not isinstance(ground_truth_data, IndexedGroundTruthData):
            return np.empty(0, dtype=np.int64)
        return self.exact.images(ground_truth_data, self.random_seed)

    def results(
        self, ground_truth_data: GroundTruthData, representation_function: RepresentationFunction
    ) -> tuple[dict[str, Any], NDArray[Any] | None]:
        """The metric's results under the library's keys, with which engine computed them, and the matrix behind them.

        The matrix is [num_latent, num_factors]; None where there is none or the engine, as the library's, keeps it.
        """
        # The library's trees and support vector machines draw from numpy's global generator, which it leaves unseeded.
        np.random.seed(self.random_seed)
        arguments = (ground_truth_data, representation_function, np.random.RandomState(self.random_seed))
        results, matrix = self.exact(*arguments) if self.exact else (self.evaluation_fn(*arguments), None)
        return {**{key: _plain(value) for key, value in results.items()}, "engine": self.engine}, matrix


def _plain(value: Any) -> Any:
    # The library's JSON encoder names numpy types that numpy 2 removed, and fails on any numpy value but float64.
    return value.item() if isinstance(value, np.generic) else value.tolist() if isinstance(value, np.ndarray) else value


def _provenance(scores: Scores) -> dict[str, Any]:
    data = scores.ground_truth_data
    return {
        **provenance(),
        "ground_truth_data": {
            "name": data.name,
            "note": data.note,
            "factor_names": data.factor_names,
            "factor_sizes": [int(size) for size in data.factors_num_values],
        },
        "engine": scores.engine,
        "seconds": {"encoding": scores.encoding_seconds, **{m: score.seconds for m, score in scores.by_metric.items()}},
    }


def _encoding_batch() -> int:
    # Measured with conv_encoder on 2 cores: 22,000 images a second at 64, 8,300 at 512, whose activations leave the
    # caches. A GPU wants enough images to fill it.
    return 1024 if use_cuda() else 64


def _check(representation_function: RepresentationFunction, ground_truth_data: NamedGroundTruthData) -> None:
    """Raises RepresentationError for what would make an hour of metrics worthless."""
    observations = ground_truth_data.sample_observations(64, np.random.RandomState(0))
    at_once = representation_function(observations)
    if at_once.shape[1] < 2:
        raise RepresentationError("the representation has one latent; SAP and MIG are gaps between two")
    one_by_one = np.concatenate([representation_function(observations[i : i + 1]) for i in range(8)])
    if one_by_one.shape[1] != at_once.shape[1] or not np.allclose(one_by_one, at_once[:8], rtol=1e-3, atol=1e-4):
        raise RepresentationError(
            "the model gives an image another representation alone than in a batch, or each time; "
            "it must be a function of the image"
        )


def _load_data(experiment: Experiment) -> NamedGroundTruthData:
    if bound_value("dataset.name") in (None, "auto"):
        trained_on = _trained_on(experiment)
        if trained_on is not None:
            with gin.unlock_config():
                gin.bind_parameter("dataset.name", trained_on)
    return get_named_ground_truth_data()


def _trained_on(experiment: Experiment) -> str | None:
    """The data set's name, from where disentanglement_lib has it, or from the model's own file."""
    postprocess_gin = experiment.representation_results / "gin" / "postprocess.gin"
    if not postprocess_gin.is_file():
        metadata = read_metadata(experiment.model_to_score)
        return metadata.dataset if metadata else None
    match = re.search(r"""^dataset\.name\s*=\s*['"](.+?)['"]""", postprocess_gin.read_text(), re.MULTILINE)
    return match.group(1) if match else None


def _write_results(experiment: Experiment, unfinished: Experiment, metric: str, results: dict[str, Any]) -> None:
    earlier = experiment.representation_results
    try:
        library.results.update_result_directory(
            str(unfinished.metrics / metric / "results"),
            "evaluation",
            results,
            str(earlier) if earlier.is_dir() else None,
        )
    except OSError as error:
        raise OutputError(f"cannot write the results of {metric} to {experiment.path}: {error}") from error
