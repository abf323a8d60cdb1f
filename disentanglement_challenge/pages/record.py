"""Read the files of one experiment; list missing files, and raise an error for damaged ones."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.environment import get_config
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.evaluation.scores import written
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import read_arrays, read_json
from disentanglement_challenge.gin_text import config_bindings
from disentanglement_challenge.metrics import METRICS, RECORDS
from disentanglement_challenge.training.checkpoints import FREE
from disentanglement_challenge.training.log_lines import read_log
from disentanglement_challenge.training.pictures import Pictures, read_pictures

# Burda et al., "Importance Weighted Autoencoders", section 5.3.
ACTIVE_ABOVE = 0.01

# The binding of training's seed.
SEED = "model.random_seed"

_EVALUATION_CONFIG = Path("results") / "gin" / "evaluation.gin"

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Steps, and the loss after each of them."""

Training = frozenset[tuple[str, str]]
"""The bindings, as names and values, that the runs of one training share."""


@dataclass(frozen=True)
class Record:
    """The contents of one experiment's files; a missing part is None or empty, and `missing` says why.

    Attributes:
        path: the experiment's folder.
        scores: the challenge's five scores by metric; NaN for a missing one.
        metrics: the record of each computed metric: label, explanation, value, reason, and so on.
        unofficial: the settings that differ from the official ones, by gin name.
        notes: sentences to show with the scores.
        evaluation: the contents of metrics/provenance.json.
        settings: the unofficial settings of the metrics, and the engine, by gin name.
        matrices: the latent by factor matrices, float64 [num_latent, num_factors], by metric.
        variance: the variance over images of each latent's mean, float64 [num_latent].
        threshold: the variance above which a latent is active.
        pictures: the pictures of the trained VAE.
        log: the file with the losses of training.
        config: the operative gin configuration of training, as text.
        losses: the final losses, with step, seconds and steps_per_second.
        training: the contents of train/provenance.json.
        dataset: the name of the data set of the scores, or else of training.
        missing: a sentence for each missing part.
    """

    path: Path
    scores: dict[str, float] | None = None
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    unofficial: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    matrices: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    variance: NDArray[np.float64] | None = None
    threshold: float = ACTIVE_ABOVE
    pictures: Pictures | None = None
    log: Path | None = None
    config: str = ""
    losses: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    dataset: str = ""
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the experiment."""
        return Experiment(self.path).name

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Return the loss curves by name."""
        return {} if self.log is None else read_curves(self.log)

    @property
    def bindings(self) -> dict[str, str]:
        """Return the bindings of `config` by name."""
        return config_bindings(self.config)

    @property
    def model(self) -> str:
        """Return the name of the objective, such as "factor_vae"; "" if unknown."""
        return self.bindings.get("model.model", "").strip("@()")

    @property
    def seed(self) -> int | None:
        """Return the seed of training; None if unknown."""
        seed = self.bindings.get(SEED, "")
        return int(seed) if seed.isdecimal() else None

    @property
    def steps(self) -> int | None:
        """Return the number of training steps; None if unknown."""
        if "step" in self.losses:
            return int(self.losses["step"])
        if self.pictures is not None:
            return self.pictures.step
        return max((int(steps[-1]) for steps, _ in self.curves.values()), default=None)

    @property
    def num_latent(self) -> int | None:
        """Return the number of latents of the representation; None if unknown."""
        sizes = [len(matrix) for matrix in self.matrices.values()]
        sizes += [len(self.variance)] if self.variance is not None else []
        sizes += [len(self.pictures.kl)] if self.pictures is not None else []
        return sizes[0] if sizes else None

    @property
    def num_active(self) -> int | None:
        """Return the number of latents whose variance exceeds the threshold; None if unknown."""
        return None if self.variance is None else int((self.variance > self.threshold).sum())

    @property
    def order(self) -> NDArray[np.int64] | None:
        """Return all latents sorted by decreasing KL, or else by decreasing variance, or else by number."""
        by = self.pictures.kl if self.pictures is not None else self.variance
        if by is not None:
            return np.argsort(-by, kind="stable")
        return None if self.num_latent is None else np.arange(self.num_latent)

    @property
    def ordered_by(self) -> str:
        """Return the quantity that `order` sorts by."""
        return "KL" if self.pictures is not None else "variance" if self.variance is not None else "number"

    @property
    def factor_names(self) -> list[str]:
        """Return the names of the matrices' columns."""
        names = self.evaluation.get("ground_truth_data", {}).get("factor_names", [])
        count = max((matrix.shape[1] for matrix in self.matrices.values()), default=len(names))
        return [str(name) for name in names] if len(names) == count else [f"factor {index}" for index in range(count)]


def find_experiment(name: str) -> Path:
    """Return the folder of an experiment, given as a path or as a name below AICROWD_OUTPUT_PATH.

    Raises:
        DataError: there is no such experiment.
    """
    candidates = (Path(name), Path(get_config().base_path) / name)
    for candidate in candidates:
        if os.path.exists(candidate):  # unlike Path.exists, it does not raise for a name that is too long
            return candidate
    places = " nor ".join(dict.fromkeys(os.fspath(candidate) for candidate in candidates))
    raise DataError(f"there is no experiment {name!r}: neither {places} exists")


def is_experiment(path: Path) -> bool:
    """Return whether this folder contains output of any stage."""
    return bool(_parts(Experiment(path)))


def _parts(experiment: Experiment) -> list[Path]:
    parts = (experiment.train, experiment.model.parent, experiment.metrics, experiment.scores)
    return [part for part in parts if part.exists()]


def read_record(path: Path) -> Record:
    """Read the files of an experiment's folder.

    Raises:
        DataError: the folder is not an experiment, or a file in it is damaged.
    """
    experiment = Experiment(path)
    missing: list[str] = []
    if not experiment.train.exists() and experiment.unfinished.train.exists():
        missing.append(
            "Training is not finished: this page shows its files so far. Its final losses, and the pictures of the "
            "VAE, come at its end; --resume continues a run that was stopped."
        )
        experiment = experiment.unfinished
    if not _parts(experiment):
        inside = sorted(file.name for file in path.iterdir() if is_experiment(file)) if path.is_dir() else []
        hint = f"; it contains experiments, such as {inside[0]}; name one of those" if inside else ""
        raise DataError(f"{path} is not an experiment: it contains no train, representation, metrics or scores{hint}")
    content: dict[str, Any] = {}
    _read_training(experiment, content, missing)
    _read_evaluation(experiment, content, missing)
    record = Record(path, missing=tuple(missing), **content)
    sizes = {len(matrix) for matrix in record.matrices.values()}
    sizes |= {len(record.variance)} if record.variance is not None else set()
    sizes |= {len(record.pictures.kl)} if record.pictures is not None else set()
    if len(sizes) > 1:
        counts = ", ".join(map(str, sorted(sizes)))
        raise DataError(f"the files of {path} are of representations with {counts} latents; train and score it again")
    return record


def _read_training(experiment: Experiment, content: dict[str, Any], missing: list[str]) -> None:
    if not experiment.train.exists():
        missing.append(
            "The model was not trained here: there are no losses, reconstructions, traversals, samples or "
            "configuration."
        )
        postprocess = experiment.representation_results / "gin" / "postprocess.gin"
        content["dataset"] = config_bindings(_text(postprocess)).get("dataset.name", "").strip("'\"")
        return
    config = experiment.train / "config.gin"
    content["config"] = _text(config)
    if not content["config"]:
        missing.append(f"The gin configuration of training ({config.name}) is missing.")
    content["dataset"] = config_bindings(content["config"]).get("dataset.name", "").strip("'\"")
    if experiment.log.exists():
        content["log"] = experiment.log
    else:
        missing.append(f"There are no loss curves: {experiment.log.name} is missing.")
    is_unfinished = experiment.place != experiment.path
    if experiment.losses.exists():
        content["losses"] = _numbers(experiment.losses)
    elif not is_unfinished:
        missing.append("Training was stopped before its end, so there are no final losses and no training time.")
    if experiment.pictures.exists():
        content["pictures"] = read_pictures(experiment.pictures)
    elif not is_unfinished:
        missing.append(
            "There are no pictures of the VAE (pictures.npz): training was killed, or an earlier version trained it. "
            "--resume with a larger model.training_steps draws them."
        )
    if experiment.train_provenance.exists():
        content["training"] = _provenance(experiment.train_provenance)
        content["dataset"] = content["training"].get("ground_truth_data", {}).get("name") or content["dataset"]
    else:
        missing.append("Machine and versions of training (train/provenance.json) are not recorded.")
    pictures = content.get("pictures")
    if pictures is not None:
        content["variance"] = pictures.variance.astype(np.float64)


def _read_evaluation(experiment: Experiment, content: dict[str, Any], missing: list[str]) -> None:
    if experiment.scores.exists():
        scores = _numbers(experiment.scores, or_none=True)
        if set(scores) != set(METRICS):
            raise DataError(f"{experiment.scores} is damaged: it has {', '.join(scores)}, not {', '.join(METRICS)}")
        content["scores"] = {metric: np.nan if scores[metric] is None else scores[metric] for metric in METRICS}
    else:
        missing.append("There are no scores yet: run.py --evaluate_only computes them.")
        if not experiment.metrics_provenance.exists():
            return
    if experiment.metrics_provenance.exists():
        content["evaluation"] = _provenance(experiment.metrics_provenance)
        content["dataset"] = content["evaluation"].get("ground_truth_data", {}).get("name") or content["dataset"]
    else:
        missing.append("Data set, machine and versions of the scores (metrics/provenance.json) are not recorded.")
    _read_metrics(experiment, content)
    if experiment.matrices.exists():
        content["matrices"] = read_arrays(experiment.matrices)
        for metric, matrix in content["matrices"].items():
            if matrix.ndim != 2 or matrix.dtype != np.float64 or not matrix.shape[1]:
                raise DataError(f"{experiment.matrices} is damaged: {metric!r} is not a matrix of float64")
        if len({matrix.shape[1] for matrix in content["matrices"].values()}) > 1:
            raise DataError(f"{experiment.matrices} is damaged: its matrices differ in their numbers of factors")
    has_matrix = any(metric.get("matrix_label") for metric in content["metrics"].values())
    if has_matrix and not content.get("matrices"):
        engine = content.get("evaluation", {}).get("engine")
        reason = "disentanglement_lib's own code does not return them" if engine == "library" else "they were not saved"
        missing.append(f"The matrices behind the scores are missing: {reason}. The fast engine writes them.")
    activity = experiment.metrics / "activity" / "results" / "aggregate" / "evaluation.json"
    if activity.exists():
        results = _mapping(activity)
        try:
            content["variance"] = np.array(results["evaluation_results.activity"], dtype=np.float64)
            content["threshold"] = float(results.get("evaluation_config.activity.threshold", ACTIVE_ABOVE))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{activity} is damaged: it contains no variances of the latents") from error


def _read_metrics(experiment: Experiment, content: dict[str, Any]) -> None:
    """Read the record of each metric; older scores have no record and get the metric's current description."""
    evaluation = content.get("evaluation", {})
    recorded = evaluation.get("metrics")
    if recorded is None:
        recorded = {
            name: {"label": metric.label, "explanation": metric.explanation, "matrix_label": metric.matrix_label,
                   "is_count": metric.is_count}
            for name, metric in METRICS.items()
        }  # fmt: skip
    settings = evaluation.get("unofficial_settings")
    if settings is None:
        settings = _unofficial_bindings(experiment)
    elif isinstance(settings, Mapping):
        settings = written(settings)
    if not isinstance(recorded, Mapping) or not isinstance(settings, Mapping):
        raise DataError(f"{experiment.metrics_provenance} is damaged: its metrics are not names and values")
    content["metrics"] = {str(name): dict(metric) for name, metric in recorded.items() if isinstance(metric, Mapping)}
    content["unofficial"] = dict(settings)
    engine = str(evaluation.get("engine", "fast")).replace("exact", "fast")  # its former name
    content["settings"] = {**settings, "evaluation.engine": repr(engine)}
    content["notes"] = [str(note) for note in evaluation.get("notes", [])]


def _unofficial_bindings(experiment: Experiment) -> dict[str, str]:
    """Return the settings in each metric's own configuration that differ from the official ones."""
    official = {"evaluation.random_seed": "0"}
    found: dict[str, str] = {}
    for name, metric in RECORDS.items():
        official |= written(metric.official())
        found |= config_bindings(_text(experiment.metrics / name / _EVALUATION_CONFIG))
    return {name: value for name, value in found.items() if name in official and value != official[name]}


def training_of(bindings: Mapping[str, str]) -> Training:
    """Return the bindings that the weights of a run depend on, except its seed and its number of steps.

    Runs with equal bindings and seed are one training at different steps.

    Args:
        bindings: all bindings of the run, by name.
    """
    return frozenset(item for item in bindings.items() if item[0] != SEED and not item[0].startswith(FREE))


def read_curves(log: Path) -> dict[str, Curve]:
    """Return the logged losses by name. Raise DataError if the file is damaged."""
    entries = read_log(log)
    names = [name for name in dict.fromkeys(name for entry in entries for name in entry) if name != "step"]
    logged = {name: [(entry["step"], entry[name]) for entry in entries if name in entry] for name in names}
    return {
        name: (np.array([step for step, _ in curve]), np.array([value for _, value in curve]))
        for name, curve in logged.items()
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from error


def _mapping(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise DataError(f"{path} is damaged: it contains {type(content).__name__}, not names and values")
    return dict(content)


def _provenance(path: Path) -> dict[str, Any]:
    content = _mapping(path)
    for name in ("machine", "versions", "seconds", "ground_truth_data"):
        if not isinstance(content.get(name, {}), Mapping):
            raise DataError(f"{path} is damaged: {name} is {content[name]!r}, not names and values")
    try:
        if "date" in content:
            datetime.fromisoformat(content["date"])
        sum(content.get("seconds", {}).values())
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    return content


def _numbers(path: Path, or_none: bool = False) -> dict[str, Any]:
    content = _mapping(path)
    for name, value in content.items():
        if value is None and or_none:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{path} is damaged: {name} is {value!r}, which is not a number")
    return content
