"""Accelerate the training step: lower precision, cheaper layers on a CPU, and the whole step as one graph on a GPU.

`TrainingStep` stays what it is; these wrap it from outside, and it is what they are tested against.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import gin
import torch
from torch import Tensor, nn

from disentanglement_challenge.checks import check_choice, check_switch
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.objectives import Objective
from disentanglement_challenge.objectives.pass_back import is_plain
from disentanglement_challenge.training.batches import DeviceBatches
from disentanglement_challenge.training.graph import Recorded
from disentanglement_challenge.training.precision import AUTO, PRECISIONS, check_has_precision, precision_that_pays
from disentanglement_challenge.training.processes import ALONE, Processes
from disentanglement_challenge.training.step import Losses, Step, TrainingStep
from disentanglement_challenge.training.transposed_convolution import composed_transposed_convolutions

Advance = Callable[[Tensor, int], dict[str, Tensor]]
"""Images [B, C, H, W] and the number of updates made to named scalars, after one more update."""


@gin.configurable("acceleration", allowlist=["precision", "cuda_graph"])
def make_step(
    objective: Objective,
    input_shape: tuple[int, int, int],
    random_seed: int,
    device: torch.device,
    processes: Processes = ALONE,
    num_images: int | None = None,
    precision: str = "float32",
    cuda_graph: bool = True,
) -> tuple[TrainingStep, Advance]:
    """Build a training step and its fastest callable.

    Args:
        objective, input_shape, random_seed, device, processes, num_images: as for `TrainingStep`.
        precision: "float32", the default and the reference; "tf32", NVIDIA's shorter products of float32; "bfloat16",
            which keeps weights, optimisers and sums in float32 and multiplies in bfloat16; "auto", as
            `precision_that_pays` has it. On a processor without instructions for it bfloat16 is slower than float32.
        cuda_graph: whether to replay the step as a graph on a GPU; several processes never do. A run may be resumed
            with another choice.

    Raises:
        ConfigError: another precision, or one that the device does not have; what building the networks raises.
    """
    check_choice("acceleration.precision", precision, (*PRECISIONS, AUTO))
    check_switch("acceleration.cuda_graph", cuda_graph)
    if precision == AUTO:
        precision, _ = processes.from_leader(lambda: precision_that_pays(device))
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError("acceleration.precision is 'tf32', which only NVIDIA GPUs have; use 'float32' here")
    if precision != "float32" and device.type == "cuda":
        check_has_precision(precision, torch.cuda.get_device_name(), torch.cuda.get_device_capability())
    kind = BFloat16Step if precision == "bfloat16" else TrainingStep
    step = kind(objective, input_shape, random_seed, device, processes, num_images)
    step.precision = precision
    if device.type == "cpu":
        return step, StepOnCPU(step)
    return step, GraphedStep(step) if cuda_graph and processes.size == 1 else step


class BFloat16Step(TrainingStep):
    """A step with convolutions and matrix products in bfloat16; codes, sums and updates stay float32.

    It computes what autocast computes. The weights are cast all at once, before the step, and their gradients after it,
    where autocast casts each by itself: 94 operations of FactorVAE's 301.
    """

    def __init__(
        self,
        objective: Objective,
        input_shape: tuple[int, int, int],
        random_seed: int,
        device: torch.device,
        processes: Processes = ALONE,
        num_images: int | None = None,
    ) -> None:
        """See `TrainingStep`."""
        super().__init__(objective, input_shape, random_seed, device, processes, num_images)
        for player in self.players:
            player.compute_by(_in_bfloat16(player.network))
        if self.second_player is not None:
            network = self.second_player.computes
            if not is_plain(network):  # whose logits are float32 already
                # FactorVAE clips probabilities at 1 - 1e-6, which is 1 in bfloat16.
                network.register_forward_hook(lambda network, inputs, logits: logits.float())

    def losses_of(self, images: Tensor, drawn: dict[str, Tensor], step: int | Tensor) -> Losses:
        """See `TrainingStep.losses_of`."""
        # Each remaining cast is used once, and a CUDA graph would not refresh autocast's cache.
        with torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False):
            return super().losses_of(images, drawn, step)


def _in_bfloat16(network: nn.Module) -> nn.Module:
    """Return a copy that shares all with the network except the parameters that autocast casts; those are bfloat16."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    for layer in network.modules():
        if type(layer) in (nn.Linear, nn.Conv2d, nn.ConvTranspose2d):
            for parameter in layer.parameters(recurse=False):
                memo[id(parameter)] = nn.Parameter(parameter.detach().to(torch.bfloat16))
    return copy.deepcopy(network, memo)


class StepOnCPU:
    """A step that computes transposed convolutions in the fastest way for a CPU."""

    def __init__(self, step: TrainingStep) -> None:
        self.step = step

    def __call__(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """See `TrainingStep.__call__`."""
        with composed_transposed_convolutions(self.step.first_player.computes):
            return self.step(images, step)


class GraphedStep:
    """A step with both optimisers that is recorded as a CUDA graph and replayed on given batches.

    A small network's step is a few hundred kernels of microseconds each, which the host can hardly launch as fast.
    The scalars that it returns are overwritten by the next call.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self._recorded: Recorded | None = None
        self._names: list[str] = []
        self._losses: Tensor | None = None  # [number of terms, and whatever shape a term has]

    def __call__(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """See `TrainingStep.__call__`."""
        if self._recorded is None:
            self._images = images.clone()
            self._index = torch.zeros((), dtype=torch.int64, device=images.device)
            self._recorded = Recorded(self.step, self._advance, self._latest)
        self._images.copy_(images)
        self._index.fill_(step)
        self._recorded()
        return dict(zip(self._names, self._latest().unbind(), strict=True))

    def _advance(self) -> None:
        terms = self.step(self._images, self._index)
        values = torch.stack([*terms.values()])
        if self._losses is None:  # in the first step, which is not recorded
            self._names = list(terms)
            self._losses = torch.empty_like(values)
        self._losses.copy_(values)

    def _latest(self) -> Tensor:
        assert self._losses is not None
        return self._losses


class Steps(Protocol):
    """A function that makes updates on its own batches, at most `at_once` in one call."""

    at_once: int

    def __call__(self, done: int, count: int) -> dict[str, Tensor]:
        """Make `count` updates after `done`; return named losses, of shape [count, ...], or [...] for one update."""
        ...


class OneByOne:
    """Single steps, each on the next batch."""

    at_once = 1

    def __init__(self, advance: Advance, batches: Iterator[Tensor]) -> None:
        self._advance = advance
        self._batches = batches

    def __call__(self, done: int, count: int = 1) -> dict[str, Tensor]:
        """See `Steps`."""
        return self._advance(next(self._batches), done)


class Replayed:
    """Many steps with little work for the host, for images that are on the device.

    The indices of all their batches go up at once. Choosing the images, making floats of their bytes, and writing down
    the losses are part of the graph, which finds its place by a counter on the device.
    """

    at_once = 50
    # Between two graphs the device waits for the next launch, so there is one of several steps too.
    UNROLLED = 10

    def __init__(self, step: Step, batches: DeviceBatches) -> None:
        self._step = step
        self._batches = batches
        device = batches.images.device
        self._indices = torch.zeros(self.at_once, *batches.shape, dtype=torch.int64, device=device)
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._index = torch.zeros((), dtype=torch.int64, device=device)
        self._names: list[str] = []
        self._losses: Tensor | None = None  # [at_once, number of terms, ...]
        self._recorded = Recorded(step, self._advance, self._latest, (self._place, self._index))

    def __call__(self, done: int, count: int) -> dict[str, Tensor]:
        """See `Steps`; the losses are overwritten by the next call."""
        self._indices[:count].copy_(self._batches.indices(count), non_blocking=True)
        self._place.zero_()
        self._index.fill_(done)
        left = count
        while left:
            left -= self._recorded(self.UNROLLED if left >= self.UNROLLED else 1)
        assert self._losses is not None
        return dict(zip(self._names, self._losses[:count].unbind(dim=1), strict=True))

    def _advance(self) -> None:
        chosen = self._batches.take(self._indices.index_select(0, self._place)[0])
        terms = self._step(chosen, self._index)
        values = torch.stack([*terms.values()])
        if self._losses is None:  # in the first step, which is not recorded
            self._names = list(terms)
            self._losses = values.new_zeros(self.at_once, *values.shape)
        self._losses.index_copy_(0, self._place, values[None])
        self._place.add_(1)
        self._index.add_(1)

    def _latest(self) -> Tensor:
        assert self._losses is not None
        return self._losses.index_select(0, self._place - 1)[0]


def make_steps(step: Step, advance: Advance, batches: Iterator[Tensor]) -> Steps:
    """Return the fastest `Steps` for this kind of step and source of batches."""
    if isinstance(advance, GraphedStep) and isinstance(batches, DeviceBatches):
        return Replayed(step, batches)
    return OneByOne(advance, batches)
