"""Log to a run of MLflow: https://mlflow.org/docs"""

import os
import time
from collections.abc import Mapping

import mlflow
import numpy as np
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from disentanglement_challenge.training.trackers import PROJECT

# MLflow takes no more in one call, and no longer values.
_PARAMS_AT_ONCE = 100
_LONGEST_PARAM = 6000


class MlflowRun:
    """An MLflow run that `trackers.Trackers` logs to.

    MLflow removes nothing: of a step that is repeated after a kill it keeps both values, which are the same on the
    CPU. Nor does it let a parameter change, so a resumed run keeps those that it began with.
    """

    def __init__(self, name: str, run_id: str | None, configuration: Mapping[str, str]) -> None:
        experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        self._client = mlflow.MlflowClient()
        self.id: str = run_id if run_id and self._is_there(run_id) else ""
        if self.id:
            self._client.update_run(self.id, status="RUNNING")
            return
        self.id = self._client.create_run(experiment.experiment_id, run_name=name).info.run_id
        params = [Param(key, text[:_LONGEST_PARAM]) for key, text in configuration.items()]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(self.id, params=params[start : start + _PARAMS_AT_ONCE])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log values after `step` updates."""
        now = int(time.time() * 1000)
        self._client.log_batch(self.id, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    def images(self, images: Mapping[str, NDArray[np.uint8]], step: int) -> None:
        """Log pictures, uint8 [height, width, 1 or 3 channels], after `step` updates."""
        for key, image in images.items():
            self._client.log_image(self.id, image, key=key, step=step)

    def finish(self, has_failed: bool) -> None:
        """End the run."""
        self._client.set_terminated(self.id, status="FAILED" if has_failed else "FINISHED")

    def _is_there(self, run_id: str) -> bool:
        """Return whether the store has the run, which may have been started in another store."""
        try:
            return self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
