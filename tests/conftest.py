import importlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

# `make test` runs several test files at once, so more threads would only wait for each other. The package, once it is
# imported, tells numba.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers have a niceness of 15, and beside other tests wait for minutes.
os.environ.setdefault("RAY_worker_niceness", "0")

from disentanglement_challenge.extras import PACKAGES

with suppress(ImportError):
    # It is part of PyTorch's CUDA build, and crashes a process that has imported TensorFlow first.
    import triton._C.libtriton  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config, items):
    """Skip tests that need a GPU if there is no usable one."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if not needing:
        return
    from disentanglement_challenge.environment import cuda_fault

    fault = cuda_fault()
    if fault:
        for item in needing:
            item.add_marker(pytest.mark.skip(reason=f"needs a GPU, and {fault}"))


def pytest_terminal_summary(terminalreporter):
    """Report the number of skipped GPU tests, so that nobody takes them for passed."""
    skipped = sum("needs a GPU, and" in str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line(f"{skipped} tests of the GPU path were skipped; make test-gpu runs them on a GPU")


@pytest.fixture(scope="session")
def embedded_data_path():
    """Return the folder of the embedded data set, which is rendered on first use and kept for later sessions."""
    from disentanglement_challenge.data.embedded import load_embedded

    path = ROOT / "scratch" / "dataset"
    load_embedded("mpi3d_embedded", path)
    return path


def installed(program):
    """Return the path of a program of apt-test.txt; without it, skip the test, or fail if CI requires it."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed; apt-test.txt names its package"
        (pytest.fail if os.environ.get("REQUIRE_SERVICES") else pytest.skip)(reason)
    return path


def extra(name):
    """The first package of an extra. Without it a file of tests is skipped, but fails where CI demands it.

    Args:
        name: of the extra, in pyproject.toml.
    """
    package = PACKAGES[name][0]
    if os.environ.get("REQUIRE_SERVICES"):
        return importlib.import_module(package)
    return pytest.importorskip(package, reason=f"{package} is not installed; requirements-dev.txt has it")


@pytest.fixture(scope="session")
def small_experiment(tmp_path_factory):
    """Return a whole run of a small VAE with two points in its curves; tests must not write to it."""
    return _experiment(tmp_path_factory, "small", "encoder.num_latent = 6", "model.training_steps = 102")


@pytest.fixture(scope="session")
def wide_experiment(tmp_path_factory):
    """Return the same with 3072 latents."""
    return _experiment(tmp_path_factory, "wide", "encoder.num_latent = 3072", "model.training_steps = 4")


def _experiment(tmp_path_factory, name, *bindings):
    from squares import train_and_score

    from disentanglement_challenge.experiment import Experiment

    experiment = Experiment(tmp_path_factory.mktemp("experiments") / name)
    with pytest.MonkeyPatch.context() as monkeypatch:
        train_and_score(experiment, monkeypatch, "vae/AdamOptimizer.learning_rate = 0.003", *bindings)
    return experiment


@pytest.fixture
def library_histogram():
    """Bind the discretizer that disentanglement_lib's own functions read from gin."""
    from disentanglement_challenge.evaluation.bindings import bound

    with bound({"discretizer.discretizer_fn": "@histogram_discretizer", "discretizer.num_bins": 20}):
        yield
