"""The files of one experiment: the challenge's layout, in base_path/experiment_name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from disentanglement_challenge.environment import get_config
from disentanglement_challenge.errors import ConfigError, OutputError
from disentanglement_challenge.files import check_unlocked, check_writable, locked, make_folder, remove

# The name of a checkpoint, with its number of steps.
CHECKPOINT = "step_{}.pt"

# The formats of a representation function, the challenge's first; `export.model_file` has what writes and reads each.
MODEL_SUFFIXES = (".pt", ".pt2", ".onnx")

_UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Experiment:
    """The folder of one experiment, and the paths of its files."""

    path: Path

    @classmethod
    def from_environment(cls) -> "Experiment":
        """Return the experiment of AICROWD_OUTPUT_PATH and AICROWD_EVALUATION_NAME.

        Raises ConfigError if the name is not a plain folder name, as a run may empty the folder.
        """
        config = get_config()
        if config.experiment_name in {"", ".", "..", _UNFINISHED} or os.sep in config.experiment_name:
            raise ConfigError(
                f"the experiment name is {config.experiment_name!r}; it must be a plain name, in the folder of "
                f"AICROWD_OUTPUT_PATH, and not {_UNFINISHED!r}"
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
        """The TorchScript representation function; if there is none, a torch.export program or an ONNX model."""
        paths = map(self.model.with_suffix, MODEL_SUFFIXES)
        return next(filter(os.path.exists, paths), self.model)

    @property
    def card(self) -> Path:
        """What the model is, in the format of Hugging Face's hub."""
        return self.model.parent / "README.md"

    @property
    def representation_files(self) -> list[Path]:
        """Models in any format, and all files beside them; a training run replaces all but the user's own card."""
        return sorted(path for path in self.model.parent.rglob("*") if not path.is_dir())

    @property
    def representation_results(self) -> Path:
        """The results folder of the representation, which every metric's results include."""
        return self.path / "representation" / "results"

    @property
    def train(self) -> Path:
        """The folder of training: operative gin config, checkpoints, TensorBoard events, losses."""
        return self.path / "train"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints, from which training resumes."""
        return self.train / "checkpoints"

    @property
    def losses(self) -> Path:
        """The final losses of a finished run; an interrupted run has none."""
        return self.train / "losses.json"

    @property
    def log(self) -> Path:
        """The losses during training: a line of JSON for each logged step."""
        return self.train / "log.jsonl"

    @property
    def tracked(self) -> Path:
        """The ids of the runs that trackers (W&B, MLflow) have of this one."""
        return self.train / "trackers.json"

    @property
    def pictures(self) -> Path:
        """Pictures of the trained VAE: reconstructions, traversals and samples (`training.pictures.Pictures`)."""
        return self.train / "pictures.npz"

    @property
    def train_provenance(self) -> Path:
        """The provenance of the training: versions, machine, date."""
        return self.train / "provenance.json"

    @property
    def metrics(self) -> Path:
        """The folder with a folder of results for each metric."""
        return self.path / "metrics"

    @property
    def matrices(self) -> Path:
        """The latent by factor matrices behind the scores, as float64 [num_latent, num_factors] by metric."""
        return self.metrics / "matrices.npz"

    @property
    def metrics_provenance(self) -> Path:
        """The provenance of the scores: data, settings, versions, machine, date."""
        return self.metrics / "provenance.json"

    @property
    def scores(self) -> Path:
        """The five scores alone."""
        return self.path / "scores.json"

    @property
    def page(self) -> Path:
        """The page that shows the experiment."""
        return self.path / "page.html"

    @property
    def unfinished(self) -> "Experiment":
        """The experiment that a training run writes until it is complete; with a checkpoint it is kept until then."""
        return Experiment(self.path / _UNFINISHED)

    @property
    def place(self) -> Path:
        """The final path of the run."""
        return self.path.parent if self.path.name == _UNFINISHED else self.path

    @property
    def unfinished_scores(self) -> "Experiment":
        """The experiment that an evaluation writes until it is complete; the next one removes a killed one's files."""
        return Experiment(self.path / "unfinished_scores")

    @property
    def unfinished_model(self) -> "Experiment":
        """The experiment that a model is loaded to until it is complete."""
        return Experiment(self.path / "unfinished_model")

    @property
    def is_interrupted(self) -> bool:
        """Return whether training was stopped before its end, and can be continued."""
        return self.has_checkpoints and not self.losses.exists()

    @property
    def has_checkpoints(self) -> bool:
        """Return whether there is a checkpoint to resume from."""
        return os.path.isdir(self.checkpoints) and any(self.checkpoints.glob(CHECKPOINT.format("*")))

    @property
    def results(self) -> list[Path]:
        """The files and folders of a finished run."""
        paths = [self.scores, self.metrics, *self.representation_files, self.train]
        return [path for path in paths if path.exists()]

    def resumable(self) -> "Experiment | None":
        """Return the run that training can resume: the unfinished one, or else the finished one; None without any."""
        return next((run for run in (self.unfinished, self) if run.has_checkpoints), None)

    def check_start(self, overwrite: bool, resume: bool = False, discard_unfinished: bool = False) -> None:
        """Raise OutputError if training cannot start here.

        Another process is writing here, the folder is not writable, or there is a run and no flag about it.
        """
        check_unlocked(self.path)
        self.undo_replacement()
        check_writable(self.path)
        is_begun = self.unfinished.has_checkpoints
        if discard_unfinished and not is_begun:
            if self.is_interrupted:
                raise OutputError(
                    f"{self.path} holds a training run that was stopped, and its model so far; pass --resume to "
                    "continue it, or --overwrite to start again"
                )
            raise OutputError(f"{self.path} has no interrupted training run to discard")
        if is_begun and not (overwrite or resume or discard_unfinished):
            raise OutputError(
                f"{self.unfinished.path} holds an interrupted training run; pass --resume to continue it, "
                "--discard_unfinished to remove it and keep finished results, or --overwrite to start again"
            )
        if discard_unfinished or overwrite or (resume and self.resumable()):
            return
        if self.has_checkpoints:
            raise OutputError(
                f"{self.path} already holds a training run; pass --resume to train it further, --overwrite to replace "
                "it, or choose another experiment name"
            )
        self._check(self.results, overwrite)

    def check_loading(self, overwrite: bool) -> None:
        """Raise OutputError if a model cannot be loaded into this folder.

        Another process is writing here, the folder is not writable, or it holds something and `overwrite` is not set.
        """
        check_unlocked(self.path)
        self.undo_replacement()
        if self.resumable() and not overwrite:
            raise OutputError(
                f"{self.path} holds a training run; pass --overwrite to replace it, or name another experiment"
            )
        self._check(self.results, overwrite)

    def check_scores(self, overwrite: bool) -> None:
        """Raise OutputError if there are scores and `overwrite` is not set, or if the folder is not writable."""
        self.undo_replacement()
        self._check([self.scores, self.metrics], overwrite)

    @contextmanager
    def training(self) -> Iterator["Experiment"]:
        """Yield the `unfinished` experiment, for one process at a time.

        It may hold an earlier run's checkpoints. At the end, even after a failure, it is kept if it has any, or a
        model.
        """
        with locked(self.path):
            self._put_back()
            try:
                yield self.unfinished
            finally:
                if not (self.unfinished.has_checkpoints or self.unfinished.model.exists()):
                    remove(self.unfinished.path)

    @contextmanager
    def scoring(self) -> Iterator["Experiment"]:
        """Yield the empty `unfinished_scores` experiment, for one process at a time, and remove it at the end."""
        with self._writing(self.unfinished_scores) as unfinished:
            yield unfinished

    @contextmanager
    def loading(self) -> Iterator["Experiment"]:
        """Yield the empty `unfinished_model` experiment, for one process at a time, and remove it at the end."""
        with self._writing(self.unfinished_model) as unfinished:
            yield unfinished

    def take_training(self) -> None:
        """Replace the finished run and its scores by the unfinished run; the checkpoints move last."""
        self._replace("run", [self.page, self.scores, self.metrics])

    def take_model(self) -> None:
        """Replace a run and its scores by the loaded model."""
        self._replace("model", [self.page, self.scores, self.metrics, self.train])

    def take_scores(self, whole: bool = True) -> None:
        """Replace the existing scores by the unfinished ones; scores.json only if they are complete."""
        self._replace("scores" if whole else "metrics", [self.page])

    def undo_replacement(self) -> None:
        """Put results back in their places if a process was killed while it replaced them.

        After it there are the old results and the unfinished ones, as before the replacement; if that had been made,
        there are the new ones.

        Raises:
            OutputError: a process is writing here, or files cannot be moved.
        """
        if any(os.path.exists(self._aside(name)) for name in self._replacements):
            with locked(self.path):
                self._put_back()

    @contextmanager
    def _writing(self, unfinished: "Experiment") -> Iterator["Experiment"]:
        with locked(self.path):
            self._put_back()
            remove(unfinished.path)
            try:
                yield unfinished
            finally:
                remove(unfinished.path)

    @property
    def _replacements(self) -> dict[str, list[tuple[Path, Path]]]:
        """What is moved where in each kind of replacement, in this order."""
        run, metrics = self.unfinished, (self.unfinished_scores.metrics, self.metrics)
        return {
            "run": [(run.model.parent, self.model.parent), (run.train, self.train)],
            "model": [(self.unfinished_model.model.parent, self.model.parent)],
            "scores": [metrics, (self.unfinished_scores.scores, self.scores)],
            "metrics": [metrics],
        }

    def _aside(self, replacement: str) -> Path:
        """The folder that keeps old results during a replacement."""
        return self.path / f"replaced_{replacement}"

    def _replace(self, replacement: str, outdated: list[Path]) -> None:
        """Move new results to their places. Old ones are set aside before, and removed after."""
        moves = self._replacements[replacement]
        aside = make_folder(self._aside(replacement))
        try:
            for path in (*outdated, *(target for _, target in moves)):
                if os.path.lexists(path):
                    path.rename(aside / path.name)
            for source, target in moves:
                source.rename(target)
        except OSError as error:
            raise OutputError(f"cannot move results in {self.path}: {error.strerror}") from error
        finally:
            self._put_back()

    def _put_back(self) -> None:
        for replacement, moves in self._replacements.items():
            aside = self._aside(replacement)
            try:
                if aside.exists() and moves[-1][0].exists():  # the last move was not made
                    for source, target in moves:
                        if not source.exists():
                            target.rename(source)
                    for path in aside.iterdir():
                        path.rename(self.path / path.name)
            except OSError as error:
                raise OutputError(f"cannot move results in {self.path}: {error.strerror}") from error
            remove(aside)

    def _check(self, paths: list[Path], overwrite: bool) -> None:
        check_writable(self.path)
        present = [path for path in paths if path.exists()]
        if present and not overwrite:
            raise OutputError(
                f"{self.path} already holds {present[0].name}; "
                "choose another experiment name, or pass --overwrite to replace it"
            )
