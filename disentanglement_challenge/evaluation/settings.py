"""What the numbers among the evaluation's gin bindings may be, whichever engine computes the metrics."""

import math
from pathlib import Path

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.config import EVALUATION_CONFIGURABLES, bound_parameters
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.export.sandbox import Sandbox

_COUNTS = {"num_train", "num_test", "num_eval", "num_variance_estimate", "batch_size", "num_bins"}
# The least and the most that each may be.
_NUMBERS = {
    "irs.diff_quantile": (0, 1),
    "prune_dims.threshold": (-math.inf, math.inf),
    "activity.threshold": (-math.inf, math.inf),
    "representation_table.memory_limit": (1, math.inf),
}


def check_numbers() -> None:
    """Raises ConfigError where gin binds a number to what it cannot be.

    Leaves the bindings in the operative configuration.
    """
    for configurable in EVALUATION_CONFIGURABLES:
        for parameter, value in bound_parameters(configurable).items():
            name = f"{configurable}.{parameter}"
            if parameter in _COUNTS:
                check_count(name, value)
            elif name in _NUMBERS:
                _check_number(name, value, *_NUMBERS[name])
    Sandbox(Path())  # checks its limits, and starts nothing


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        bounds = f" from {least} to {most}" if math.isfinite(most) else f" of at least {least}" if least > 0 else ""
        raise ConfigError(f"{name} is {value!r}; it must be a number{bounds}")
