"""The steps of several seeds as one step, on their stacked weights.

A small network's step is a few hundred kernels of microseconds each, and a GPU that computes them is hardly used. Under
`torch.vmap` each operation does its work for all seeds in one kernel. Each seed keeps a `TrainingStep` of its own, with
its optimisers, its stream of noise and its weights, which are parts of the stacked ones: what is kept, drawn and
exported of a seed is what it would be of a run alone. Only sums are added up in another order.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from disentanglement_challenge.errors import ConfigError, lines_of
from disentanglement_challenge.objectives.pass_back import is_plain
from disentanglement_challenge.training.step import Losses, Player, Step, TrainingStep, Weights


class StackedStep(Step):
    """The steps of several seeds of one configuration, taken together.

    Called with images [N, num_batches * B, C, H, W] and the number of updates made since it was built, it returns named
    losses [N]. A seed whose losses are no longer finite changes nothing of the others'.
    """

    def __init__(self, steps: Sequence[TrainingStep], done: Sequence[int]) -> None:
        """Stack the weights of these steps; their own weights become views of the stack.

        Args:
            steps: one for each seed, which differ in nothing else; on one device, in this process alone.
            done: updates that each has made.

        Raises:
            ConfigError: they compute in several precisions, as "auto" may have begun them on several machines.
        """
        precisions = sorted({step.precision for step in steps})
        if len(precisions) > 1:
            raise ConfigError(
                f"these seeds were begun in {' and '.join(precisions)}, so they cannot share their steps; "
                "train each by itself"
            )
        self.precision = precisions[0]
        self._steps = steps
        self._players = [StackedPlayer(players) for players in zip(*(step.players for step in steps), strict=True)]
        self._losses_of = _LossesOf(steps[0])
        self._done = torch.tensor(done, device=steps[0].noise.device)
        # Layers may keep tensors beside their parameters, and change them.
        networks = [[player.computes for player in step.players] for step in steps]
        buffers = [[buffer for network in own for buffer in network.buffers()] for own in networks]
        self._buffers = _stacked(zip(*buffers, strict=True))

    @property
    def players(self) -> "list[StackedPlayer]":
        """See `Step`."""
        return self._players

    @property
    def generators(self) -> list[torch.Generator]:
        """See `Step`."""
        return [generator for step in self._steps for generator in step.generators]

    def tensors(self) -> list[Tensor]:
        """See `Step.tensors`."""
        return [tensor for step in self._steps for tensor in step.tensors()]

    def losses(self, images: Tensor, step: int | Tensor) -> Losses:
        """See `Step.losses`: the sums over the seeds, and named losses [N].

        Raises:
            ConfigError: the networks or the objective do what several seeds cannot do at once.
        """
        for player in self._players:
            player.refresh()
        drawn = [one.draw(images.shape[1]) for one in self._steps]
        stacked = {name: torch.stack([own[name] for own in drawn]) for name in drawn[0]}
        used = [parameter for player in self._players for parameter in player.used]
        weights = dict(zip(self._losses_of.names, [*used, *self._buffers], strict=True))
        try:
            minimised, named = torch.vmap(self._of_one)(weights, images, stacked, self._done + step)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            raise ConfigError(
                f"these seeds cannot share their steps ({lines_of(error)[0]:.300}); train each by itself"
            ) from error
        first, *others = (losses.sum() for losses in minimised)
        return Losses(first, others[0] if others else None, named, self._losses_of.is_apart)

    def _of_one(
        self, weights: dict[str, Tensor], images: Tensor, drawn: dict[str, Tensor], step: Tensor
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        return functional_call(self._losses_of, weights, (images, drawn, step))


class StackedPlayer(Weights):
    """The weights of one player of every seed, [N, ...], each moved by its seed's own optimiser."""

    def __init__(self, players: Sequence[Player]) -> None:
        """Stack the weights of these players; their own weights become views of the stack."""
        self._players = players
        self.parameters = self.used = _stacked(zip(*(player.parameters for player in players), strict=True))
        one = players[0]
        if one.used is not one.parameters:
            copies = zip(*(player.used for player in players), strict=True)
            self.compute_with(
                [
                    kept if own[0] is parameter else _stacked([own])[0]
                    for kept, parameter, own in zip(self.parameters, one.parameters, copies, strict=True)
                ]
            )

    def move(self) -> None:
        """See `Weights.move`."""
        for seed, player in enumerate(self._players):
            for stacked, parameter in zip(self.parameters, player.parameters, strict=True):
                parameter.grad = None if stacked.grad is None else stacked.grad[seed]
            player.move()
            player.clear_gradients()  # which would keep those of all seeds


class _LossesOf(nn.Module):
    """What a step computes, as a module of all its networks, so that `functional_call` can give it others' weights."""

    is_apart = False

    def __init__(self, step: TrainingStep) -> None:
        super().__init__()
        self.networks = nn.ModuleList([player.computes for player in step.players])
        self.names = [name for name, _ in (*self.named_parameters(), *self.named_buffers())]
        self._losses_of = step.losses_of
        # Under vmap autocast sees convolutions and dense layers too late to cast what they are given.
        for network in self.networks:
            if not is_plain(network):  # which `discriminate` computes
                for layer in network.modules():
                    if any(parameter.dtype == torch.bfloat16 for parameter in layer.parameters(recurse=False)):
                        layer.register_forward_pre_hook(lambda layer, inputs: inputs[0].to(torch.bfloat16))

    def forward(
        self, images: Tensor, drawn: dict[str, Tensor], step: Tensor
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        losses = self._losses_of(images, drawn, step)
        self.is_apart = losses.is_apart
        both = (losses.first_player, losses.second_player)
        return tuple(loss for loss in both if loss is not None), losses.named


@torch.no_grad()
def _stacked(seeds: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """Stack the tensors of N seeds, equal in shape and layout, into [N, ...]; they become views of the stack."""
    stacked = []
    for own in seeds:
        one = own[0]
        shape, stride = (len(own), *one.shape), (one.numel(), *one.stride())
        together = torch.empty_strided(shape, stride, dtype=one.dtype, device=one.device)
        for part, tensor in zip(together, own, strict=True):
            part.copy_(tensor)
            tensor.data = part
        stacked.append(together.requires_grad_(one.requires_grad))
    return stacked
