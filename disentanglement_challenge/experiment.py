"""Where the files of one experiment lie: the challenge's layout, under base_path/experiment_name."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from disentanglement_challenge.environment import get_config
from disentanglement_challenge.errors import OutputError
from disentanglement_challenge.files import make_folder


@dataclass(frozen=True)
class Experiment:
    """The folder of one experiment and the names of what lies in it."""

    path: Path

    @classmethod
    def from_environment(cls) -> "Experiment":
        """The experiment that AICROWD_OUTPUT_PATH and AICROWD_EVALUATION_NAME name."""
        config = get_config()
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

    def check_room(self, overwrite: bool) -> None:
        """Creates the folder; raises OutputError where it holds a run already and `overwrite` is not set."""
        self._check([self.scores, self.metrics, self.model, self.train], overwrite)

    def clear_training(self) -> None:
        """Removes what an earlier run left, its scores included."""
        _remove([self.scores, self.metrics, self.path / "representation", self.train])

    def check_scores(self, overwrite: bool) -> None:
        """Raises OutputError where there are scores already and `overwrite` is not set, or there is no way to write."""
        self._check([self.scores, self.metrics], overwrite)

    def clear_scores(self) -> None:
        """Removes earlier scores."""
        _remove([self.scores, self.metrics])

    def _check(self, paths: list[Path], overwrite: bool) -> None:
        make_folder(self.path)
        present = [path for path in paths if path.exists()]
        if present and not overwrite:
            raise OutputError(
                f"{self.path} already holds {present[0].name}; "
                "choose another experiment name, or pass --overwrite to replace what is there"
            )


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
