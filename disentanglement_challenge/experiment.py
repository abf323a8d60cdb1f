"""Where the files of one experiment lie: the challenge's layout, under base_path/experiment_name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from disentanglement_challenge.environment import get_config
from disentanglement_challenge.errors import ConfigError, OutputError
from disentanglement_challenge.files import check_writable, locked, remove


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
        if not config.base_path:
            raise ConfigError("AICROWD_OUTPUT_PATH is empty; name a folder, or unset it")
        return cls(Path(config.base_path) / config.experiment_name)

    @property
    def model(self) -> Path:
        """The TorchScript representation function."""
        return self.path / "representation" / "pytorch_model.pt"

    @property
    def representation_results(self) -> Path:
        """The results folder of the representation, which every metric's results start from."""
        return self.path / "representation" / "results"

    @property
    def train(self) -> Path:
        """What training leaves beside the model: operative gin config, TensorBoard events, final losses."""
        return self.path / "train"

    @property
    def metrics(self) -> Path:
        """One folder of results for each metric."""
        return self.path / "metrics"

    @property
    def scores(self) -> Path:
        """The five scores, and nothing else."""
        return self.path / "scores.json"

    @property
    def unfinished(self) -> "Experiment":
        """Where a run is written until it is whole; what a killed run leaves, and the next one removes."""
        return Experiment(self.path / "unfinished")

    def check_room(self, overwrite: bool) -> None:
        """Raises OutputError where there is a run already and `overwrite` is not set, or there is no way to write."""
        self._check([self.scores, self.metrics, self.model, self.train], overwrite)

    def check_scores(self, overwrite: bool) -> None:
        """Raises OutputError where there are scores already and `overwrite` is not set, or there is no way to write."""
        self._check([self.scores, self.metrics], overwrite)

    @contextmanager
    def writing(self) -> Iterator["Experiment"]:
        """Yields the empty `unfinished` experiment, for one process at a time, and removes it at the end."""
        with locked(self.path):
            remove(self.unfinished.path)
            try:
                yield self.unfinished
            finally:
                remove(self.unfinished.path)

    def take_training(self) -> None:
        """Puts the unfinished run in the place of the one that is here, whose scores go with it."""
        for path in (self.scores, self.metrics, self.model.parent, self.train):
            remove(path)
        self.unfinished.model.parent.rename(self.model.parent)
        self.unfinished.train.rename(self.train)

    def take_scores(self) -> None:
        """Puts the unfinished scores in the place of those that are here."""
        for path in (self.scores, self.metrics):
            remove(path)
        self.unfinished.metrics.rename(self.metrics)
        self.unfinished.scores.rename(self.scores)

    def _check(self, paths: list[Path], overwrite: bool) -> None:
        check_writable(self.path)
        present = [path for path in paths if path.exists()]
        if present and not overwrite:
            raise OutputError(
                f"{self.path} already holds {present[0].name}; "
                "choose another experiment name, or pass --overwrite to replace what is there"
            )
