"""Several seeds in one step, against each seed's own step."""

import gin
import graphs_on_cpu
import numpy as np
import pytest
import torch
from shared_steps import OBJECTIVES
from torch import nn

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.models.encoders import GaussianEncoder
from disentanglement_challenge.objectives import AnnealedVAE, BetaVAE, FactorVAE
from disentanglement_challenge.training.acceleration import BFloat16Step, GraphedStep, OneByOne, Replayed, make_steps
from disentanglement_challenge.training.batches import DeviceBatches, stacked_batches
from disentanglement_challenge.training.stacked import StackedStep
from disentanglement_challenge.training.step import TrainingStep

CPU = torch.device("cpu")
EVERY = {**OBJECTIVES, "factor_vae_second_batch": lambda: FactorVAE(20.0, second_batch=True)}
SEEDS = (0, 3)
SHAPE = (3, 16, 16)
SMALL = [
    "encoder.num_latent = 3",
    "conv_encoder.width = 0.125",
    "deconv_decoder.width = 0.125",
    "fc_encoder.width = 0.02",
    "fc_decoder.width = 0.02",
    "residual_encoder.base_channels = 4",
    "residual_decoder.base_channels = 4",
    "fc_discriminator.width = 0.02",
    "vae/AdamOptimizer.learning_rate = 0.001",
    "discriminator/AdamOptimizer.learning_rate = 0.001",
]


@gin.configurable
def other_discriminator(num_latent):
    """One that `discriminate` does not take."""
    return nn.Sequential(nn.Linear(num_latent, 8), nn.Sigmoid(), nn.Linear(8, 2))


@gin.configurable
def encoder_with(input_shape, num_latent, layer):
    hidden = nn.Sequential(nn.Conv2d(input_shape[0], 4, 4, stride=4), layer(), nn.ReLU(), nn.Flatten())
    return GaussianEncoder(hidden, 4 * 4 * 4, num_latent)


@gin.configurable
def batch_norm():
    return nn.BatchNorm2d(4)


@gin.configurable
def dropout():
    return nn.Dropout()


def build(kind, objective, *bindings, seeds=SEEDS, dtype=torch.float32):
    """A step of its own for each seed."""
    with gin_configuration(["shared.gin"], [*SMALL, *bindings], skip_unknown=["dataset", "model"]):
        steps = [kind(objective, SHAPE, seed, CPU, num_images=1000) for seed in seeds]
    for step in steps:
        for player in step.players:
            player.network.to(dtype)
    return steps


def batches(count, num_batches=1, seeds=SEEDS, dtype=torch.float32):
    """Each seed has images of its own."""
    generator = torch.Generator().manual_seed(2)
    shape = (len(seeds), 4 * num_batches, *SHAPE[1:], SHAPE[0])
    return [torch.rand(shape, generator=generator).to(dtype).movedim(-1, -3) for _ in range(count)]


def stack(steps):
    return StackedStep(steps, [0] * len(steps))


def assert_same_losses(objective, count, dtype, *bindings, rtol, atol):
    """Of every seed and step; returns the seeds' steps, those of the stack first."""
    together, alone = (build(TrainingStep, objective(), *bindings, dtype=dtype) for _ in range(2))
    stacked = stack(together)
    for index, images in enumerate(batches(count, objective().num_batches, dtype=dtype)):
        terms = stacked(images, index)
        for seed, step in enumerate(alone):
            expected = step(images[seed], index)
            assert terms.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(terms[name][seed], value, rtol=rtol, atol=atol, msg=f"{name} at {index}")
    return together, alone


@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_in_float64_each_seed_has_the_losses_and_weights_of_its_own_steps(objective):
    together, alone = assert_same_losses(objective, 50, torch.float64, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(together, alone, strict=True):
        for tensor, expected in zip(ours.tensors(), theirs.tensors(), strict=True):
            torch.testing.assert_close(tensor, expected, rtol=1e-7, atol=1e-9)
        assert torch.equal(ours.noise.get_state(), theirs.noise.get_state())


@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_in_float32_the_losses_are_the_same_up_to_rounding(objective):
    """With smooth activations. Rounding can wake a unit of ReLU, and Adam then moves weights that had no gradient by
    its whole rate: from there on two runs are apart, as they also are in two layouts of memory."""
    networks = ("conv_encoder", "deconv_decoder", "fc_discriminator")
    smooth = [f"{network}.activation = 'tanh'" for network in networks]
    assert_same_losses(objective, 20, torch.float32, *smooth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "bindings",
    [
        ["encoder.encoder_fn = @fc_encoder", "decoder.decoder_fn = @fc_decoder", "fc_discriminator.activation = 'elu'"],
        ["encoder.encoder_fn = @residual_encoder", "decoder.decoder_fn = @residual_decoder"],
        ["discriminator.discriminator_fn = @other_discriminator", "reconstruction_loss.loss_fn = @l2_loss"],
        ["bernoulli_loss.subtract_true_image_entropy = True", "reconstruction_loss.activation = 'tanh'"],
        ["encoder.encoder_fn = @encoder_with", "encoder_with.layer = @batch_norm"],
    ],
)
def test_other_networks_and_losses(bindings):
    """Batch normalisation keeps tensors beside its parameters, of each seed its own."""
    together, alone = assert_same_losses(EVERY["factor_vae"], 5, torch.float64, *bindings, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(together, alone, strict=True):
        for tensor, expected in zip(ours.vae.buffers(), theirs.vae.buffers(), strict=True):
            torch.testing.assert_close(tensor, expected, rtol=1e-7, atol=1e-9)


def gradients(step, losses):
    """Of both players' kept parameters, each by its own loss."""
    found = []
    for player, loss in zip(step.players, (losses.first_player, losses.second_player), strict=False):
        player.backward(loss, retain_graph=True)
        player.take_gradients()
        found += [parameter.grad for parameter in player.parameters]
    return found


@pytest.mark.parametrize(
    ("objective", "bindings"),
    [
        ("factor_vae", []),
        ("factor_vae", ["discriminator.discriminator_fn = @other_discriminator"]),
        ("dip_vae_ii", ["encoder.encoder_fn = @residual_encoder", "decoder.decoder_fn = @residual_decoder"]),
    ],
)
def test_in_bfloat16_gradients_are_as_near_to_the_truth_as_those_of_a_seed_alone(objective, bindings):
    together, alone = (build(BFloat16Step, EVERY[objective](), *bindings) for _ in range(2))
    truths = build(TrainingStep, EVERY[objective](), *bindings, dtype=torch.float64)
    stacked = stack(together)
    (images,) = batches(1)
    ours = gradients(stacked, stacked.losses(images, 0))
    assert {gradient.dtype for gradient in ours} == {torch.float32}
    assert torch.bfloat16 in {used.dtype for player in stacked.players for used in player.used}
    for seed, (step, truth) in enumerate(zip(alone, truths, strict=True)):
        drawn = build(BFloat16Step, EVERY[objective](), *bindings)[seed].draw(len(images[seed]))
        exact = truth.losses_of(images[seed].double(), {name: drawn[name].double() for name in drawn}, 0)
        own = gradients(step, step.losses(images[seed], 0))
        for gradient, theirs, expected in zip(ours, own, gradients(truth, exact), strict=True):
            error, allowed = (float((value - expected).norm()) for value in (gradient[seed], theirs))
            assert error <= 1.5 * allowed + 1e-3 * float(expected.norm())


def test_the_cast_copy_is_made_at_once_for_all_seeds():
    stacked, alone = stack(build(BFloat16Step, FactorVAE(7.0))), build(BFloat16Step, FactorVAE(7.0))[0]
    (images,) = batches(1)
    for index in range(3):
        stacked(images, index)
        alone(images[0], index)
    for player, own in zip(stacked.players, alone.players, strict=True):
        player.refresh()
        for used, kept, by_itself in zip(player.used, player.parameters, own.used, strict=True):
            assert used.dtype == by_itself.dtype
            assert torch.equal(used, kept.to(used.dtype))


def test_seeds_may_be_at_different_steps():
    def objective():
        return AnnealedVAE(gamma=10.0, c_max=5.0, iteration_threshold=10)

    together, alone = (build(TrainingStep, objective(), dtype=torch.float64) for _ in range(2))
    stacked = StackedStep(together, [0, 7])
    for index, images in enumerate(batches(5, dtype=torch.float64)):
        terms = stacked(images, index)
        for seed, done in enumerate((0, 7)):
            expected = alone[seed](images[seed], done + index)
            assert float(terms["capacity"][seed]) == pytest.approx(min(1, (done + index) / 10) * 5)
            torch.testing.assert_close(terms["loss"][seed], expected["loss"], rtol=1e-9, atol=0)


def test_a_seed_that_diverges_changes_nothing_of_the_others():
    spoilt, sound = (build(TrainingStep, FactorVAE(20.0)) for _ in range(2))
    one, other = stack(spoilt), stack(sound)
    for index, images in enumerate(batches(8)):
        if index == 3:
            for parameter in spoilt[1].vae.parameters():
                parameter.data *= 1e30
        terms, expected = one(images, index), other(images, index)
        for name, value in expected.items():
            assert torch.equal(terms[name][0], value[0])
        assert bool(terms["loss"][1].isfinite()) is (index < 3)
    assert all(map(torch.equal, spoilt[0].tensors(), sound[0].tensors()))
    assert not all(tensor.isfinite().all() for tensor in spoilt[1].tensors())


def test_what_is_kept_of_a_seed_is_its_own_part():
    (together, alone), (images,) = (build(TrainingStep, FactorVAE(20.0)) for _ in range(2)), batches(1)
    stack(together)(images, 0)
    alone[1](images[1], 0)
    saved, expected = (steps[1].state_dict()["players"] for steps in (together, alone))
    for player, other in zip(saved, expected, strict=True):
        assert player.keys() == other.keys()
        assert player["network"].keys() == other["network"].keys()
        for name, weight in player["network"].items():
            assert weight.untyped_storage().nbytes() == weight.nbytes
            assert weight.stride() == other["network"][name].stride()
            torch.testing.assert_close(weight, other["network"][name], rtol=0, atol=1e-5)
        assert player["optimizer"]["param_groups"] == other["optimizer"]["param_groups"]
        assert player["optimizer"]["state"].keys() == other["optimizer"]["state"].keys()


class Reading(BetaVAE):
    """An objective that reads a tensor's value."""

    def __init__(self):
        super().__init__(1.0)

    def regularizer(self, codes):
        return (2 if float(codes.kl_loss) > 0 else 1) * codes.kl_loss, {}


@pytest.mark.parametrize(
    ("objective", "bindings", "reason"),
    [
        (lambda: BetaVAE(1.0), ["encoder.encoder_fn = @encoder_with", "encoder_with.layer = @dropout"], "random"),
        (Reading, [], r"\.item\(\)"),
    ],
)
def test_what_cannot_be_shared_is_one_line(objective, bindings, reason):
    stacked = stack(build(TrainingStep, objective(), *bindings))
    with pytest.raises(ConfigError, match=rf"^these seeds cannot share their steps \(.*{reason}.*\); train each by"):
        stacked(batches(1)[0], 0)


def test_seeds_of_several_precisions_cannot_share_a_step():
    steps = build(TrainingStep, BetaVAE(1.0))
    steps[1].precision = "bfloat16"
    with pytest.raises(ConfigError, match="begun in bfloat16 and float32, so they cannot share their steps"):
        stack(steps)


@pytest.fixture
def _stand_in(monkeypatch):
    graphs_on_cpu.install(monkeypatch)


@pytest.mark.usefixtures("_stand_in")
@pytest.mark.parametrize("kind", [TrainingStep, BFloat16Step])
@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_a_graph_of_several_seeds_replays_their_steps(objective, kind):
    """To the last bit, with one graph for all."""
    ours, theirs = (build(kind, objective()) for _ in range(2))
    fast, plain = GraphedStep(stack(ours)), stack(theirs)
    for index, images in enumerate(batches(6, objective().num_batches)):
        terms, expected = fast(images, index), plain(images, index)
        for name, value in expected.items():
            assert torch.equal(terms[name], value), (name, index)
    (graph,) = graphs_on_cpu.Graph.made
    assert graph.replays == 3
    assert graph.generators == [step.noise for step in ours]
    for step, other in zip(ours, theirs, strict=True):
        assert all(map(torch.equal, step.tensors(), other.tensors()))
        assert torch.equal(step.noise.get_state(), other.noise.get_state())


@pytest.mark.usefixtures("_stand_in")
def test_many_steps_a_replay_are_each_seeds_steps_on_its_own_batches():
    images = torch.from_numpy(np.random.default_rng(5).integers(256, size=(40, 16, 16, 3), dtype=np.uint8))
    objective = EVERY["factor_vae_second_batch"]

    def steps(randoms, make_advance):
        members = build(TrainingStep, objective())
        stacked = stack(members)
        drawn = stacked_batches([DeviceBatches(images, 8, random) for random in randoms])
        return members, make_steps(stacked, make_advance(stacked), drawn)

    randoms, others = ([np.random.default_rng(seed) for seed in SEEDS] for _ in range(2))
    ours, replayed = steps(randoms, GraphedStep)
    theirs, reference = steps(others, lambda stacked: stacked)
    assert isinstance(replayed, Replayed)
    assert isinstance(reference, OneByOne)
    done = 0
    for count in (1, 7, 13):
        rows = replayed(done, count)
        for index in range(count):
            for name, value in reference(done + index).items():
                assert torch.equal(rows[name][index], value), (name, done + index)
        done += count
        assert [r.bit_generator.state for r in randoms] == [r.bit_generator.state for r in others]
    for step, other in zip(ours, theirs, strict=True):
        assert all(map(torch.equal, step.tensors(), other.tensors()))
    alone = DeviceBatches(images, 8, np.random.default_rng(SEEDS[1]))
    for _ in range(done):
        expected = next(alone)
    assert torch.equal(next(alone), next(DeviceBatches(images, 8, randoms[1])))
    assert expected.shape == (8, 3, 16, 16)


@pytest.mark.usefixtures("_stand_in")
def test_a_seed_that_is_no_number_from_the_start_does_not_spoil_the_check_of_the_graph():
    members, sound = (build(TrainingStep, FactorVAE(20.0)) for _ in range(2))
    next(members[0].vae.parameters()).data.fill_(float("nan"))
    fast, plain = GraphedStep(stack(members)), stack(sound)
    for index, images in enumerate(batches(6)):
        terms, expected = fast(images, index), plain(images, index)
        assert torch.equal(terms["loss"][1:], expected["loss"][1:])
