import os
import subprocess
import sys

import pytest
import torch

from disentanglement_challenge import environment
from disentanglement_challenge.errors import ConfigError


def test_defaults_are_the_starter_kits(monkeypatch):
    for name in ("AICROWD_OUTPUT_PATH", "AICROWD_EVALUATION_NAME", "AICROWD_DATASET_NAME", "DISENTANGLEMENT_LIB_DATA"):
        monkeypatch.delenv(name, raising=False)
    config = environment.get_config()
    assert config == ("./scratch/shared", "experiment_name", "mpi3d_embedded")
    assert environment.data_path().as_posix() == "scratch/dataset"


def test_variables_are_read_at_call_time(monkeypatch):
    monkeypatch.setenv("AICROWD_DATASET_NAME", "cars3d")
    assert environment.get_dataset_name() == "cars3d"
    monkeypatch.setenv("AICROWD_DATASET_NAME", "shapes3d")
    assert environment.get_config().dataset_name == "shapes3d"


@pytest.mark.parametrize("value", ["False", "false", "0", "no", "off", ""])
def test_cuda_can_be_turned_off(monkeypatch, value):
    # The starter kit takes any text but the empty one for true. CUDA's presence is what cannot be had here, and is set.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("AICROWD_CUDA", value)
    assert environment.use_cuda() is False
    monkeypatch.setenv("AICROWD_CUDA", "True")
    assert environment.use_cuda() is True
    monkeypatch.delenv("AICROWD_CUDA")
    assert environment.use_cuda() is True


def test_cuda_that_says_neither(monkeypatch):
    monkeypatch.setenv("AICROWD_CUDA", "perhaps")
    with pytest.raises(ConfigError, match="perhaps"):
        environment.use_cuda()


def test_training_does_not_import_tensorflow():
    code = "import sys, train_pytorch; assert not {'tensorflow', 'sklearn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": "."})
