"""The provenance of results, which is saved beside them: date, commit, machine, versions."""

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from disentanglement_challenge.environment import IS_TREE, ROOT, driver_version, use_cuda

# The packages that can affect results.
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "numba", "disentanglement-lib", "gin-config")


def provenance() -> dict[str, Any]:
    """Return date (ISO 8601, UTC), commit, machine, and versions of Python, `PACKAGES` and, on a GPU, CUDA and cuDNN.

    If disentanglement_lib's metrics are loaded, it includes the version of their TensorFlow, or "stand-in".
    """
    on_gpu = use_cuda()
    library = sys.modules.get("disentanglement_challenge.library")  # training does not load it
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": available_cores(),
            "threads": torch.get_num_threads(),
            "memory_bytes": _memory(),
            "gpu": torch.cuda.get_device_name() if on_gpu else None,
            "driver": driver_version() if on_gpu else None,
        },
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES}
        | ({"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if on_gpu else {})
        | ({"tensorflow": library.tensorflow_in_use()} if library else {}),
    }


def commit() -> str | None:
    """Return the commit of the checkout, with "-dirty" if a tracked file differs from it; None outside a clone."""
    if not IS_TREE:
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git here, or no clone
        return None


def available_cores() -> int | None:
    """Return the number of cores that this process may use, or all cores if the system has no such limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> int | None:
    """Return the memory in bytes; None if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _processor() -> str:
    """Return the processor's model name, or its architecture if the name is unknown."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
