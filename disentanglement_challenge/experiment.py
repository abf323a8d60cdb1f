"""Where the files of one experiment lie: the challenge's layout, under base_path/experiment_name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from disentanglement_challenge.environment import get_config
from disentanglement_challenge.errors import ConfigError, OutputError
from disentanglement_challenge.files import check_unlocked, check_writable, locked, remove

# The name of a checkpoint, with the number of steps made.
CHECKPOINT = "step_{}.pt"

_UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Experiment:
    """The folder of one experiment and the names of what lies in it."""

    path: Path

    @classmethod
    def from_environment(cls) -> "Experiment":
        """The experiment that AICROWD_OUTPUT_PATH and AICROWD_EVALUATION_NAME name.

        Raises ConfigError where the name is not that of a folder in the output path, which a run may empty.
        """
        config = get_config()
        if config.experiment_name in {"", ".", ".."} or os.sep in config.experiment_name:
            raise ConfigError(
                f"experiment name {config.experiment_name!r} must be a plain name; AICROWD_OUTPUT_PATH says where"
            )
        return cls(Path(config.base_path) / config.experiment_name)

    @property
    def name(self) -> str:
        """The name of the experiment's folder; a run of a sweep is called by its row and seed."""
        folder = self.place.resolve()
        return f"{folder.parent.name}/{folder.name}" if folder.name.startswith("seed_") else folder.name

    @property
    def model(self) -> Path:
        """The TorchScript representation function."""
        return self.path / "representation" / "pytorch_model.pt"

    @property
    def model_to_score(self) -> Path:
        """The TorchScript representation function; where there is none, a torch.export program or an ONNX model."""
        paths = (self.model.with_suffix(suffix) for suffix in (".pt", ".pt2", ".onnx"))
        return next(filter(os.path.exists, paths), self.model)

    @property
    def card(self) -> Path:
        """What the model is, in the format of Hugging Face's hub."""
        return self.model.parent / "README.md"

    @property
    def representation_files(self) -> list[Path]:
        """Models in any format, and whatever else was put beside them: a training run replaces it all."""
        return sorted(path for path in self.model.parent.rglob("*") if not path.is_dir())

    @property
    def representation_results(self) -> Path:
        """The results folder of the representation, which every metric's results start from."""
        return self.path / "representation" / "results"

    @property
    def train(self) -> Path:
        """What training leaves beside the model: operative gin config, checkpoints, TensorBoard events, losses."""
        return self.path / "train"

    @property
    def checkpoints(self) -> Path:
        """What a training run is resumed from."""
        return self.train / "checkpoints"

    @property
    def losses(self) -> Path:
        """The final losses of a run that came to its end; an interrupted one has none."""
        return self.train / "losses.json"

    @property
    def log(self) -> Path:
        """The losses while training went on: a line of JSON for each logged step."""
        return self.train / "log.jsonl"

    @property
    def tracked(self) -> Path:
        """The ids of the runs that trackers (W&B, MLflow) have of this one."""
        return self.train / "trackers.json"

    @property
    def pictures(self) -> Path:
        """What the trained VAE makes of images and codes (`training.pictures.Pictures`)."""
        return self.train / "pictures.npz"

    @property
    def train_provenance(self) -> Path:
        """With what, where and when the model was trained."""
        return self.train / "provenance.json"

    @property
    def metrics(self) -> Path:
        """One folder of results for each metric."""
        return self.path / "metrics"

    @property
    def matrices(self) -> Path:
        """The latent by factor matrices behind the scores, as float64 [num_latent, num_factors] by metric."""
        return self.metrics / "matrices.npz"

    @property
    def metrics_provenance(self) -> Path:
        """On what, with what, where and when the scores were computed."""
        return self.metrics / "provenance.json"

    @property
    def scores(self) -> Path:
        """The five scores, and nothing else."""
        return self.path / "scores.json"

    @property
    def page(self) -> Path:
        """All of this on a page to look at."""
        return self.path / "page.html"

    @property
    def unfinished(self) -> "Experiment":
        """Where a training run is written until it is whole. Once it has a checkpoint it stays until then."""
        return Experiment(self.path / _UNFINISHED)

    @property
    def place(self) -> Path:
        """Where the run will lie once it is whole."""
        return self.path.parent if self.path.name == _UNFINISHED else self.path

    @property
    def unfinished_scores(self) -> "Experiment":
        """Where scores are written until they are whole; what a killed evaluation leaves, and the next one removes."""
        return Experiment(self.path / "unfinished_scores")

    @property
    def is_interrupted(self) -> bool:
        """Whether training was stopped before its end, and can be continued."""
        return self.has_checkpoints and not self.losses.exists()

    @property
    def has_checkpoints(self) -> bool:
        """Whether there is something that a training run can be resumed from."""
        return os.path.isdir(self.checkpoints) and any(self.checkpoints.glob(CHECKPOINT.format("*")))

    @property
    def results(self) -> list[Path]:
        """What a finished run left here."""
        paths = [self.scores, self.metrics, *self.representation_files, self.train]
        return [path for path in paths if path.exists()]

    def resumable(self) -> "Experiment | None":
        """The run that training resumes: the unfinished one, else the one that is in its place; None without one."""
        return next((run for run in (self.unfinished, self) if run.has_checkpoints), None)

    def check_start(self, overwrite: bool, resume: bool = False, discard_unfinished: bool = False) -> None:
        """Raises OutputError where training cannot start here.

        A process is writing here, there is no way to write, or there is a run that none of the flags deals with.
        """
        check_unlocked(self.path)
        check_writable(self.path)
        is_begun = self.unfinished.has_checkpoints
        if is_begun and not (overwrite or resume or discard_unfinished):
            raise OutputError(
                f"{self.unfinished.path} holds a training run that was interrupted; pass --resume to continue it, "
                "--discard_unfinished to drop it and keep what is finished, or --overwrite to start anew"
            )
        if not (is_begun and discard_unfinished) and not (resume and self.resumable()):
            self._check(self.results, overwrite)

    def check_scores(self, overwrite: bool) -> None:
        """Raises OutputError where there are scores already and `overwrite` is not set, or there is no way to write."""
        self._check([self.scores, self.metrics], overwrite)

    @contextmanager
    def training(self) -> Iterator["Experiment"]:
        """Yields the `unfinished` experiment, for one process at a time.

        It may hold an earlier run's checkpoints. At the end, and after a failure too, it stays if it has any, or a
        model.
        """
        with locked(self.path):
            try:
                yield self.unfinished
            finally:
                if not (self.unfinished.has_checkpoints or self.unfinished.model.exists()):
                    remove(self.unfinished.path)

    @contextmanager
    def scoring(self) -> Iterator["Experiment"]:
        """Yields the empty `unfinished_scores` experiment, for one process at a time, and removes it at the end."""
        with locked(self.path):
            remove(self.unfinished_scores.path)
            try:
                yield self.unfinished_scores
            finally:
                remove(self.unfinished_scores.path)

    def take_training(self) -> None:
        """Puts the unfinished run in the place of the one that is here, whose scores go with it.

        The checkpoints move last: whenever this is cut short, the unfinished run can still be resumed, and is then
        exported and put here again.
        """
        for path in (self.page, self.scores, self.metrics, self.model.parent, self.train):
            remove(path)
        self.unfinished.model.parent.rename(self.model.parent)
        self.unfinished.train.rename(self.train)

    def take_scores(self, whole: bool = True) -> None:
        """Put the unfinished scores in the place of those that are here; scores.json only where they are whole."""
        for path in (self.page, *([self.scores] if whole else []), self.metrics):
            remove(path)
        self.unfinished_scores.metrics.rename(self.metrics)
        if whole:
            self.unfinished_scores.scores.rename(self.scores)

    def _check(self, paths: list[Path], overwrite: bool) -> None:
        check_writable(self.path)
        present = [path for path in paths if path.exists()]
        if present and not overwrite:
            raise OutputError(
                f"{self.path} already holds {present[0].name}; "
                "choose another experiment name, or pass --overwrite to replace what is there"
            )
