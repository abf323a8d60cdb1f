import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from messages import facts

from disentanglement_challenge import environment
from disentanglement_challenge.errors import ConfigError

PATHS = "from disentanglement_challenge import environment as e; print(e.get_config().base_path, e.data_path())"


def test_defaults_are_the_starter_kits_below_the_checkout(monkeypatch, tmp_path):
    for name in ("AICROWD_OUTPUT_PATH", "AICROWD_EVALUATION_NAME", "AICROWD_DATASET_NAME", "DISENTANGLEMENT_LIB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("NDC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    config = environment.get_config()
    assert config == (f"{ROOT}/scratch/shared", "experiment_name", "mpi3d_embedded")
    assert environment.data_path() == ROOT / "scratch" / "dataset"
    monkeypatch.setenv("NDC_ROOT", "/elsewhere")
    assert environment.data_path() == Path("/elsewhere/scratch/dataset")
    assert environment.get_config().base_path == "/elsewhere/scratch/shared"
    monkeypatch.delenv("NDC_ROOT")
    monkeypatch.setattr(environment, "ROOT", tmp_path / "site-packages")  # as for an installed package
    assert environment.data_path() == tmp_path / "scratch" / "dataset"


def test_paths_are_absolute_and_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("AICROWD_OUTPUT_PATH", "~/results")
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", "data")
    assert environment.get_config().base_path == "/home/somebody/results"
    assert environment.data_path() == tmp_path / "data"
    monkeypatch.setenv("AICROWD_OUTPUT_PATH", "")
    with pytest.raises(ConfigError, match=facts("AICROWD_OUTPUT_PATH", "empty")):
        environment.get_config()
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", "")
    with pytest.raises(ConfigError, match=facts("DISENTANGLEMENT_LIB_DATA", "empty")):
        environment.data_path()
    monkeypatch.setenv("NDC_ROOT", "~/challenge")
    assert environment.scratch() == Path("/home/somebody/challenge/scratch")


def test_the_evaluators_script_has_the_same_scratch(tmp_path):
    """run.sh sources environ.sh, which sets the place of scratch/; the scripts find the same place without it."""
    command = f'NDC_ROOT={ROOT}; export NDC_ROOT; . "$NDC_ROOT/environ.sh"; exec {sys.executable} -c "{PATHS}"'
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AICROWD", "DISENT", "NDC"))}
    clean["PYTHONPATH"] = str(ROOT)
    sourced = subprocess.run(["bash", "-c", command], env=clean, cwd=tmp_path, capture_output=True, check=True)
    alone = subprocess.run([sys.executable, "-c", PATHS], env=clean, cwd="/", capture_output=True, check=True)
    assert sourced.stdout == alone.stdout == f"{ROOT}/scratch/shared {ROOT}/scratch/dataset\n".encode()


def test_variables_are_read_at_call_time(monkeypatch):
    monkeypatch.setenv("AICROWD_DATASET_NAME", "cars3d")
    assert environment.get_dataset_name() == "cars3d"
    monkeypatch.setenv("AICROWD_DATASET_NAME", "shapes3d")
    assert environment.get_config().dataset_name == "shapes3d"


@pytest.mark.parametrize("value", ["False", "false", "0", "no", "off", ""])
def test_cuda_can_be_turned_off(monkeypatch, value):
    # The starter kit takes any text but the empty one for true. The test pretends that there is CUDA.
    monkeypatch.setattr(environment, "cuda_fault", lambda: "")
    monkeypatch.setenv("AICROWD_CUDA", value)
    assert environment.use_cuda() is False
    monkeypatch.setenv("AICROWD_CUDA", "True")
    assert environment.use_cuda() is True
    monkeypatch.delenv("AICROWD_CUDA")
    assert environment.use_cuda() is True


def test_cuda_that_says_neither(monkeypatch):
    monkeypatch.setenv("AICROWD_CUDA", "perhaps")
    with pytest.raises(ConfigError, match=facts("AICROWD_CUDA", "'perhaps'", "True or False")):
        environment.use_cuda()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_that_is_wanted_and_not_there_is_refused(monkeypatch, caplog):
    monkeypatch.setenv("AICROWD_CUDA", "True")
    monkeypatch.delenv("AICROWD_IS_GRADING", raising=False)
    with pytest.raises(ConfigError, match=facts("AICROWD_CUDA", "'True'", environment.cuda_fault(), "False")):
        environment.use_cuda()
    monkeypatch.setenv("AICROWD_IS_GRADING", "True")  # on the evaluator a run on the CPU is better than none
    environment._warn_once.cache_clear()
    assert environment.device().type == "cpu"
    assert environment.use_cuda() is False
    (line,) = caplog.messages
    assert re.match(facts("AICROWD_CUDA", "CPU"), line)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_the_reason_for_the_device(monkeypatch):
    monkeypatch.delenv("AICROWD_CUDA", raising=False)
    expected = "built without CUDA" if torch.version.cuda is None else "driver|CUDA"
    assert re.search(expected, environment.device_reason())
    monkeypatch.setenv("AICROWD_CUDA", "False")
    assert environment.device_reason() == "AICROWD_CUDA is 'False'"


@pytest.mark.parametrize(
    ("code", "capability", "runs"),
    [
        ("sm_80", (8, 6), True),
        ("sm_86", (8, 0), False),
        ("sm_75", (8, 6), False),
        ("compute_75", (8, 6), True),
        ("compute_120", (9, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_86", (8, 9), True),
        ("sm_90", (8, 9), False),
        ("sm_120", (12, 1), True),
        ("sm_120a", (12, 1), False),
        ("sm_120f", (12, 1), True),
        ("sm_100f", (12, 1), False),
        ("compute_90", (12, 1), True),
        ("compute_90a", (12, 1), False),
        ("compute_100f", (12, 1), False),
    ],
)
def test_which_code_runs_on_which_gpu(code, capability, runs):
    """Binary code runs on its own major version, from its minor version on; PTX, on all newer GPUs."""
    assert environment._runs_on(code, *capability) == runs


# The architectures of PyTorch's wheels: `torch.cuda.get_arch_list()` of 2.13 with CUDA 13.0.
WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize(
    ("name", "capability", "is_usable"),
    [
        ("NVIDIA L4", (8, 9), True),
        ("NVIDIA GB10", (12, 1), True),
        ("Tesla V100", (7, 0), False),
        ("Newer", (13, 0), False),
    ],
)
def test_a_gpu_that_the_wheel_has_no_code_for_is_refused(monkeypatch, name, capability, is_usable):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: WHEEL)
    monkeypatch.setenv("AICROWD_CUDA", "True")
    if is_usable:
        assert environment.cuda_fault() == ""
        assert environment.use_cuda()
    else:
        fault = facts(name, f"compute capability {'.'.join(map(str, capability))}")
        assert re.match(fault, environment.cuda_fault())
        with pytest.raises(ConfigError, match=fault):
            environment.use_cuda()


def test_a_driver_that_is_too_old_is_refused(monkeypatch):
    """PyTorch only reports it on initialisation; `is_available` is silently False."""

    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020).")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("AICROWD_CUDA", "True")
    with pytest.raises(ConfigError, match=facts("driver", "too old", "CUDA 13.0")):
        environment.use_cuda()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC\n",
            "535.183.01",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs)\n",
            "580.65.06",
        ),
        ("something else", None),
    ],
)
def test_the_drivers_version(tmp_path, text, version):
    (tmp_path / "version").write_text(text)
    assert environment.driver_version(tmp_path / "version") == version
    assert environment.driver_version(tmp_path / "nowhere") is None


@pytest.mark.processes
@pytest.mark.parametrize(
    ("setting", "spins"),
    [({}, "'1000'"), ({"GOMP_SPINCOUNT": "77"}, "'77'"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "'0'")],
)
@pytest.mark.parametrize("module", ["utils_pytorch", "disentanglement_challenge.training.run"])
def test_openmp_spins_little_unless_the_user_says_otherwise(setting, spins, module):
    """OpenMP itself prints its settings; the second and third case are the user's settings."""
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {**setting, "OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0
    if "GOMP_SPINCOUNT" not in result.stderr:
        pytest.skip("this PyTorch is built with another OpenMP than GNU's")
    assert f"GOMP_SPINCOUNT = {spins}" in result.stderr


def test_parallel_functions_leave_pytorch_its_threads():
    """numba gave it one for each core as soon as it rendered images, whatever OMP_NUM_THREADS said."""
    code = """
import torch
from disentanglement_challenge.data import batches
from numba.np.ufunc.parallel import _launch_threads
_launch_threads()
assert torch.get_num_threads() == 1, torch.get_num_threads()
"""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.processes
def test_training_does_not_import_tensorflow():
    code = "import sys, train_pytorch; assert not {'tensorflow', 'sklearn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": "."})
