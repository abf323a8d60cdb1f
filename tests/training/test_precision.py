"""What "auto" stands for, and that a run keeps it, against what the system and PyTorch say of the device."""

import json
import platform
import re
from pathlib import Path

import pytest
import torch
from squares import SMALL, squares

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.checkpoints import newest_first, read_checkpoint
from disentanglement_challenge.training.precision import check_has_precision, precision_that_pays
from disentanglement_challenge.training.run import prepare, train
from disentanglement_challenge.training.settings import TrainingSettings

CPU = torch.device("cpu")
CPUINFO = Path("/proc/cpuinfo")
AUTO = "acceleration.precision = 'auto'"


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_gpu_that_does_not_have_the_precision(precision):
    check_has_precision(precision, "NVIDIA A100", (8, 0))
    with pytest.raises(ConfigError, match=rf"{precision}.*Tesla T4 has compute capability 7\.5; .*use 'float32' here"):
        check_has_precision(precision, "Tesla T4", (7, 5))


@pytest.fixture
def processor(monkeypatch):
    """Has the processor's flags be these."""

    def has(*flags):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(("avx2", *flags), True))

    return has


@pytest.mark.parametrize(
    ("flags", "precision", "reason"),
    [
        ([], "float32", "the processor has neither AVX512_BF16 nor AMX_BF16"),
        (["avx512_f", "amx_tile", "amx_int8"], "float32", "the processor has neither AVX512_BF16 nor AMX_BF16"),
        (["avx512_f", "avx512_bf16"], "bfloat16", "the processor has AVX512_BF16"),
        (["amx_bf16"], "bfloat16", "the processor has AMX_BF16"),
        (["avx512_bf16", "amx_bf16"], "bfloat16", "the processor has AVX512_BF16 and AMX_BF16"),
    ],
)
def test_a_processor_s_flags_decide(processor, flags, precision, reason):
    processor(*flags)
    assert precision_that_pays(CPU) == (precision, reason)


@pytest.mark.skipif(
    not CPUINFO.exists() or platform.machine() != "x86_64", reason="Linux tells an x86 processor's flags in /proc"
)
def test_this_processor_s_flags_are_those_that_the_system_tells():
    flags = CPUINFO.read_text().split()
    assert (precision_that_pays(CPU)[0] == "bfloat16") is ("avx512_bf16" in flags or "amx_bf16" in flags)


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((10, 0), "bfloat16")]
)
def test_a_gpu_s_compute_capability_decides(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    reason = f"the GPU has compute capability {capability[0]}.{capability[1]}"
    assert precision_that_pays(torch.device("cuda")) == (precision, reason)


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Trains on the squares for some steps; returns the weights and how the run names its precision."""
    monkeypatch.setenv("AICROWD_CUDA", "False")

    def train_squares(name, steps, *bindings, resume=False):
        experiment = Experiment(tmp_path / name)
        with gin_configuration(["shared.gin"], [*SMALL, f"model.training_steps = {steps}", *bindings]):
            trained = train(prepare(TrainingSettings(), experiment, squares(), experiment if resume else None))
        said = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("device: "))
        weights = torch.cat([parameter.detach().flatten() for parameter in trained.vae.parameters()])
        return weights, re.split("threads?, ", said)[1]

    return train_squares


@pytest.mark.parametrize(
    ("here", "elsewhere", "precision", "reason"),
    [
        (["avx512_bf16"], [], "bfloat16", "the processor has AVX512_BF16"),
        ([], ["amx_bf16"], "float32", "the processor has neither AVX512_BF16 nor AMX_BF16"),
    ],
)
def test_a_run_goes_on_in_what_it_began_with_on_whatever_machine(
    run, processor, tmp_path, here, elsewhere, precision, reason
):
    straight, said = run("straight", 14, f"acceleration.precision = {precision!r}")
    assert said == precision

    processor(*here)
    _, said = run("auto", 8, AUTO)
    assert said == f"{precision} (auto: {reason})"
    experiment = Experiment(tmp_path / "auto")
    assert json.loads(experiment.train_provenance.read_text())["precision"] == precision
    assert read_checkpoint(newest_first(experiment.checkpoints)[0]).precision == precision

    processor(*elsewhere)
    _, said = run("auto", 12, AUTO, resume=True)
    assert said == f"{precision} (auto: as the run began)"
    weights, said = run("auto", 14, f"acceleration.precision = {precision!r}", resume=True)
    assert said == precision
    assert torch.equal(weights, straight)
    assert json.loads(experiment.train_provenance.read_text())["precision"] == precision


def test_auto_is_not_another_precision_that_is_asked_for(run, processor):
    processor("avx512_bf16")
    run("auto", 8, AUTO)
    with pytest.raises(ConfigError, match=r"made with acceleration\.precision = 'bfloat16', not 'float32'"):
        run("auto", 10, "acceleration.precision = 'float32'", resume=True)
    run("float32", 8)
    _, said = run("float32", 10, AUTO, resume=True)
    assert said == "float32 (auto: as the run began)"
