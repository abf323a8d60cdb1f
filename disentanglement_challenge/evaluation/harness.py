"""The challenge's five scores of an exported representation, laid out as the starter kit's evaluation lays them out.

This stands in for `disentanglement_lib.evaluation.evaluate`, which needs packages that no longer exist; the metrics
themselves are the library's.
"""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gin
import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.typing import NDArray

from disentanglement_challenge import dlib
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.errors import ConfigError, OutputError
from disentanglement_challenge.evaluation.exact import exact_metric
from disentanglement_challenge.evaluation.table import RepresentationTable
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.torchscript import RepresentationFunction, import_model, make_representor
from disentanglement_challenge.files import write_json

# The challenge's metrics in the order of the report's tables, and the result of each that is its score.
METRICS = {
    "factor_vae_metric": "eval_accuracy",
    "sap_score": "SAP_score",
    "dci": "disentanglement",
    "irs": "IRS",
    "mig": "discrete_mig",
}

# What `all_metrics` adds, in the same form; unlike the challenge's these are not all between 0 and 1.
MORE_METRICS = {
    "beta_vae_sklearn": "eval_accuracy",
    "modularity_explicitness": "modularity_score",
    "unsupervised": "gaussian_total_correlation",
    "activity": "num_active",
}

EvaluationFn = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Score:
    """A metric's score, and the seconds it took to compute."""

    value: float
    seconds: float


def evaluate(
    experiment: Experiment,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
    overwrite: bool = False,
    all_metrics: bool = False,
    report: Callable[[str, Score], None] = lambda metric, score: None,
) -> dict[str, Score]:
    """Computes the five scores of `experiment.model` and writes them below the experiment's folder.

    Each metric runs under its official settings (gin/metrics), overridden by `gin_files` and then by `gin_bindings`. It
    writes metrics/<metric>/results as `disentanglement_lib.utils.results.update_result_directory` does, and at the end
    scores.json.

    Args:
        experiment: must hold a model.
        gin_files, gin_bindings: as for `gin_configuration`; a `dataset.name` other than "auto" names the data set,
            which is otherwise the one the model was trained on if that is on record, else AICROWD_DATASET_NAME's.
        overwrite: whether scores that are there already may be replaced.
        all_metrics: whether to compute `MORE_METRICS` too; they get their results, and scores.json stays the five.
        report: called with each metric's name and score as it is done.

    Raises:
        RepresentationError: the model cannot be loaded, or does not compute a representation.
        DataError, ConfigError, OutputError: as those stages raise them.
    """
    representation_function = make_representor(import_model(experiment.model))
    wanted = {**METRICS, **MORE_METRICS} if all_metrics else METRICS
    configurations = {
        metric: ([f"metrics/{metric}.gin", *gin_files], [*gin_bindings, f"evaluation.name = {metric!r}"])
        for metric in wanted
    }
    # Whatever can be wrong is found out before the first score is computed and the old ones are removed.
    experiment.check_scores(overwrite)
    needed = []
    for files, bindings in configurations.values():
        with gin_configuration(files, bindings):
            ground_truth_data = _load_data(experiment)
            needed.append(Evaluation().images(ground_truth_data))
    _check(representation_function, ground_truth_data)

    images = np.concatenate(needed)
    with ExitStack() as stack:
        source: tuple[GroundTruthData, RepresentationFunction] = (ground_truth_data, representation_function)
        if len(images):
            table = stack.enter_context(
                RepresentationTable(ground_truth_data, representation_function, images, folder=experiment.path)
            )
            source = (table.index_data, table.lookup)
        experiment.clear_scores()
        scores = {}
        for metric, (files, bindings) in configurations.items():
            with gin_configuration(files, bindings):
                _load_data(experiment)  # so that the saved configuration names the data set
                started = time.monotonic()
                results = Evaluation().results(*source)
                seconds = time.monotonic() - started
                _write_results(experiment, metric, {**results, "elapsed_time": seconds})
            scores[metric] = Score(float(results[wanted[metric]]), seconds)
            report(metric, scores[metric])
    write_json(experiment.scores, {metric: scores[metric].value for metric in METRICS})
    return scores


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
            ConfigError: another engine, or a function or setting that the exact engine has no stand-in for.
        """
        if engine not in ("exact", "library"):
            raise ConfigError(f"evaluation.engine is {engine!r}; it is 'exact' or 'library'")
        self.random_seed = random_seed
        self.engine = engine
        self.evaluation_fn = evaluation_fn
        self.exact = exact_metric(evaluation_fn) if engine == "exact" else None

    def images(self, ground_truth_data: IndexedGroundTruthData) -> NDArray[np.int64]:
        """The indices of the images whose representations `results` looks up; none where the library's code encodes."""
        if self.exact is None:
            return np.empty(0, dtype=np.int64)
        return self.exact.images(ground_truth_data, self.random_seed)

    def results(
        self, ground_truth_data: GroundTruthData, representation_function: RepresentationFunction
    ) -> dict[str, Any]:
        """The metric's results under the library's keys, and which engine computed them."""
        # The library's trees and support vector machines draw from numpy's global generator, which it leaves unseeded.
        np.random.seed(self.random_seed)
        results = (self.exact or self.evaluation_fn)(
            ground_truth_data, representation_function, random_state=np.random.RandomState(self.random_seed)
        )
        return {**{key: _plain(value) for key, value in results.items()}, "engine": self.engine}


def _plain(value: Any) -> Any:
    # The library's JSON encoder names numpy types that numpy 2 removed, and fails on any numpy value but float64.
    return value.item() if isinstance(value, np.generic) else value.tolist() if isinstance(value, np.ndarray) else value


def _check(representation_function: RepresentationFunction, ground_truth_data: IndexedGroundTruthData) -> None:
    num_images = len(ground_truth_data.images)
    for batch_size in (1, 64):
        representation_function(ground_truth_data.observations(np.arange(batch_size) * 7919 % num_images))


def _load_data(experiment: Experiment) -> IndexedGroundTruthData:
    try:
        bound = gin.query_parameter("dataset.name")
    except ValueError:
        bound = "auto"
    trained_on = _trained_on(experiment.representation_results / "gin" / "postprocess.gin")
    if bound == "auto" and trained_on is not None:
        with gin.unlock_config():
            gin.bind_parameter("dataset.name", trained_on)
    return get_named_ground_truth_data()


def _trained_on(postprocess_gin: Path) -> str | None:
    if not postprocess_gin.is_file():
        return None
    match = re.search(r"""^dataset\.name\s*=\s*['"](.+?)['"]""", postprocess_gin.read_text(), re.MULTILINE)
    return match.group(1) if match else None


def _write_results(experiment: Experiment, metric: str, results: dict[str, Any]) -> None:
    """Writes the results to a folder of their own and moves it into place, so that there are whole results or none."""
    earlier = experiment.representation_results
    try:
        experiment.metrics.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{metric}.", dir=experiment.metrics) as folder:
            dlib.results.update_result_directory(
                str(Path(folder) / metric / "results"),
                "evaluation",
                results,
                str(earlier) if earlier.is_dir() else None,
            )
            (Path(folder) / metric).rename(experiment.metrics / metric)
    except OSError as error:
        raise OutputError(f"cannot write the results of {metric} to {experiment.metrics}: {error}") from error
