"""Record work of constant shapes as a CUDA graph, check it, and replay it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from disentanglement_challenge.errors import ConfigError, lines_of
from disentanglement_challenge.training.step import Step

# Of the losses of one step from the same weights and noise, relative. Sums that are added up in another order differ
# by a hundredth of this; a loss whose weight was recorded as a constant differs by what that weight has moved.
TOLERANCE = 1e-4

# Of one update's difference, by its own length. An update that is missing, or another one's, differs by 1 and more;
# one of the same gradients up to rounding by next to nothing, but for weights whose gradient is rounding alone, which
# Adam moves as far as the others.
UPDATE_TOLERANCE = 0.5

ADVICE = "set acceleration.cuda_graph = False, also to resume this run"


class Recorded:
    """Work around a training step that is replayed as a graph after a few calls."""

    # CUDA wants a few steps on a side stream before it records one: they make the optimisers' state and choose
    # algorithms. They are steps of the training like all others.
    WARM_UP = 3

    def __init__(
        self,
        step: Step,
        body: Callable[[], None],
        losses: Callable[[], Tensor],
        counters: Sequence[Tensor] = (),
    ) -> None:
        """Set up the recording without starting it.

        Args:
            step: taken in the body.
            body: takes one step, from tensors that stay where they are.
            losses: those of the last step, as one tensor.
            counters: what else the body changes that decides the next call.
        """
        self._step = step
        self._body = body
        self._losses = losses
        self._counters = counters
        self._calls = 0
        self._stream: torch.cuda.Stream | None = None
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def __call__(self, count: int = 1) -> int:
        """Do the work up to `count` times, and return how often: once until a graph is recorded.

        Raises:
            ConfigError: it cannot be recorded, or what is recorded is not what it does.
        """
        if self._calls < self.WARM_UP:
            self._calls += 1
            self._on_side_stream()
            return 1
        if not self._graphs:
            self._graphs[1] = self._record(1)
            self._replay_checked()
            return 1
        if count not in self._graphs:
            self._graphs[count] = self._record(count)
        self._graphs[count].replay()
        return count

    def _on_side_stream(self) -> None:
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._body()
        torch.cuda.current_stream().wait_stream(self._stream)

    def _record(self, count: int) -> torch.cuda.CUDAGraph:
        """Record this number of repetitions of the work without doing it; its inputs and outputs keep their memory."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._step.generators:
            graph.register_generator_state(generator)
        # Nothing that outlives a replay lies in a graph's own memory, so that all can share it.
        pool = self._graphs[1].pool() if self._graphs else None
        try:
            with torch.cuda.graph(graph, pool=pool):
                for _ in range(count):
                    self._body()
        except RuntimeError as error:
            raise ConfigError(
                f"the training step cannot be recorded as a CUDA graph ({_first_cause(error)}); {ADVICE}"
            ) from error
        return graph

    def _replay_checked(self) -> None:
        """Replay the first graph, after the same step without it, from the same weights and with the same noise."""
        with self._taken_back() as moved:
            self._on_side_stream()
            expected = self._losses().clone()
            wanted = moved()
        before = self._weights()
        self._graphs[1].replay()
        difference = (self._losses() - expected).abs() / expected.abs().clamp(min=1e-3)
        # A loss that is NaN in both is no fault of the graph; the training loop reports it.
        difference = difference.where(self._losses().isfinite() | expected.isfinite(), 0)
        if not bool((difference <= TOLERANCE).all()):
            raise ConfigError(
                "a step replayed as a CUDA graph has other losses than the same step without one (largest relative "
                f"difference {float(difference.max()):.1e}), as where an objective keeps numbers in Python; {ADVICE}"
            )
        update = self._weights() - before
        if float((update - wanted).norm()) > UPDATE_TOLERANCE * float(wanted.norm()):
            raise ConfigError(
                f"a step replayed as a CUDA graph moves the weights otherwise than the same step without one; {ADVICE}"
            )

    def _weights(self) -> Tensor:
        return torch.cat([weight.detach().flatten() for player in self._step.players for weight in player.parameters])

    @contextmanager
    def _taken_back(self) -> Iterator[Callable[[], Tensor]]:
        """Undo the step of the block at its end; yield a function that measures how far the weights have moved."""
        tensors = [*self._counters, *self._step.tensors()]
        kept = [tensor.detach().clone() for tensor in tensors]
        noise = [(generator, generator.get_state()) for generator in self._step.generators]
        default = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        before = self._weights()
        yield lambda: self._weights() - before
        with torch.no_grad():
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
        for generator, state in noise:
            generator.set_state(state)
        if default is not None:
            torch.cuda.set_rng_state(default)


def _first_cause(error: BaseException) -> str:
    """Return the original error of a failed recording: ending the recording raises another, less informative one."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{lines_of(error)[0]:.200}"
