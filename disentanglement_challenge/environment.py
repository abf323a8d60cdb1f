"""The environment variables that the challenge's evaluator speaks through, each read when asked for.

Names and defaults are the starter kit's (AIcrowd/neurips2019_disentanglement_challenge_starter_kit,
utils_pytorch.py), but for three: the default data set is the embedded one here, the "False" of `AICROWD_CUDA` means
false, and scratch/ lies in the checkout, whatever folder a script is started from.
"""

import functools
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from disentanglement_challenge.errors import ConfigError

if TYPE_CHECKING:  # or whoever asks for a path would wait for PyTorch
    import torch

_LOGGER = logging.getLogger(__name__)

DEFAULT_DATASET = "mpi3d_embedded"

_PACKAGE = Path(__file__).resolve().parent
# The folder that holds the package: the checkout, where it is not installed.
ROOT = _PACKAGE.parent
# Whether the package is used in the project's own tree, which has the gin files beside it. An installation has them in
# the package, as beside it lies gin-config's own package of that name.
IS_TREE = not (_PACKAGE / "gin_files").is_dir()
GIN_FOLDER = ROOT / "gin" if IS_TREE else _PACKAGE / "gin_files"

_FALSE = {"", "0", "false", "no", "off"}
_TRUE = {"1", "true", "yes", "on"}


class ExperimentConfig(NamedTuple):
    """Where an experiment is kept and what it is trained on."""

    base_path: str
    experiment_name: str
    dataset_name: str


def scratch() -> Path:
    """The folder of data sets and results by default: scratch/ in NDC_ROOT, else in the checkout.

    Of an installed package it is scratch/ in the current folder.
    """
    is_checkout = (ROOT / "run.py").is_file()
    return Path(os.environ.get("NDC_ROOT") or (ROOT if is_checkout else os.getcwd())).absolute() / "scratch"


def absolute(path: str | Path) -> Path:
    """The path from the root, with ~ expanded, as it stands in messages."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def get_config() -> ExperimentConfig:
    """Reads AICROWD_OUTPUT_PATH, AICROWD_EVALUATION_NAME and AICROWD_DATASET_NAME.

    Raises ConfigError where AICROWD_OUTPUT_PATH is set and empty.
    """
    base_path = os.environ.get("AICROWD_OUTPUT_PATH", scratch() / "shared")
    if not str(base_path):
        raise ConfigError("AICROWD_OUTPUT_PATH is empty; name a folder, or unset it")
    return ExperimentConfig(
        base_path=str(absolute(base_path)),
        experiment_name=os.environ.get("AICROWD_EVALUATION_NAME", "experiment_name"),
        dataset_name=get_dataset_name(),
    )


def get_dataset_name() -> str:
    """Reads AICROWD_DATASET_NAME; the embedded data set where it is not set."""
    return os.environ.get("AICROWD_DATASET_NAME", DEFAULT_DATASET)


def data_path() -> Path:
    """Reads DISENTANGLEMENT_LIB_DATA, the folder that disentanglement_lib looks for data sets in."""
    return absolute(os.environ.get("DISENTANGLEMENT_LIB_DATA", scratch() / "dataset"))


def is_grading() -> bool:
    """Whether this runs on the challenge's evaluator: AICROWD_IS_GRADING is set, to whatever ("False" too).

    An empty one counts as none, as it does for `aicrowd_api`.
    """
    return bool(os.environ.get("AICROWD_IS_GRADING"))


def is_torchrun() -> bool:
    """Whether torchrun started this process, and others with it."""
    # As torch.distributed.is_torchelastic_launched asks.
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def is_leader() -> bool:
    """Whether this process is the one of those that torchrun started that speaks; so is one that it did not start."""
    return not is_torchrun() or os.environ["RANK"] == "0"


def use_cuda() -> bool:
    """Whether to compute on CUDA: there is a usable GPU, and AICROWD_CUDA does not say false, 0, no or off.

    Raises ConfigError where AICROWD_CUDA says neither yes nor no, or says yes and there is no usable GPU. On the
    evaluator the latter is a warning.
    """
    return _device_and_reason()[0] == "cuda"


def device() -> "torch.device":
    """The device that training and encoding run on; raises ConfigError as `use_cuda` does."""
    import torch

    return torch.device(_device_and_reason()[0])


def device_reason() -> str:
    """Why training runs on the device that it runs on: the GPU's name, or why it is the CPU."""
    import torch

    kind, reason = _device_and_reason()
    return reason if kind == "cpu" else torch.cuda.get_device_name()


def _device_and_reason() -> tuple[str, str]:
    """ "cuda", or "cpu" and why."""
    setting = os.environ.get("AICROWD_CUDA")
    wanted = (setting or "").strip().lower()
    if wanted not in _FALSE | _TRUE:
        raise ConfigError(f"AICROWD_CUDA={setting!r} is neither true nor false; set it to True or False")
    if setting is not None and wanted in _FALSE:
        return "cpu", f"AICROWD_CUDA is {setting!r}"
    fault = cuda_fault()
    if not fault:
        return "cuda", ""
    if wanted in _TRUE:
        if not is_grading():
            raise ConfigError(f"AICROWD_CUDA is {setting!r}, and {fault}; set it to False to compute on the CPU")
        _warn_once(f"AICROWD_CUDA is {setting!r}, and {fault}; computing on the CPU")
    return "cpu", fault


@functools.cache
def _warn_once(message: str) -> None:
    _LOGGER.warning("%s", message)


def cuda_fault() -> str:
    """Why no GPU can be used, in a few words; "" where one can."""
    import torch

    if torch.cuda.is_available():
        # It is "available" also where this build has no code for the GPU, and then the first kernel fails.
        major, minor = torch.cuda.get_device_capability()
        if any(_runs_on(code, major, minor) for code in torch.cuda.get_arch_list()):
            return ""
        name = torch.cuda.get_device_name()
        return f"this PyTorch has no code for {name} (compute capability {major}.{minor})"
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        if "no NVIDIA driver" in str(error):
            return "there is no CUDA driver"
        if "too old" in str(error):
            return f"the CUDA driver is too old for this PyTorch, which is built for CUDA {torch.version.cuda}"
        if "CUDA_VISIBLE_DEVICES" in os.environ:
            return f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']!r} leaves no GPU"
        return f"CUDA does not start: {str(error).splitlines()[0]:.100}"
    return "CUDA finds no GPU"


def gpu_description() -> str:
    """The GPU that is computed on: its name, memory, compute capability and driver."""
    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver = driver_version()
    return (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, compute capability "
        f"{properties.major}.{properties.minor}{f', driver {driver}' if driver else ''}"
    )


def driver_version(file: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """The version of NVIDIA's driver, which it writes in a file; None where there is none, as on Windows."""
    try:
        text = file.read_text()
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", text)
    return found.group(1) if found else None


def _runs_on(code: str, major: int, minor: int) -> bool:
    """Whether what was compiled for `code`, such as sm_90a or compute_120, runs on a GPU of this capability."""
    kind, _, number = code.partition("_")
    built_for = int("".join(filter(str.isdigit, number)))
    if number.endswith("a"):  # which uses what that one architecture has and no later one need have
        return built_for == 10 * major + minor
    is_ptx = kind == "compute" and not number.endswith("f")  # which the driver compiles for newer ones
    is_same_family = built_for // 10 == major or is_ptx
    return built_for <= 10 * major + minor and is_same_family
