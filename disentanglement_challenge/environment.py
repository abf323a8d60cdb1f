"""The environment variables of the challenge's evaluator, each read when it is needed.

Names and defaults are the starter kit's (AIcrowd/neurips2019_disentanglement_challenge_starter_kit, utils_pytorch.py),
with three differences: the default data set is the embedded one, "False" in `AICROWD_CUDA` means false, and scratch/ is
in the checkout, whatever the current folder is.
"""

import functools
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from disentanglement_challenge.errors import ConfigError

if TYPE_CHECKING:  # so that paths are available without importing PyTorch
    import torch

_LOGGER = logging.getLogger(__name__)

DEFAULT_DATASET = "mpi3d_embedded"

_PACKAGE = Path(__file__).resolve().parent
# The folder of the package: the checkout, if the package is not installed.
ROOT = _PACKAGE.parent
# Whether the package is in the project's tree, which has the gin files beside it. An installation has them in the
# package, as gin-config's own package `gin` is beside it.
IS_TREE = not (_PACKAGE / "gin_files").is_dir()
GIN_FOLDER = ROOT / "gin" if IS_TREE else _PACKAGE / "gin_files"

_FALSE = {"", "0", "false", "no", "off"}
_TRUE = {"1", "true", "yes", "on"}


class ExperimentConfig(NamedTuple):
    """The location and name of an experiment, and its data set."""

    base_path: str
    experiment_name: str
    dataset_name: str


def scratch() -> Path:
    """Return the default folder of data sets and results: scratch/ in NDC_ROOT, or else in the checkout.

    For an installed package it is scratch/ in the current folder.
    """
    is_checkout = (ROOT / "run.py").is_file()
    return absolute(os.environ.get("NDC_ROOT") or (ROOT if is_checkout else os.getcwd())) / "scratch"


def absolute(path: str | Path) -> Path:
    """Return the absolute path, with ~ expanded, as messages show it."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def get_config() -> ExperimentConfig:
    """Read AICROWD_OUTPUT_PATH, AICROWD_EVALUATION_NAME and AICROWD_DATASET_NAME.

    Raises ConfigError if AICROWD_OUTPUT_PATH is set but empty.
    """
    base_path = os.environ.get("AICROWD_OUTPUT_PATH", scratch() / "shared")
    if not str(base_path):
        raise ConfigError("AICROWD_OUTPUT_PATH is empty; it must be a folder, or unset")
    return ExperimentConfig(
        base_path=str(absolute(base_path)),
        experiment_name=os.environ.get("AICROWD_EVALUATION_NAME", "experiment_name"),
        dataset_name=get_dataset_name(),
    )


def get_dataset_name() -> str:
    """Read AICROWD_DATASET_NAME; by default the embedded data set."""
    return os.environ.get("AICROWD_DATASET_NAME", DEFAULT_DATASET)


def data_path() -> Path:
    """Read DISENTANGLEMENT_LIB_DATA, disentanglement_lib's folder of data sets.

    Raises ConfigError if it is set but empty.
    """
    path = os.environ.get("DISENTANGLEMENT_LIB_DATA", scratch() / "dataset")
    if not str(path):
        raise ConfigError("DISENTANGLEMENT_LIB_DATA is empty; it must be a folder, or unset")
    return absolute(path)


def is_grading() -> bool:
    """Return whether this runs on the challenge's evaluator: AICROWD_IS_GRADING has any value (even "False").

    An empty value counts as unset, as in `aicrowd_api`.
    """
    return bool(os.environ.get("AICROWD_IS_GRADING"))


def is_torchrun() -> bool:
    """Return whether torchrun started this process as one of several."""
    # The same test as torch.distributed.is_torchelastic_launched.
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def is_leader() -> bool:
    """Return whether this process prints and writes: the first of torchrun's processes, or one without torchrun."""
    return not is_torchrun() or os.environ["RANK"] == "0"


def use_cuda() -> bool:
    """Return whether to compute on CUDA: there is a usable GPU, and AICROWD_CUDA is not false, 0, no or off.

    Raises ConfigError if AICROWD_CUDA has another value, or if it is true and there is no usable GPU. On the evaluator
    the latter is a warning.
    """
    return _device_and_reason()[0] == "cuda"


def device() -> "torch.device":
    """Return the device for training and encoding; raise ConfigError like `use_cuda`."""
    import torch

    return torch.device(_device_and_reason()[0])


def device_reason() -> str:
    """Return the reason for the device of training: the GPU's name, or why it is the CPU."""
    import torch

    kind, reason = _device_and_reason()
    return reason if kind == "cpu" else torch.cuda.get_device_name()


def _device_and_reason() -> tuple[str, str]:
    """Return "cuda" or "cpu", and the reason."""
    setting = os.environ.get("AICROWD_CUDA")
    wanted = (setting or "").strip().lower()
    if wanted not in _FALSE | _TRUE:
        raise ConfigError(f"AICROWD_CUDA is {setting!r}; it must be True or False")
    if setting is not None and wanted in _FALSE:
        return "cpu", f"AICROWD_CUDA is {setting!r}"
    fault = cuda_fault()
    if not fault:
        return "cuda", ""
    if wanted in _TRUE:
        if not is_grading():
            raise ConfigError(f"AICROWD_CUDA is {setting!r}, but {fault}; set it to False to compute on the CPU")
        _warn_once(f"AICROWD_CUDA is {setting!r}, but {fault}; computing on the CPU")
    return "cpu", fault


@functools.cache
def _warn_once(message: str) -> None:
    _LOGGER.warning("%s", message)


def cuda_fault() -> str:
    """Return the reason why no GPU can be used, in a few words; "" if one can."""
    import torch

    if torch.cuda.is_available():
        # CUDA is "available" even if this build has no code for the GPU, but then the first kernel fails.
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
            return f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']!r} hides all GPUs"
        return f"CUDA does not start: {str(error).splitlines()[0]:.100}"
    return "CUDA finds no GPU"


def gpu_description() -> str:
    """Describe the GPU: its name, memory, compute capability and driver."""
    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver = driver_version()
    return (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, compute capability "
        f"{properties.major}.{properties.minor}{f', driver {driver}' if driver else ''}"
    )


def driver_version(file: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    """Read the version of NVIDIA's driver from its file; return None if there is no file, as on Windows."""
    try:
        text = file.read_text()
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", text)
    return found.group(1) if found else None


def _runs_on(code: str, major: int, minor: int) -> bool:
    """Return whether code compiled for `code`, such as sm_90a or compute_120, runs on a GPU of this capability."""
    kind, _, number = code.partition("_")
    built_for = int("".join(filter(str.isdigit, number)))
    if number.endswith("a"):  # it uses features of that architecture alone
        return built_for == 10 * major + minor
    is_ptx = kind == "compute" and not number.endswith("f")  # the driver compiles it for newer GPUs
    is_same_family = built_for // 10 == major or is_ptx
    return built_for <= 10 * major + minor and is_same_family
