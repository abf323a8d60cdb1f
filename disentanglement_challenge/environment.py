"""The environment variables that the challenge's evaluator speaks through, each read when asked for.

Names and defaults are the starter kit's (AIcrowd/neurips2019_disentanglement_challenge_starter_kit,
utils_pytorch.py), but for the default data set, which here is the embedded one, and `AICROWD_CUDA`, whose "False"
here means false.
"""

import os
from pathlib import Path
from typing import NamedTuple

import torch

from disentanglement_challenge.errors import ConfigError

DEFAULT_DATASET = "mpi3d_embedded"

_FALSE = {"", "0", "false", "no", "off"}
_TRUE = {"1", "true", "yes", "on"}


class ExperimentConfig(NamedTuple):
    """Where an experiment is kept and what it is trained on."""

    base_path: str
    experiment_name: str
    dataset_name: str


def get_config() -> ExperimentConfig:
    """Reads AICROWD_OUTPUT_PATH, AICROWD_EVALUATION_NAME and AICROWD_DATASET_NAME."""
    return ExperimentConfig(
        base_path=os.environ.get("AICROWD_OUTPUT_PATH", "./scratch/shared"),
        experiment_name=os.environ.get("AICROWD_EVALUATION_NAME", "experiment_name"),
        dataset_name=get_dataset_name(),
    )


def get_dataset_name() -> str:
    """Reads AICROWD_DATASET_NAME; the embedded data set where it is not set."""
    return os.environ.get("AICROWD_DATASET_NAME", DEFAULT_DATASET)


def data_path() -> Path:
    """Reads DISENTANGLEMENT_LIB_DATA, the folder that disentanglement_lib looks for data sets in."""
    return Path(os.environ.get("DISENTANGLEMENT_LIB_DATA", "./scratch/dataset"))


def is_grading() -> bool:
    """Whether this runs on the challenge's evaluator: AICROWD_IS_GRADING is set, to whatever ("False" too).

    An empty one counts as none, as it does for `aicrowd_api`.
    """
    return bool(os.environ.get("AICROWD_IS_GRADING"))


def use_cuda() -> bool:
    """Whether to compute on CUDA: it is available, and AICROWD_CUDA does not say false, 0, no or off.

    Raises ConfigError where AICROWD_CUDA says neither yes nor no.
    """
    wanted = os.environ.get("AICROWD_CUDA", "true").strip().lower()
    if wanted not in _FALSE | _TRUE:
        raise ConfigError(f"AICROWD_CUDA={wanted!r} is neither true nor false; set it to True or False")
    return wanted in _TRUE and torch.cuda.is_available()


def device() -> torch.device:
    """The device that training and encoding run on."""
    return torch.device("cuda" if use_cuda() else "cpu")
