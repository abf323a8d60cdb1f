"""What the stages left on disk of one experiment: what is missing is named, what is damaged an error."""

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
"""Steps and the values after them."""

Training = frozenset[tuple[str, str]]
"""Bindings, names and values, that runs of one training share."""


@dataclass(frozen=True)
class Record:
    """One experiment as its files tell it; a part that is not there is None or empty, and `missing` says why.

    Attributes:
        path: the experiment's folder.
        scores: the five by metric; NaN for one that is missing.
        metrics: what is on record of each metric that was computed: label, explanation, value, reason, and so on.
        unofficial: the settings that were not the official ones, by gin name.
        notes: what a reader of the scores must know.
        evaluation: what metrics/provenance.json holds.
        settings: of the metrics, those that are not official and the engine, by their gin names.
        matrices: latent by factor, float64 [num_latent, num_factors], by metric.
        variance: of each latent's mean over images, float64 [num_latent].
        threshold: that an active latent's variance exceeds.
        pictures: of the trained VAE.
        log: the file of training's losses.
        config: the operative gin configuration of training, as text.
        losses: the final ones, with step, seconds and steps_per_second.
        training: what train/provenance.json holds.
        missing: a sentence for each part that is not there.
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
        """The experiment's."""
        return Experiment(self.path).name

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """The losses by name."""
        return {} if self.log is None else read_curves(self.log)

    @property
    def bindings(self) -> dict[str, str]:
        """`config`, by name."""
        return config_bindings(self.config)

    @property
    def model(self) -> str:
        """What was trained, such as "factor_vae"; "" where that is not known."""
        return self.bindings.get("model.model", "").strip("@()")

    @property
    def seed(self) -> int | None:
        """Of training."""
        seed = self.bindings.get(SEED, "")
        return int(seed) if seed.isdecimal() else None

    @property
    def steps(self) -> int | None:
        """Updates made, as far as is known."""
        if "step" in self.losses:
            return int(self.losses["step"])
        if self.pictures is not None:
            return self.pictures.step
        return max((int(steps[-1]) for steps, _ in self.curves.values()), default=None)

    @property
    def num_latent(self) -> int | None:
        """Of the representation."""
        sizes = [len(matrix) for matrix in self.matrices.values()]
        sizes += [len(self.variance)] if self.variance is not None else []
        sizes += [len(self.pictures.kl)] if self.pictures is not None else []
        return sizes[0] if sizes else None

    @property
    def num_active(self) -> int | None:
        """Latents whose variance exceeds the threshold."""
        return None if self.variance is None else int((self.variance > self.threshold).sum())

    @property
    def order(self) -> NDArray[np.int64] | None:
        """All latents, the largest KL first; by variance where no KL is known, by number where nothing is."""
        by = self.pictures.kl if self.pictures is not None else self.variance
        if by is not None:
            return np.argsort(-by, kind="stable")
        return None if self.num_latent is None else np.arange(self.num_latent)

    @property
    def ordered_by(self) -> str:
        """What `order` goes by."""
        return "KL" if self.pictures is not None else "variance" if self.variance is not None else "number"

    @property
    def factor_names(self) -> list[str]:
        """Of the matrices' columns."""
        names = self.evaluation.get("ground_truth_data", {}).get("factor_names", [])
        count = max((matrix.shape[1] for matrix in self.matrices.values()), default=len(names))
        return [str(name) for name in names] if len(names) == count else [f"factor {index}" for index in range(count)]


def find_experiment(name: str) -> Path:
    """The folder of an experiment, given as a path or as a name below AICROWD_OUTPUT_PATH.

    Raises:
        DataError: there is none.
    """
    candidates = (Path(name), Path(get_config().base_path) / name)
    for candidate in candidates:
        if os.path.exists(candidate):  # which a name that is too long for a file is no error for
            return candidate
    places = " nor ".join(dict.fromkeys(os.fspath(candidate) for candidate in candidates))
    raise DataError(f"there is no experiment {name!r}: neither {places} is there")


def is_experiment(path: Path) -> bool:
    """Whether a stage has left anything in this folder."""
    return bool(_parts(Experiment(path)))


def _parts(experiment: Experiment) -> list[Path]:
    parts = (experiment.train, experiment.model.parent, experiment.metrics, experiment.scores)
    return [part for part in parts if part.exists()]


def read_record(path: Path) -> Record:
    """Reads what an experiment's folder holds.

    Raises:
        DataError: the folder is none of an experiment, or a file in it is damaged.
    """
    experiment = Experiment(path)
    missing: list[str] = []
    if not experiment.train.exists() and experiment.unfinished.train.exists():
        missing.append("Training has not come to its end: this page shows what it has left so far.")
        experiment = experiment.unfinished
    if not _parts(experiment):
        inside = sorted(file.name for file in path.iterdir() if is_experiment(file)) if path.is_dir() else []
        hint = f"; it holds experiments, such as {inside[0]}: name those" if inside else ""
        raise DataError(f"{path} is no experiment: it holds no train, representation, metrics or scores{hint}")
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
        missing.append(f"The gin configuration of training ({config.name}) is not there.")
    content["dataset"] = config_bindings(content["config"]).get("dataset.name", "").strip("'\"")
    if experiment.log.exists():
        content["log"] = experiment.log
    else:
        missing.append(f"There are no loss curves: training has left no {experiment.log.name}.")
    if experiment.losses.exists():
        content["losses"] = _numbers(experiment.losses)
    else:
        missing.append("Training was stopped before its end, so there are no final losses and no time of training.")
    if experiment.pictures.exists():
        content["pictures"] = read_pictures(experiment.pictures)
    else:
        missing.append(
            "There are no pictures of the VAE (pictures.npz): training was killed, or made by an earlier version. "
            "--resume with a larger model.training_steps draws them."
        )
    if experiment.train_provenance.exists():
        content["training"] = _provenance(experiment.train_provenance)
    else:
        missing.append("Machine and versions of training (train/provenance.json) are not recorded.")
    pictures = content.get("pictures")
    if pictures is not None:
        content["variance"] = pictures.variance.astype(np.float64)


def _read_evaluation(experiment: Experiment, content: dict[str, Any], missing: list[str]) -> None:
    if experiment.scores.exists():
        scores = _numbers(experiment.scores, or_none=True)
        if set(scores) != set(METRICS):
            raise DataError(f"{experiment.scores} is damaged: it holds {', '.join(scores)}, not {', '.join(METRICS)}")
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
                raise DataError(f"{experiment.matrices} is damaged: {metric!r} is no matrix of float64")
        if len({matrix.shape[1] for matrix in content["matrices"].values()}) > 1:
            raise DataError(f"{experiment.matrices} is damaged: its matrices are of several numbers of factors")
    if not content.get("matrices"):
        engine = content.get("evaluation", {}).get("engine")
        reason = "disentanglement_lib's own code keeps them to itself" if engine == "library" else "they were not kept"
        missing.append(f"The matrices behind the scores are not there: {reason}. The fast engine writes them.")
    activity = experiment.metrics / "activity" / "results" / "aggregate" / "evaluation.json"
    if activity.exists():
        results = _mapping(activity)
        try:
            content["variance"] = np.array(results["evaluation_results.activity"], dtype=np.float64)
            content["threshold"] = float(results.get("evaluation_config.activity.threshold", ACTIVE_ABOVE))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{activity} is damaged: it holds no variance of each latent") from error


def _read_metrics(experiment: Experiment, content: dict[str, Any]) -> None:
    """Read what is on record of each metric; of scores from before there was a record, what the metric says itself."""
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
    engine = str(evaluation.get("engine", "fast")).replace("exact", "fast")  # as it was called once
    content["settings"] = {**settings, "evaluation.engine": repr(engine)}
    content["notes"] = [str(note) for note in evaluation.get("notes", [])]


def _unofficial_bindings(experiment: Experiment) -> dict[str, str]:
    """Read from each metric's own configuration which settings were not the official ones."""
    official = {"evaluation.random_seed": "0"}
    found: dict[str, str] = {}
    for name, metric in RECORDS.items():
        official |= written(metric.official())
        found |= config_bindings(_text(experiment.metrics / name / _EVALUATION_CONFIG))
    return {name: value for name, value in found.items() if name in official and value != official[name]}


def training_of(bindings: Mapping[str, str]) -> Training:
    """Return what the weights of a run depend on beside its seed and its number of steps.

    Runs that are equal in this, and in the seed, are one training at several of its steps.

    Args:
        bindings: of the run, by name.
    """
    return frozenset(item for item in bindings.items() if item[0] != SEED and not item[0].startswith(FREE))


def read_curves(log: Path) -> dict[str, Curve]:
    """The losses by name, as training logged them. Raises DataError where the file is damaged."""
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
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from error


def _mapping(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise DataError(f"{path} is damaged: it holds {type(content).__name__}, not names and values")
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
            raise DataError(f"{path} is damaged: {name} is {value!r}, which is no number")
    return content
