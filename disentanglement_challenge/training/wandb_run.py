"""Log to a run of Weights & Biases: https://docs.wandb.ai"""

import ast
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import wandb
from numpy.typing import NDArray

from disentanglement_challenge.training.trackers import PROJECT

# Seconds that the end of a run waits for a server. It would wait for ever, and the model is exported after it; what has
# not arrived stays on the disk, and `wandb sync` sends it.
_FINISH_TIMEOUT = 300.0


class WandbRun:
    """A run of Weights & Biases that `trackers.Trackers` logs to.

    Resumed, it continues the run on the server, and skips steps that the server already has. Offline there is no
    server to ask: the folder of each start is another, of the same run.
    """

    def __init__(self, name: str, run_id: str | None, configuration: Mapping[str, str]) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            id=run_id,
            resume="allow" if run_id else None,
            config=_nested(configuration),
            allow_val_change=True,  # a resumed run may be a longer one
            reinit="create_new",  # a run that the caller has is none of ours
            settings={} if "WANDB_FINISH_TIMEOUT" in os.environ else {"finish_timeout": _FINISH_TIMEOUT},
        )
        self.id: str = self._run.id

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log values after `step` updates."""
        self._run.log(dict(values), step=step)

    def images(self, images: Mapping[str, NDArray[np.uint8]], step: int) -> None:
        """Log pictures, uint8 [height, width, 1 or 3 channels], after `step` updates."""
        self._run.log({tag: wandb.Image(image) for tag, image in images.items()}, step=step)

    def finish(self, has_failed: bool) -> None:
        """End the run after all of it is on the server or on the disk."""
        self._run.finish(exit_code=int(has_failed))


def _nested(configuration: Mapping[str, str]) -> dict[str, Any]:
    """Return {"model.batch_size": "64"} as {"model": {"batch_size": 64}}, which W&B shows with the dot."""
    nested: dict[str, Any] = {}
    for name, text in configuration.items():
        called, dot, parameter = name.rpartition(".")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # a reference, such as @conv_encoder
            value = text
        (nested.setdefault(called, {}) if dot else nested)[parameter] = value
    return nested
