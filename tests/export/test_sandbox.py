"""Models that hang, take all memory, write files or die give one line of error, and this process continues."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from messages import facts
from torch import Tensor, nn

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError, RepresentationError
from disentanglement_challenge.export.model_file import export_model, import_model
from disentanglement_challenge.export.representor import make_representor
from disentanglement_challenge.export.sandbox import Sandbox

pytestmark = pytest.mark.processes
IMAGES = np.random.RandomState(0).rand(3, 64, 64, 3)


class Flat(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :4]


class Hangs(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        total = images.flatten(1)[:, :4]
        while bool(total.sum() > -1):
            total = total + 1
        return total


class TakesAllMemory(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        kept = [images]
        while len(kept) > 0:
            kept.append(torch.rand(1 << 24))
        return kept[0].flatten(1)


class MakesAFile(nn.Module):
    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def forward(self, images: Tensor) -> Tensor:
        made = torch.from_file(self.path, True, 1000)
        return images.flatten(1)[:, :4] + made[0]


class GivesTooMuch(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :1].expand(len(images), 1 << 27)


def saved(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(model).save(path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_a_model_computes_the_same_in_a_sandbox(tmp_path, suffix):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Flatten(), nn.Linear(1024, 7))
    path = Path(export_model(model, tmp_path / f"model{suffix}"))
    alone = make_representor(import_model(path), cuda=False)
    with Sandbox(path) as sandbox:
        for images in (IMAGES, IMAGES[:1], IMAGES.astype(np.float32)):
            np.testing.assert_array_equal(sandbox(images), alone(images))


@pytest.mark.parametrize(
    ("model", "limits", "said"),
    [
        (Hangs, {"time_limit": 10}, ["3 images", "10 s", "sandbox.time_limit"]),
        (TakesAllMemory, {"memory_limit": 1 << 29}, ["memory", "sandbox.memory_limit"]),
        (GivesTooMuch, {"memory_limit": 1 << 29}, ["memory", "sandbox.memory_limit"]),
    ],
)
def test_a_model_that_is_out_of_bounds_is_a_line(tmp_path, model, limits, said):
    path = saved(model(), tmp_path / "model.pt")
    with Sandbox(path, **limits) as sandbox, pytest.raises(RepresentationError, match=facts(path, *said)) as raised:
        sandbox(IMAGES)
    assert "\n" not in str(raised.value)


def test_a_limit_that_the_system_has_set_already_may_be_lower(tmp_path):
    """As `ulimit -v` on a cluster: what is asked for is more than may be had."""
    export_model(Flat(), tmp_path / "model.pt")
    code = """
import sys
import numpy as np
from pathlib import Path
from disentanglement_challenge.export.sandbox import Sandbox
with Sandbox(Path(sys.argv[1]), memory_limit=1 << 40) as representation_function:
    print(representation_function(np.zeros((2, 64, 64, 3))).shape)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.pt"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (16 << 30,) * 2),
    )
    assert (result.stdout, result.stderr) == ("(2, 4)\n", "")


def test_a_model_makes_no_file(tmp_path):
    """With PyTorch's own loader it does; without a sandbox it is refused here (test_stranger)."""
    target = tmp_path / "made"
    path = saved(MakesAFile(str(target)), tmp_path / "model.pt")
    with Sandbox(path) as sandbox, pytest.raises(RepresentationError, match="made"):
        sandbox(IMAGES)
    assert not target.exists()
    target.write_text("mine")
    with Sandbox(path) as sandbox, pytest.raises(RepresentationError):
        sandbox(IMAGES)
    assert target.read_text() == "mine"
    target.unlink()
    with pytest.raises(RepresentationError, match=facts(path, "torch.from_file")):
        import_model(path)
    assert not target.exists()
    torch.jit.load(path)(torch.zeros(1, 3, 64, 64))
    assert target.exists()


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGSEGV, ["SIGSEGV"]), (signal.SIGABRT, ["SIGABRT"]), (signal.SIGKILL, [])],
)
def test_a_process_that_dies_is_a_line(tmp_path, number, said):
    path = saved(Hangs(), tmp_path / "model.pt")
    with Sandbox(path) as sandbox:

        def end():
            time.sleep(0.5)
            os.kill(sandbox._process.pid, number)

        threading.Thread(target=end).start()
        with pytest.raises(RepresentationError, match=facts(path, "3 images", "process", *said)):
            sandbox(IMAGES)
        with pytest.raises(RepresentationError, match=facts(path, "process")):
            sandbox(IMAGES)


def test_a_file_that_is_no_model_is_the_line_that_it_is_without_a_sandbox(tmp_path):
    path = tmp_path / "model.pt"
    for content in (None, b"not a model"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RepresentationError) as alone:
            import_model(path)
        with pytest.raises(RepresentationError) as confined, Sandbox(path):
            pass
        assert str(confined.value) == str(alone.value)


@pytest.mark.parametrize("images", [np.zeros((2, 64, 64, 3), np.uint8), np.zeros((64, 64, 3)), [[0.0]]])
def test_what_are_no_images_is_refused_before_it_is_sent(tmp_path, images):
    with Sandbox(saved(Flat(), tmp_path / "model.pt")) as sandbox:
        with pytest.raises(RepresentationError, match="the images"):
            sandbox(images)
        assert sandbox(IMAGES).shape == (3, 4)


def test_nothing_is_left_of_a_sandbox(tmp_path):
    with Sandbox(saved(Flat(), tmp_path / "model.pt")) as sandbox:
        pid = sandbox._process.pid
        before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert len(os.listdir("/proc/self/fd")) == before - 1


@pytest.mark.parametrize(
    "binding",
    [
        "sandbox.time_limit = 0",
        "sandbox.time_limit = True",
        "sandbox.time_limit = 1e12",
        "sandbox.memory_limit = 'all'",
        "sandbox.memory_limit = 1e30",
    ],
)
def test_limits_that_are_none(tmp_path, binding):
    with gin_configuration([], [binding]), pytest.raises(ConfigError, match=facts(binding.split(" = ")[0], "above 0")):
        Sandbox(tmp_path / "model.pt")


def fuzzed(num_files, seed, folder):
    result = subprocess.run(
        [sys.executable, Path(__file__).with_name("fuzz.py"), str(num_files), str(seed), folder],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def test_mutated_models_are_refused_or_scored_and_end_nothing_here(tmp_path):
    counts = fuzzed(120, 0, tmp_path)
    assert sum(sum(count.values()) for count in counts.values()) == 120
    for count in counts.values():  # some files are refused and some pass
        assert count["refused"] > 0
        assert count["scored"] > 0


@pytest.mark.slow
def test_thousands_of_mutated_models_end_nothing_here(tmp_path):
    counts = fuzzed(5000, 1, tmp_path)
    assert sum(sum(count.values()) for count in counts.values()) == 5000
