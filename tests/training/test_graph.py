"""The step recorded and replayed, with a stand-in for CUDA's graphs, against the plain step: equal to the last bit."""

import io
import json

import graphs_on_cpu
import numpy as np
import pytest
import torch
from shared_steps import OBJECTIVES, SETTINGS
from squares import SMALL, squares

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.objectives import BetaVAE, FactorVAE
from disentanglement_challenge.training import run as run_module
from disentanglement_challenge.training.acceleration import (
    BFloat16Step,
    GraphedStep,
    OneByOne,
    Replayed,
    make_step,
    make_steps,
)
from disentanglement_challenge.training.batches import DeviceBatches
from disentanglement_challenge.training.checkpoints import Checkpoint, Checkpoints, load_newest
from disentanglement_challenge.training.log_lines import read_log
from disentanglement_challenge.training.settings import TrainingSettings
from disentanglement_challenge.training.state import TrainingState
from disentanglement_challenge.training.step import TrainingStep

CPU = torch.device("cpu")
EVERY = {**OBJECTIVES, "factor_vae_second_batch": lambda: FactorVAE(20.0, second_batch=True)}
STEPS, KEPT = 20, 10


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    graphs_on_cpu.install(monkeypatch)


def build(kind, objective):
    with gin_configuration(["shared.gin"], SETTINGS, skip_unknown=["dataset", "model"]):
        return kind(objective, (3, 64, 64), 0, CPU)


def batches(objective, count=STEPS):
    generator = torch.Generator().manual_seed(2)
    shape = (4 * objective.num_batches, 64, 64, 3)
    return [torch.rand(shape, generator=generator).permute(0, 3, 1, 2) for _ in range(count)]


def everything(step):
    return [*step.tensors(), step.noise.get_state()]


def assert_same(step, other):
    for tensor, expected in zip(everything(step), everything(other), strict=True):
        assert torch.equal(tensor, expected)


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("kind", [TrainingStep, BFloat16Step])
@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_losses_weights_and_noise_are_the_plain_steps_also_after_resuming(objective, kind):
    plain, inner, again = (build(kind, objective()) for _ in range(3))
    fast = GraphedStep(inner)
    for index, images in enumerate(batches(objective())):
        terms, expected = fast(images, index), plain(images, index)
        for name, value in expected.items():
            assert torch.equal(terms[name], value), (name, index)
        if index + 1 == KEPT:
            state = TrainingState(inner, 0)
            state.done = KEPT
            kept = through_a_file(state.state_dict())
    assert_same(inner, plain)
    (graph,) = graphs_on_cpu.Graph.made
    assert graph.replays == STEPS - fast._recorded.WARM_UP
    assert graphs_on_cpu.Stream.made == 1  # for all warm-up steps

    TrainingState(again, 0).load_state_dict(kept)
    resumed = GraphedStep(again)
    for index, images in list(enumerate(batches(objective())))[KEPT:]:
        resumed(images, index)
    assert_same(again, plain)


def noise(num_images=40):
    images = np.random.default_rng(5).integers(256, size=(num_images, 64, 64, 3), dtype=np.uint8)
    return IndexedGroundTruthData("noise", images, [num_images], ["index"])


@pytest.mark.parametrize("objective", [EVERY["factor_vae_second_batch"], EVERY["annealed_vae"]])
def test_many_steps_a_replay_are_the_plain_steps_on_the_same_batches(objective):
    """In pieces of any length, as the loop cuts them: a graph of one step and one of ten."""
    data, size = noise(), 4 * objective().num_batches
    plain, inner = build(TrainingStep, objective()), build(TrainingStep, objective())
    random, other_random = np.random.default_rng(1), np.random.default_rng(1)
    drawn = DeviceBatches(torch.from_numpy(data.images), size, random)
    fast = make_steps(inner, GraphedStep(inner), drawn)
    assert isinstance(fast, Replayed)
    reference = OneByOne(plain, (to_network(batch, CPU) for batch in random_batches(data, size, other_random)))
    done = 0
    for count in (1, 7, 23, 10, 2):
        rows = fast(done, count)
        for index in range(count):
            for name, value in reference(done + index).items():
                assert torch.equal(rows[name][index], value), (name, done + index)
        done += count
        # So that a checkpoint kept here resumes with the next batch.
        assert random.bit_generator.state == other_random.bit_generator.state
    assert_same(inner, plain)
    assert sorted(graph.replays for graph in graphs_on_cpu.Graph.made) == [3, 43 - 3 - 30]
    assert torch.equal(next(drawn), to_network(next(random_batches(data, size, other_random)), CPU))


class Counting(BetaVAE):
    """An objective that keeps its own count of the steps, in Python."""

    def __init__(self):
        super().__init__(1.0)
        self.calls = 0

    def regularizer(self, codes):
        self.calls += 1
        return self.calls * codes.kl_loss, {}


class Reading(BetaVAE):
    """An objective that reads a tensor's value."""

    def __init__(self):
        super().__init__(1.0)

    def regularizer(self, codes):
        return (2 if float(codes.kl_loss.detach()) > 0 else 1) * codes.kl_loss, {}


def run(step, objective):
    for index, images in enumerate(batches(objective)):
        step(images, index)


def test_a_number_kept_in_python_is_found_at_the_first_replay():
    with pytest.raises(ConfigError, match=r"has other losses than .* keeps numbers in Python; .*cuda_graph = False"):
        run(GraphedStep(build(TrainingStep, Counting())), Counting())


def test_what_cannot_be_recorded_is_one_line_that_names_the_way_out():
    with pytest.raises(ConfigError) as caught:
        run(GraphedStep(build(TrainingStep, Reading())), Reading())
    assert str(caught.value) == (
        "the training step cannot be recorded as a CUDA graph (CUDA error: operation not permitted when stream is "
        "capturing); set acceleration.cuda_graph = False, also to resume this run"
    )


class FrozenUpdate(TrainingStep):
    """A step whose update is not of the graph: the losses of the next replay are right, and nothing moves."""

    steps = 0

    def update(self, losses):
        FrozenUpdate.steps += 1
        if FrozenUpdate.steps != 4:  # the recorded one
            super().update(losses)


def test_an_update_that_was_not_recorded_is_found(monkeypatch):
    monkeypatch.setattr(FrozenUpdate, "steps", 0)
    with pytest.raises(ConfigError, match="moves the weights otherwise than the same step without one"):
        run(GraphedStep(build(FrozenUpdate, BetaVAE(1.0))), BetaVAE(1.0))


def test_a_run_can_be_resumed_without_a_graph(tmp_path):
    with gin_configuration([], []):
        checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Checkpoint({"acceleration.cuda_graph": "True", "model.batch_size": "4"}, {"done": 3}))
    assert load_newest(tmp_path, {"acceleration.cuda_graph": "False", "model.batch_size": "4"}).done == 3


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Trains on the squares, replayed or step by step, and returns weights, final losses and logged lines."""

    def train_squares(name, *bindings, replayed, source=None):
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "make_step", graphed if replayed else plain)
            if replayed:
                patch.setattr(run_module, "training_batches", on_device)
            often = ["log.every_steps = 7", "pictures.every_steps = 15"]
            with gin_configuration(["shared.gin"], [*SMALL, *often, *bindings]):
                experiment = Experiment(tmp_path / name)
                run = run_module.prepare(TrainingSettings(), experiment, squares(), source and Experiment(source))
                result = run_module.train(run)
        losses = json.loads(experiment.losses.read_text())
        weights = [parameter.detach() for parameter in result.vae.parameters()]
        return weights, {key: losses[key] for key in losses if "second" not in key}, read_log(experiment.log)

    def on_device(data, batch_size, random, device, processes):
        return DeviceBatches(torch.from_numpy(data.images), batch_size, random, processes)

    def graphed(*arguments):
        step, _ = make_step(*arguments)
        return step, GraphedStep(step)

    def plain(*arguments):  # as a GPU computes, without a CPU's layers
        step, _ = make_step(*arguments)
        return step, step

    return train_squares


def assert_same_run(run, other):
    for weights, expected in zip(run[0], other[0], strict=True):
        assert torch.equal(weights, expected)
    assert run[1:] == other[1:]


@pytest.mark.parametrize("bindings", [[], ["factor_vae.second_batch = True", "acceleration.precision = 'bfloat16'"]])
def test_a_whole_run_is_the_same_also_when_it_is_resumed(trained, tmp_path, bindings):
    """Steps that log and draw cut the replays; a checkpoint that one run left is finished by the other kind."""
    whole = trained("plain", "model.training_steps = 60", *bindings, replayed=False)
    assert [line["step"] for line in whole[2]] == [*range(7, 60, 7), 60]
    assert_same_run(trained("replayed", "model.training_steps = 60", *bindings, replayed=True), whole)
    for name, replayed in (("half_plain", False), ("half_replayed", True)):
        trained(name, "model.training_steps = 25", *bindings, replayed=replayed)
        rest = trained(
            f"{name}_rest", "model.training_steps = 60", *bindings, replayed=not replayed, source=tmp_path / name
        )
        for weights, expected in zip(rest[0], whole[0], strict=True):
            assert torch.equal(weights, expected)
        assert rest[1] == whole[1]


def test_the_steps_between_two_looks_are_made_at_once(trained):
    trained("run", "model.training_steps = 60", "log.every_steps = 40", "pictures.every_steps = 25", replayed=True)
    one, ten = graphs_on_cpu.Graph.made
    # 3 to warm up; then up to steps 25, 40, 50 and 60, in tens as far as they go.
    assert (ten.replays, one.replays) == (2 + 1 + 1 + 1, 2 + 5)
