"""The training step in less time: lower precision, and on a GPU the whole step as one graph.

`TrainingStep` stays what it is; these wrap it from outside, and it is what they are tested against.
"""

from collections.abc import Callable

import gin
import torch
from torch import Tensor

from disentanglement_challenge.checks import check_choice, check_switch
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.objectives import Objective
from disentanglement_challenge.training.processes import ALONE, Processes
from disentanglement_challenge.training.step import Losses, TrainingStep

PRECISIONS = ("float32", "tf32", "bfloat16")

Advance = Callable[[Tensor, int], dict[str, Tensor]]
"""Images [B, C, H, W] and the number of updates made to named scalars, after one more update."""


@gin.configurable("acceleration", allowlist=["precision", "cuda_graph"])
def make_step(
    objective: Objective,
    observation_shape: tuple[int, int, int],
    random_seed: int,
    device: torch.device,
    processes: Processes = ALONE,
    num_images: int | None = None,
    precision: str = "float32",
    cuda_graph: bool = True,
) -> tuple[TrainingStep, Advance]:
    """A training step, and the callable that makes it fastest.

    Args:
        objective, observation_shape, random_seed, device, processes, num_images: as for `TrainingStep`.
        precision: "float32", the default and the reference; "tf32", NVIDIA's shorter products of float32; "bfloat16",
            which keeps weights, optimisers and sums in float32 and multiplies in bfloat16. On a processor without
            instructions for it (AMX or AVX512_BF16) bfloat16 is slower than float32.
        cuda_graph: whether to replay the step as a graph on a GPU; several processes never do.

    Raises:
        ConfigError: another precision, or one that the device does not have; what building the networks raises.
    """
    check_choice("acceleration.precision", precision, PRECISIONS)
    check_switch("acceleration.cuda_graph", cuda_graph)
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError("acceleration.precision is 'tf32', which only NVIDIA GPUs have; use 'float32' here")
    # PyTorch's own defaults differ between convolutions and matrix products.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    kind = BFloat16Step if precision == "bfloat16" else TrainingStep
    step = kind(objective, observation_shape, random_seed, device, processes, num_images)
    step.precision = precision
    use_graph = cuda_graph and device.type == "cuda" and processes.size == 1
    return step, GraphedStep(step) if use_graph else step


class BFloat16Step(TrainingStep):
    """A step whose convolutions and matrix products take bfloat16; codes, sums and updates stay float32."""

    def __init__(
        self,
        objective: Objective,
        observation_shape: tuple[int, int, int],
        random_seed: int,
        device: torch.device,
        processes: Processes = ALONE,
        num_images: int | None = None,
    ) -> None:
        """See `TrainingStep`."""
        super().__init__(objective, observation_shape, random_seed, device, processes, num_images)
        if self.second_player is not None:
            # FactorVAE clips probabilities at 1 - 1e-6, which is 1 in bfloat16.
            self.second_player.network.register_forward_hook(lambda network, inputs, logits: logits.float())

    def losses(self, images: Tensor, step: int | Tensor) -> Losses:
        """See `TrainingStep.losses`."""
        # Weights are used once, so there is nothing to gain by caching their casts, which a graph would not refresh.
        with torch.autocast(images.device.type, torch.bfloat16, cache_enabled=False):
            return super().losses(images, step)


class GraphedStep:
    """A step, both optimisers included, that is recorded as a CUDA graph and replayed.

    A small network's step is a few hundred kernels of microseconds each, which the host can hardly launch as fast.
    The scalars that it returns are overwritten by the next call.
    """

    # CUDA wants a few steps on a side stream before it records one: they make the optimisers' state and choose
    # algorithms. They are steps of the training like all others.
    WARM_UP = 3

    def __init__(self, step: TrainingStep) -> None:
        self._step = step
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """See `TrainingStep.__call__`."""
        if self._calls < self.WARM_UP:
            self._calls += 1
            return self._on_side_stream(images, step)
        if self._graph is None:
            self._graph = self._record(images)
        self._images.copy_(images)
        self._index.fill_(step)
        self._graph.replay()
        return self._terms

    def _on_side_stream(self, images: Tensor, step: int) -> dict[str, Tensor]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            terms = self._step(images, step)
        torch.cuda.current_stream().wait_stream(stream)
        return terms

    def _record(self, images: Tensor) -> torch.cuda.CUDAGraph:
        """Records a step without making it; what it reads and writes stays where it is."""
        self._images = images.clone()
        self._index = torch.zeros((), dtype=torch.int64, device=images.device)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._step.noise)
        with torch.cuda.graph(graph):
            self._terms = self._step(self._images, self._index)
        return graph
