import pytest
import torch
from shared_steps import OBJECTIVES
from torch.utils._python_dispatch import TorchDispatchMode

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.objectives import FactorVAE
from disentanglement_challenge.training.acceleration import (
    BFloat16Step,
    GraphedStep,
    StepOnCPU,
    make_step,
)
from disentanglement_challenge.training.step import TrainingStep

SMALL = [
    "encoder.num_latent = 3",
    "conv_encoder.width = 0.125",
    "deconv_decoder.width = 0.125",
    "fc_discriminator.width = 0.02",
]


def make(*bindings, device="cpu", objective=lambda: FactorVAE(7.0)):
    with gin_configuration(["shared.gin"], [*SMALL, *bindings], ["dataset", "model"]):
        return make_step(objective(), (3, 64, 64), 0, torch.device(device))


def batches(count, device="cpu"):
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(8, 3, 64, 64, generator=generator).to(device) for _ in range(count)]


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_on_a_cpu_it_is_the_plain_step_with_cheaper_layers(objective):
    step, fast = make(objective=objective)
    plain, _ = make(objective=objective)
    assert type(step) is TrainingStep
    assert type(fast) is StepOnCPU
    for index, images in enumerate(batches(10)):
        terms, expected = fast(images, index), plain(images, index)
        for name in expected:
            torch.testing.assert_close(terms[name], expected[name], rtol=1e-4, atol=1e-5)


def test_the_step_is_that_of_the_textbook_layout_and_optimiser():
    """Channels last and the fused Adam against PyTorch's defaults, from the same weights and with the same noise."""
    fast, _ = make()
    plain, _ = make()
    plain.vae.to(memory_format=torch.contiguous_format)
    for player in plain.players:
        group = player.optimizer.param_groups[0]
        assert group["fused"]
        player.optimizer = torch.optim.Adam(
            player.parameters, lr=group["lr"], betas=group["betas"], eps=group["eps"], foreach=False
        )
    for index, images in enumerate(batches(20)):
        terms, expected = fast(images, index), plain(images, index)
        for name in expected:
            torch.testing.assert_close(terms[name], expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_bfloat16_stays_near_float32_and_keeps_float32_weights(objective):
    """Eight bits of mantissa: a few parts in a thousand of a loss, and no more after some steps."""
    reduced, advance = make("acceleration.precision = 'bfloat16'", objective=objective)
    reference, _ = make(objective=objective)
    for index, images in enumerate(batches(10)):
        terms, expected = advance(images, index), reference(images, index)
        assert float(terms["reconstruction_loss"]) == pytest.approx(float(expected["reconstruction_loss"]), rel=5e-3)
        assert float(terms["kl_loss"]) == pytest.approx(float(expected["kl_loss"]), rel=0.1, abs=5e-3)
        assert {term.dtype for term in terms.values()} == {torch.float32}
    assert not torch.equal(*(next(step.vae.parameters()) for step in (reduced, reference)))
    assert {p.dtype for player in reduced.players for p in player.parameters} == {torch.float32}


class Autocast(TrainingStep):
    """bfloat16 as PyTorch itself does it, each weight cast where it is used."""

    def losses(self, images, step):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            return super().losses(images, step)


class Count(TorchDispatchMode):
    casts = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        self.casts += operation is torch.ops.aten._to_copy.default
        return operation(*arguments, **(named or {}))


@pytest.mark.parametrize("architecture", ["conv", "residual"])
@pytest.mark.parametrize("objective", [OBJECTIVES["factor_vae"], OBJECTIVES["dip_vae_ii"]])
def test_one_cast_of_all_weights_is_what_autocast_computes(objective, architecture):
    """To the last bit: losses, and weights after some steps."""
    bindings = [*SMALL, f"encoder.encoder_fn = @{architecture}_encoder"]
    bindings += ["residual_encoder.base_channels = 8", "reconstruction_loss.loss_fn = @bernoulli_loss"]
    with gin_configuration(["shared.gin"], bindings, ["dataset", "model"]):
        fast, plain = (kind(objective(), (3, 64, 64), 0, torch.device("cpu")) for kind in (BFloat16Step, Autocast))
    counts = []
    for step in (fast, plain):
        with Count() as count:
            step(batches(1)[0], 0)
        counts.append(count.casts)
    assert counts[0] < 0.5 * counts[1]
    for index, images in enumerate(batches(5)):
        terms, expected = fast(images, index), plain(images, index)
        for name in expected:
            assert torch.equal(terms[name], expected[name]), name
    for player, other in zip(fast.players, plain.players, strict=True):
        for parameter, expected in zip(player.parameters, other.parameters, strict=True):
            assert torch.equal(parameter, expected)


@pytest.mark.parametrize(
    ("precision", "message"), [("float16", "one of 'float32', 'tf32', 'bfloat16'"), ("tf32", "only NVIDIA GPUs")]
)
def test_a_precision_that_is_not_there(precision, message):
    with pytest.raises(ConfigError, match=message):
        make(f"acceleration.precision = {precision!r}")


def products():
    backends = torch.backends
    settings = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul]
    return [setting.fp32_precision for setting in settings] + [backends.cudnn.deterministic]


class Noting(FactorVAE):
    """Writes down how products are computed while a step is."""

    def __init__(self):
        super().__init__(7.0)
        self.noted = []

    def __call__(self, *arguments):
        self.noted.append(products())
        return super().__call__(*arguments)


def test_each_step_has_its_own_precision_and_leaves_the_settings_of_the_process():
    """Also after another step was made, as where the plain step is timed beside one with tf32."""
    found = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        before = products()
        assert before[3] == "bf16"
        short, plain = Noting(), Noting()
        step, _ = make(objective=lambda: short)
        step.precision = "tf32"  # which make_step refuses without a GPU
        other, _ = make(objective=lambda: plain)
        for images in batches(2):
            step(images, 0)
            other(images, 0)
            assert products() == before
        assert short.noted == [["tf32", "tf32", "tf32", "ieee", True]] * 2
        assert plain.noted == [["ieee", "ieee", "ieee", "ieee", True]] * 2
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = found


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_the_graphed_step_has_the_losses_of_the_eager_step(precision):
    eager, _ = make(f"acceleration.precision = {precision!r}", device="cuda")
    step, advance = make(f"acceleration.precision = {precision!r}", device="cuda")
    assert isinstance(advance, GraphedStep)
    for index, images in enumerate(batches(100, "cuda")):
        terms, expected = advance(images, index), eager(images, index)
        for name in expected:
            torch.testing.assert_close(terms[name], expected[name], rtol=1e-4, atol=1e-5)
    assert torch.equal(step.noise.get_state(), eager.noise.get_state())
