"""The whole path on a GPU: `make test-gpu`. Each test is skipped without one."""

import json

import numpy as np
import pytest
import torch
from shared_steps import OBJECTIVES, SETTINGS
from squares import SMALL, squares

from disentanglement_challenge.arithmetic import float32_products
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.environment import gpu_description
from disentanglement_challenge.evaluation.score import score
from disentanglement_challenge.evaluation.table import RepresentationTable
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.representor import make_representor, module_representor
from disentanglement_challenge.models import MeanEncoder
from disentanglement_challenge.objectives import FactorVAE
from disentanglement_challenge.training import batches as batches_module
from disentanglement_challenge.training.acceleration import GraphedStep, OneByOne, Replayed, make_step, make_steps
from disentanglement_challenge.training.batches import (
    DeviceBatches,
    batches_of_seeds,
    stacked_batches,
    training_batches,
)
from disentanglement_challenge.training.checkpoints import newest_first, read_checkpoint
from disentanglement_challenge.training.run import prepare, train
from disentanglement_challenge.training.seeds import make_stacked_step, train_and_export_together
from disentanglement_challenge.training.settings import TrainingSettings

pytestmark = pytest.mark.gpu

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
EVERY = {**OBJECTIVES, "factor_vae_second_batch": lambda: FactorVAE(20.0, second_batch=True)}
SETTINGS_OF_SCORES = {
    "factor_vae_score.num_variance_estimate": 200,
    "factor_vae_score.num_train": 200,
    "factor_vae_score.num_eval": 100,
    "dci.num_train": 200,
    "dci.num_test": 100,
    "sap_score.num_train": 200,
    "sap_score.num_test": 100,
    "mig.num_train": 200,
    "irs.num_train": 200,
}


def noise(num_images=64):
    images = np.random.default_rng(5).integers(256, size=(num_images, 64, 64, 3), dtype=np.uint8)
    return IndexedGroundTruthData("noise", images, [num_images], ["index"])


def make(objective, *bindings, device=CUDA, seed=0):
    with gin_configuration(["shared.gin"], [*SETTINGS, *bindings], ["dataset", "model"]):
        return make_step(objective, (3, 64, 64), seed, device)


def assert_same_losses(replayed, one_by_one):
    done = 0
    for count in (7, 23, 10):
        rows = {name: row.clone() for name, row in replayed(done, count).items()}
        for index in range(count):
            for name, value in one_by_one(done + index).items():
                torch.testing.assert_close(rows[name][index], value, rtol=1e-3, atol=1e-3)
        done += count


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_many_steps_a_replay_have_the_losses_of_eager_steps(objective, precision):
    bindings = [f"acceleration.precision = {precision!r}"]
    size = 8 * objective().num_batches
    step, advance = make(objective(), *bindings)
    eager, plain = make(objective(), *bindings, "acceleration.cuda_graph = False")
    replayed = make_steps(step, advance, training_batches(noise(), size, np.random.default_rng(1), CUDA))
    one_by_one = make_steps(eager, plain, training_batches(noise(), size, np.random.default_rng(1), CUDA))
    assert isinstance(replayed, Replayed)
    assert isinstance(one_by_one, OneByOne)
    assert_same_losses(replayed, one_by_one)
    assert torch.equal(step.noise.get_state(), eager.noise.get_state())


@pytest.mark.parametrize("precision", ["float64", "float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_seeds_that_share_their_steps_have_the_losses_of_their_own(objective, precision):
    """On batches of their own. In a lower precision the rounding of one step may lead the next ones apart."""
    is_exact = precision == "float64"
    bindings = ["acceleration.cuda_graph = False", *([] if is_exact else [f"acceleration.precision = {precision!r}"])]
    seeds, size = (0, 3, 4), 8 * objective().num_batches
    made, own = ([make(objective(), *bindings, seed=seed) for seed in seeds] for _ in range(2))
    if is_exact:
        for step, _ in (*made, *own):
            for player in step.players:
                player.network.double()
    stacked, _ = make_stacked_step(made, [0] * len(seeds))
    batches = batches_of_seeds(noise(), size, [np.random.default_rng(seed) for seed in seeds], CUDA)
    rounding = {"float64": 1e-9, "float32": 1e-4}.get(precision, 2e-2)
    for index in range(20 if is_exact else 1):
        images = next(stacked_batches(batches)).to(torch.float64 if is_exact else torch.float32)
        terms = stacked(images, index)
        for place, (step, _) in enumerate(own):
            for name, value in step(images[place], index).items():
                torch.testing.assert_close(terms[name][place], value, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_many_steps_a_replay_of_several_seeds_have_the_losses_of_eager_ones(objective, precision):
    bindings = [f"acceleration.precision = {precision!r}"]
    seeds, size = (0, 3, 4), 8 * objective().num_batches

    def steps(*more):
        made = [make(objective(), *bindings, *more, seed=seed) for seed in seeds]
        stacked, advance = make_stacked_step(made, [0] * len(seeds))
        drawn = batches_of_seeds(noise(), size, [np.random.default_rng(seed) for seed in seeds], CUDA)
        return [step for step, _ in made], make_steps(stacked, advance, stacked_batches(drawn))

    members, replayed = steps()
    others, one_by_one = steps("acceleration.cuda_graph = False")
    assert isinstance(replayed, Replayed)
    assert_same_losses(replayed, one_by_one)
    for step, other in zip(members, others, strict=True):
        assert torch.equal(step.noise.get_state(), other.noise.get_state())


def test_seeds_are_trained_together_and_each_is_resumed_alone(tmp_path):
    """As a sweep's --seeds_together does it; losses and weights of each are those of its own run."""
    seeds = (0, 3)
    experiments = {seed: Experiment(tmp_path / f"seed_{seed}") for seed in seeds}
    with gin_configuration(["shared.gin"], [*SMALL, "model.training_steps = 25"]):
        outcomes = train_and_export_together(experiments, False, ground_truth_data=squares())
    assert outcomes == dict.fromkeys(seeds, "trained to step 25 of 25")
    for seed, experiment in experiments.items():
        seeded = [f"model.random_seed = {seed}", "model.training_steps = 60"]
        whole = run(tmp_path / f"whole_{seed}", *seeded)
        resumed = run(tmp_path / f"rest_{seed}", *seeded, source=experiment.path)
        torch.testing.assert_close(resumed, whole, rtol=1e-3, atol=1e-4)
        assert experiment.model.exists()


def test_the_eager_step_has_the_losses_of_the_cpu():
    """The noise is another; a beta-VAE's losses before any noise differ by rounding alone."""
    on_gpu, _ = make(OBJECTIVES["beta_vae"]())
    on_cpu, _ = make(OBJECTIVES["beta_vae"](), device=CPU)
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with on_gpu.arithmetic():
        ours = on_gpu.losses(images.cuda(), 0).named["kl_loss"].cpu()
    torch.testing.assert_close(ours, on_cpu.losses(images, 0).named["kl_loss"], rtol=1e-5, atol=1e-6)


def test_the_upload_and_what_stays_with_the_host_give_the_cpus_batches(monkeypatch, capsys):
    expected = random_batches(noise(), 6, np.random.default_rng(1))
    on_device = training_batches(noise(), 6, np.random.default_rng(1), CUDA)
    assert isinstance(on_device, DeviceBatches)
    monkeypatch.setattr(batches_module, "DEVICE_RESERVE", 2**60)
    from_host = training_batches(noise(), 6, np.random.default_rng(1), CUDA)
    for _ in range(5):
        wanted = to_network(next(expected), CPU)
        assert torch.equal(next(on_device).cpu(), wanted)
        assert torch.equal(next(from_host).cpu(), wanted)
    from_host.close()
    assert "stay in the host's memory" in capsys.readouterr().err


def run(path, *bindings, source=None, may_move=False):
    with gin_configuration(["shared.gin"], [*SMALL, *bindings]):
        resume_from = Experiment(source) if source else None
        trained = train(prepare(TrainingSettings(), Experiment(path), squares(), resume_from, may_move=may_move))
    return torch.cat([parameter.detach().flatten() for parameter in trained.vae.parameters()]).cpu()


def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_weights(tmp_path, capsys):
    whole = run(tmp_path / "whole", "model.training_steps = 60")
    assert f"device: cuda ({gpu_description()}), float32" in capsys.readouterr().err
    run(tmp_path / "part", "model.training_steps = 25")
    resumed = run(tmp_path / "rest", "model.training_steps = 60", source=tmp_path / "part")
    torch.testing.assert_close(resumed, whole, rtol=1e-4, atol=1e-5)
    eager = run(
        tmp_path / "eager", "model.training_steps = 60", "acceleration.cuda_graph = False", source=tmp_path / "part"
    )
    torch.testing.assert_close(eager, whole, rtol=1e-3, atol=1e-4)
    provenance = json.loads(Experiment(tmp_path / "whole").train_provenance.read_text())
    assert provenance["precision"] == "float32"
    assert provenance["versions"]["cuda"] == torch.version.cuda
    assert provenance["versions"]["cudnn"] == torch.backends.cudnn.version()


def test_a_run_can_be_finished_on_the_cpu(tmp_path, monkeypatch):
    run(tmp_path / "gpu", "model.training_steps = 20")
    monkeypatch.setenv("AICROWD_CUDA", "False")
    run(tmp_path / "cpu", "model.training_steps = 30", source=tmp_path / "gpu", may_move=True)
    state = read_checkpoint(newest_first(Experiment(tmp_path / "cpu").checkpoints)[0]).state
    assert state["devices"] == {0: "cuda", 20: "cpu"}


def encoder():
    step, _ = make(OBJECTIVES["beta_vae"](), "conv_encoder.width = 1", device=CPU)
    return MeanEncoder(step.vae.encoder)


@pytest.mark.parametrize("setting", ["tf32", "ieee"])
def test_encoding_is_ieee_float32_whatever_the_process_is_set_to(setting):
    images = noise().observations(np.arange(64))
    expected = module_representor(encoder())(images)
    with float32_products(setting):
        codes = make_representor(encoder(), cuda=True)(images)
    np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=1e-5)


def test_encoding_bytes_on_the_gpu_gives_the_cpus_codes():
    data = noise(3000)
    with RepresentationTable(data, module_representor(encoder()), np.arange(3000), 64) as on_cpu:
        expected = on_cpu.lookup(np.arange(3000))
    with RepresentationTable(data, make_representor(encoder(), cuda=True), np.arange(3000), 1024) as on_gpu:
        np.testing.assert_allclose(on_gpu.lookup(np.arange(3000)), expected, rtol=1e-5, atol=1e-5)


def test_scores_are_the_cpus():
    """All five, at the settings that make them quick."""
    data, model = squares(), encoder()
    on_cpu = score(model, data, settings=SETTINGS_OF_SCORES)
    on_gpu = score(model.cuda(), data, settings=SETTINGS_OF_SCORES)
    assert len(on_cpu) == 5
    for name, value in on_cpu.items():
        assert on_gpu[name] == pytest.approx(value, abs=1e-5), name


def test_the_graph_is_taken_where_it_can_be():
    assert isinstance(make(FactorVAE(7.0))[1], GraphedStep)
