"""Read and check the settings of a training run: gin's `model` bindings."""

from dataclasses import dataclass

import gin

from disentanglement_challenge.checks import check_count, check_number
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.objectives import Objective


@gin.configurable("model")
@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training run (disentanglement_lib, methods/unsupervised/train.py), checked.

    Attributes:
        model: the objective.
        batch_size: images a step, of all processes together.
        training_steps: steps.
        random_seed: decides weights, batches and noise; the same seed gives the same weights on the same machine,
            however often the run is stopped and resumed.
        eval_steps: batches that the final losses are averaged over.
        time_limit: seconds after which training stops, of this process's training alone; final losses and export come
            after it and take about a minute.
        name, model_num: label the run in its saved config, and do nothing.
    """

    model: Objective = gin.REQUIRED
    batch_size: int = gin.REQUIRED
    training_steps: int = gin.REQUIRED
    random_seed: int = gin.REQUIRED
    eval_steps: int = 100
    time_limit: float | None = None
    name: str = ""
    model_num: int | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError if a setting is out of range."""
        check_count("model.batch_size", self.batch_size)
        check_count("model.training_steps", self.training_steps)
        check_count("model.eval_steps", self.eval_steps)
        check_count("model.random_seed", self.random_seed, minimum=0)
        if self.time_limit is not None:
            check_number("model.time_limit", self.time_limit, above=0)
        if not isinstance(self.model, Objective):
            raise ConfigError(f"model.model is {self.model!r}; bind it to an objective, such as @factor_vae()")
