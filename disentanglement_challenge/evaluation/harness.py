"""Score an experiment: read settings from gin, compute the scores, write the starter kit's files.

It replaces `disentanglement_lib.evaluation.evaluate`, which needs packages that no longer exist.
"""

import hashlib
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gin

from disentanglement_challenge import library
from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.config import bound_parameters, bound_value, gin_configuration
from disentanglement_challenge.data.ground_truth import NamedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.errors import ConfigError, OutputError, ScoreError
from disentanglement_challenge.evaluation.bindings import Evaluation, bound, read_bound, read_evaluation, register
from disentanglement_challenge.evaluation.score import compute_scores
from disentanglement_challenge.evaluation.scores import Scores, plain
from disentanglement_challenge.evaluation.subject import describe, image_subject
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_card import write_card
from disentanglement_challenge.export.model_file import import_model, read_metadata
from disentanglement_challenge.export.representor import RepresentationFunction, encoding_batch, make_representor
from disentanglement_challenge.export.sandbox import Sandbox, check_limits
from disentanglement_challenge.files import copy_folder, make_folder, read_arrays, read_json, write_arrays, write_json
from disentanglement_challenge.metrics import METRICS, RECORDS, Metric
from disentanglement_challenge.provenance import provenance

_LOGGER = logging.getLogger(__name__)

# Computed in every evaluation of the challenge's five as additional information; it is not a score.
ACTIVITY = RECORDS["activity"]


def evaluate(
    experiment: Experiment,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
    overwrite: bool = False,
    metrics: Sequence[Metric] | None = None,
    sandbox: bool = False,
    ground_truth_data: NamedGroundTruthData | None = None,
) -> Scores:
    """Score `experiment.model_to_score` and write the scores below the experiment's folder.

    Each metric has its official settings, overridden by `gin_files` and then by `gin_bindings`. It writes
    metrics/<metric>/results like `disentanglement_lib.utils.results.update_result_directory`. The other files are the
    latent by factor matrices, metrics/provenance.json with all further facts, and scores.json with the challenge's
    five. All files appear at once, when they are complete. Then the model's card is written anew.

    Args:
        experiment: an experiment with a model.
        gin_files, gin_bindings: as for `gin_configuration`. A `dataset.name` other than "auto" names the data set;
            otherwise it is the recorded one of the training, or else AICROWD_DATASET_NAME's. `evaluation.evaluation_fn`
            names a single metric to compute.
        overwrite: whether to replace existing scores.
        metrics: the metrics to compute, by default the challenge's five and the active latents. If one of the five is
            missing, scores.json and the scores of other metrics do not change.
        sandbox: whether to load and compute the model in a `Sandbox`.
        ground_truth_data: the data set, if it is already loaded.

    Raises:
        RepresentationError: the model cannot be loaded, or does not compute a representation.
        DataError, ConfigError, OutputError: raised by the other stages.
        ScoreError: none of the metrics has a score.
    """
    keep_freed_memory()
    register(metrics or ())
    with ExitStack() as stack:
        with gin_configuration(gin_files, gin_bindings):  # it limits the sandbox, and may give the data set's path
            evaluation = _read(metrics, gin_files)
            experiment.undo_replacement()
            _check_folder(experiment, evaluation, overwrite)
            digest = _digest(experiment.model_to_score)
            representation_function = stack.enter_context(_loaded(experiment.model_to_score, sandbox))
            if ground_truth_data is None:
                ground_truth_data = _load_data(experiment)
        subject = image_subject(ground_truth_data, representation_function)
        unfinished = stack.enter_context(experiment.scoring())
        if _digest(experiment.model_to_score) != digest:  # by a training that has just ended
            raise OutputError(f"{experiment.model_to_score} was replaced meanwhile; score it again")
        scores = compute_scores(
            subject,
            evaluation.metrics,
            evaluation.settings,
            evaluation.seed,
            evaluation.engine,
            encoding_batch(representation_function),
            evaluation.memory_limit,
            make_folder(unfinished.path),
        )
        if all(value is None for value in scores.values()):  # so they do not replace those that there are
            name, score = next(iter(scores.by_metric.items()))
            raise ScoreError(f"{name} has no score: {score.reason}; nothing was written")
        _write(experiment, unfinished, scores, digest)
    return scores


def check_settings(
    gin_files: Sequence[str] = (), gin_bindings: Sequence[str] = (), metrics: Sequence[Metric] | None = None
) -> None:
    """Raise ConfigError if a metric cannot be computed under these settings; read no data and no model."""
    register(metrics or ())
    with gin_configuration(gin_files, gin_bindings):
        _read(metrics, gin_files)


def check_before_training(
    metrics: Sequence[Metric] | None = None, gin_files: Sequence[str] = ()
) -> NamedGroundTruthData:
    """Return the data set; raise DataError or ConfigError if the configured run cannot be trained and then scored.

    Args:
        metrics, gin_files: as for `evaluate`; the gin configuration is the current one.
    """
    _read(metrics, gin_files)
    if bound_parameters("encoder").get("num_latent") == 1:
        raise ConfigError(
            "encoder.num_latent is 1; scores need at least 2, as SAP and MIG are gaps between two latents "
            "(train_pytorch.py trains without scores)"
        )
    ground_truth_data = get_named_ground_truth_data()
    describe(ground_truth_data)
    return ground_truth_data


def _read(metrics: Sequence[Metric] | None, gin_files: Sequence[str]) -> Evaluation:
    # Do not make a sandbox for this, as gin would then record its parameters as used.
    check_limits(*read_bound({"sandbox.memory_limit": 1, "sandbox.time_limit": 1}).values())
    evaluation = read_evaluation(metrics, gin_files)
    if _is_whole(evaluation.metrics) and ACTIVITY not in evaluation.metrics:
        evaluation = read_evaluation([*evaluation.metrics, ACTIVITY])
    return evaluation


def _is_whole(metrics: Sequence[Metric]) -> bool:
    """Return whether the metrics contain the challenge's five, so that scores.json is written."""
    return {metric.name for metric in metrics} >= set(METRICS)


@contextmanager
def _loaded(path: Path, sandbox: bool) -> Iterator[RepresentationFunction]:
    if not sandbox:
        yield make_representor(import_model(path))
        return
    with Sandbox(path) as sandboxed:
        yield sandboxed


def _check_folder(experiment: Experiment, evaluation: Evaluation, overwrite: bool) -> None:
    """Raise OutputError if existing scores may not be replaced, or are of another model."""
    if _is_whole(evaluation.metrics):
        experiment.check_scores(overwrite)
        return
    scored = _scored_model(experiment)
    if scored is not None and scored != _digest(experiment.model_to_score):
        raise OutputError(
            f"{experiment.path} holds scores of another model than {experiment.model_to_score.name}; compute all of "
            "them again, with --evaluate_only --overwrite and without --metrics"
        )
    present = [metric.name for metric in evaluation.metrics if (experiment.metrics / metric.name).exists()]
    if present and not overwrite:
        raise OutputError(f"{experiment.path} already holds a score of {present[0]}; pass --overwrite to replace it")


def _scored_model(experiment: Experiment) -> str | None:
    """Return the digest of the model that the existing scores are of; None if none is recorded."""
    if not experiment.metrics_provenance.exists():
        return None
    content = read_json(experiment.metrics_provenance)
    digest = content.get("model_sha256") if isinstance(content, dict) else None
    return digest if isinstance(digest, str) else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _load_data(experiment: Experiment) -> NamedGroundTruthData:
    if bound_value("dataset.name") in (None, "auto"):
        trained_on = _trained_on(experiment)
        if trained_on is not None:
            with gin.unlock_config():
                gin.bind_parameter("dataset.name", trained_on)
    return get_named_ground_truth_data()


def _trained_on(experiment: Experiment) -> str | None:
    """Return the data set's name, from disentanglement_lib's file, or from the model's metadata."""
    postprocess_gin = experiment.representation_results / "gin" / "postprocess.gin"
    if not postprocess_gin.is_file():
        metadata = read_metadata(experiment.model_to_score)
        return metadata.dataset if metadata else None
    match = re.search(r"""^dataset\.name\s*=\s*['"](.+?)['"]""", postprocess_gin.read_text(), re.MULTILINE)
    return match.group(1) if match else None


def _write(experiment: Experiment, unfinished: Experiment, scores: Scores, digest: str) -> None:
    """Write the scores, and the digest of their model, to the unfinished experiment; then move them."""
    whole = _is_whole([score.metric for score in scores.by_metric.values()])
    content = {**provenance(), **_record(scores, digest)}
    matrices = dict(scores.matrices)
    if not whole and experiment.metrics.exists():
        copy_folder(experiment.metrics, unfinished.metrics)
        if experiment.matrices.exists():
            earlier = read_arrays(experiment.matrices).items()
            matrices = {name: matrix for name, matrix in earlier if name not in scores.by_metric} | matrices
        if experiment.metrics_provenance.exists():
            record = read_json(experiment.metrics_provenance)
            content = _merged(record, content) if isinstance(record, dict) else content
    for name in scores.by_metric:
        _write_results(experiment, unfinished, name, scores)
    write_arrays(unfinished.matrices, matrices)
    write_json(unfinished.metrics_provenance, content)
    if whole:
        write_json(unfinished.scores, {name: scores[name] for name in METRICS})
    experiment.take_scores(whole)
    try:
        write_card(experiment)
    except OutputError as error:  # a folder that is somebody else's; its scores lie elsewhere
        _LOGGER.warning("%s; the scores are kept, and the model has no card of them", error)


def _record(scores: Scores, digest: str) -> dict[str, Any]:
    """Return the scores' part of metrics/provenance.json, which the pages read."""
    content = plain(scores.to_dict())
    seconds = {"encoding": scores.encoding_seconds, **{name: score.seconds for name, score in scores.by_metric.items()}}
    return {
        "model_sha256": digest,
        "ground_truth_data": content["data"],
        "engine": content["engine"],
        "official": content["official"],
        "unofficial_settings": content["unofficial_settings"],
        "settings": content["settings"],
        "notes": content["notes"],
        "metrics": {
            name: {key: value for key, value in metric.items() if key != "results"}
            for name, metric in content["metrics"].items()
        },
        "seconds": seconds,
    }


def _merged(earlier: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """Merge the record of existing scores with that of these metrics."""
    merged = {**earlier, **{key: content[key] for key in ("model_sha256", "ground_truth_data")}}
    for key in ("metrics", "seconds", "settings"):
        merged[key] = {**earlier.get(key, {}), **content[key]}
    kept = earlier.get("metrics", {}).keys() - content["metrics"].keys()
    # What scores that were not computed again depend on; a setting that is not known here may be a user's own metric's.
    used = {setting for metric in kept if metric in RECORDS for setting in RECORDS[metric].settings}
    used |= {"evaluation.random_seed"} if kept else set()
    still = {
        setting: value
        for setting, value in earlier.get("unofficial_settings", {}).items()
        if setting in used or setting not in content["settings"]
    }
    merged["unofficial_settings"] = {**still, **content["unofficial_settings"]}
    merged["official"] = not merged["unofficial_settings"]
    merged["notes"] = list(dict.fromkeys([*earlier.get("notes", []), *content["notes"]]))
    return merged


def _write_results(experiment: Experiment, unfinished: Experiment, name: str, scores: Scores) -> None:
    """Write one metric's results as disentanglement_lib does, with the configuration of the computation."""
    score = scores.by_metric[name]
    metric = score.metric
    # Plain values, as the library's JSON encoder names types that numpy 2 removed. Missing results are left out.
    results = {key: value for key, value in plain(score.results).items() if value is not None}
    results |= {"engine": score.engine, "elapsed_time": score.seconds}
    earlier = experiment.representation_results
    configuration = {
        "dataset.name": scores.data["name"],
        "evaluation.evaluation_fn": f"@{metric.gin_name or metric.name}",
        "evaluation.name": name,
        "evaluation.random_seed": scores.settings["evaluation.random_seed"],
        "evaluation.engine": score.engine,
        **{setting: scores.settings[setting] for setting in metric.settings},
    }
    folder = unfinished.metrics / name / "results"
    try:
        shutil.rmtree(folder.parent, ignore_errors=True)
        with bound(configuration):
            library.results.update_result_directory(
                str(folder), "evaluation", results, str(earlier) if earlier.is_dir() else None
            )
    except OSError as error:
        raise OutputError(f"cannot write the results of {name} to {experiment.path}: {error}") from error
