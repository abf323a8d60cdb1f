"""Compute a training step: the losses of a batch, and an update of each player."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from disentanglement_challenge.arithmetic import deterministic_convolutions, float32_products
from disentanglement_challenge.models import VAE, make_vae, sample_from_latent_distribution
from disentanglement_challenge.objectives import Codes, Objective, gaussian_kl, make_reconstruction_loss
from disentanglement_challenge.objectives.reconstruction import ReconstructionLoss
from disentanglement_challenge.training.optimizers import make_discriminator_optimizer, make_vae_optimizer
from disentanglement_challenge.training.processes import ALONE, Processes


class Weights(ABC):
    """The parameters of one player: those that are moved, and those that a step computes with.

    Attributes:
        parameters: as they are kept.
        used: what a step computes with, in the same order: the parameters themselves, or copies of some of them in a
            lower precision.
    """

    parameters: list[Tensor]
    used: list[Tensor]

    def compute_with(self, used: list[Tensor]) -> None:
        """Use these tensors in steps; they follow the parameters."""
        self.used = used
        self._pairs = [pair for pair in zip(self.parameters, used, strict=True) if pair[0] is not pair[1]]

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the parameters to those of the step's copy of the network, if it has one."""
        if self.used is not self.parameters:
            torch._foreach_copy_([used for _, used in self._pairs], [kept for kept, _ in self._pairs])

    def clear_gradients(self) -> None:
        """Clear the gradients of all parameters."""
        for parameter in (*self.parameters, *self.used):
            parameter.grad = None

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Take over the gradients of the step's copy of the network, if it has one."""
        if self.used is not self.parameters:
            pairs = [pair for pair in self._pairs if pair[1].grad is not None]
            for kept, _ in pairs:
                kept.grad = torch.empty_like(kept)
            torch._foreach_copy_([kept.grad for kept, _ in pairs], [used.grad for _, used in pairs])  # type: ignore[misc]

    def backward(self, loss: Tensor, retain_graph: bool = False) -> None:
        """Set the gradients of this player's parameters, and no others, to those of the loss."""
        self.clear_gradients()
        loss.backward(inputs=self.used, retain_graph=retain_graph)

    @abstractmethod
    def move(self) -> None:
        """Update the parameters by their gradients."""


@dataclass
class Player(Weights):
    """A network and the optimiser that moves it.

    Attributes:
        network, optimizer: as they are kept and exported.
        computes: the network that a step calls: itself, or a copy with some parameters in a lower precision.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer

    def __post_init__(self) -> None:
        self.parameters = list(self.network.parameters())
        self.computes, self.used = self.network, self.parameters

    def compute_by(self, copy: nn.Module) -> None:
        """Use this copy of the network in steps; its parameters follow the network's."""
        self.computes = copy
        self.compute_with(list(copy.parameters()))

    def move(self) -> None:
        """See `Weights.move`."""
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights and the optimiser's state."""
        # Copies: of a tensor that is a part of another, as where seeds share a step, a file would hold the whole.
        weights = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        return {"network": weights, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the `state_dict` of an equal player; raise PyTorch's error if it does not fit."""
        self.network.load_state_dict(state["network"])
        # Whether the optimiser is one for a graph depends on the device, which may be another than that of the state.
        for saved, here in zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
            if "capturable" in here:  # which an optimiser such as SGD has not
                saved["capturable"] = here["capturable"]
        self.optimizer.load_state_dict(state["optimizer"])


@dataclass(frozen=True)
class Losses:
    """The losses of one batch.

    Attributes:
        first_player: scalar that encoder and decoder minimise.
        second_player: scalar that the second player minimises; None where there is none.
        named: what is logged, scalars by name. "loss" and "discriminator_loss" are the two above; of an objective that
            leaves out a constant, "loss" carries it.
        is_apart: see `Regularization.is_apart`.
    """

    first_player: Tensor
    second_player: Tensor | None
    named: dict[str, Tensor]
    is_apart: bool = False


class Step(ABC):
    """Players that move together, each down its own loss.

    Called with a batch, it computes all losses from one forward pass, takes both players' gradients at the same
    parameters, and then moves both, as disentanglement_lib's train ops do (methods/unsupervised/vae.py).

    Attributes:
        precision: what its products are computed in.
        processes: that train together.
        players: the first, and the second where there is one.
        generators: the streams of noise.
    """

    precision = "float32"
    processes = ALONE

    @property
    @abstractmethod
    def players(self) -> Sequence[Weights]:
        """See the class."""

    @property
    @abstractmethod
    def generators(self) -> list[torch.Generator]:
        """See the class."""

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """Return all tensors that a step changes: weights, buffers of layers, and the optimisers' state."""

    @abstractmethod
    def losses(self, images: Tensor, step: int | Tensor) -> Losses:
        """Compute all losses and their graphs in one forward pass, without updates."""

    def __call__(self, images: Tensor, step: int | Tensor) -> dict[str, Tensor]:
        """Update the players on images [num_batches * B, C, H, W], float32 in [0, 1]; return named scalars there.

        Where several processes train together, the images are this one's share, and the scalars those of all shares.
        "loss" is what encoder and decoder minimised; "elbo" the evidence lower bound, without the objective's weights.
        """
        with self.arithmetic():
            losses = self.losses(images, step)
            self.update(losses)
        return {name: loss.detach() for name, loss in losses.named.items()}

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Use the step's precision and deterministic sums inside the block."""
        with float32_products("tf32" if self.precision == "tf32" else "ieee"), deterministic_convolutions():
            yield

    def update(self, losses: Losses) -> None:
        """Update both players, each by its own loss."""
        first, *others = self.players
        if not others or losses.second_player is None:
            others = []
            first.backward(losses.first_player)
        elif losses.is_apart:
            for player in self.players:
                player.clear_gradients()
            inputs = [parameter for player in self.players for parameter in player.used]
            torch.autograd.backward([losses.first_player, losses.second_player], inputs=inputs)
        else:
            first.backward(losses.first_player, retain_graph=True)
            others[0].backward(losses.second_player)
        for player in (first, *others):
            player.take_gradients()
        # Of the second player's loss every process has the whole, and so of its gradient.
        self.processes.add_gradients(first.parameters)
        for player in (*others, first):
            player.move()


class TrainingStep(Step):
    """A VAE, its objective, perhaps the objective's second player, and how they take a step together.

    `num_images` says how many images the data set has.
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
        """Build the networks and optimisers of gin's configuration; the seed determines weights and all later noise."""
        self.processes = processes
        self.num_images = num_images
        # Weights are drawn on the CPU, so that a seed means the same network on every device.
        weights = torch.Generator().manual_seed(random_seed)
        self.objective = objective
        self.reconstruction_loss: ReconstructionLoss = make_reconstruction_loss()
        # Channels last is the layout that the images come in and that convolutions are fastest in.
        self.vae: VAE = make_vae(input_shape, weights).to(device)
        self.vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.noise = torch.Generator(device).manual_seed(random_seed)
        self.first_player = Player(self.vae, make_vae_optimizer(self.vae.parameters()))
        second = objective.make_second_player(self.vae.num_latent, weights)
        self.second_player: Player | None = None
        if second is not None:
            second = second.to(device)
            self.second_player = Player(second, make_discriminator_optimizer(second.parameters()))

    @property
    def players(self) -> list[Player]:
        """Return the first player and, if there is one, the second."""
        return [self.first_player] + ([self.second_player] if self.second_player is not None else [])

    @property
    def generators(self) -> list[torch.Generator]:
        """See `Step`."""
        return [self.noise]

    @property
    def _computing_vae(self) -> VAE:
        return cast(VAE, self.first_player.computes)

    def tensors(self) -> list[Tensor]:
        """Return all tensors that a step changes: weights, buffers of layers, and the optimisers' state."""
        found = []
        for player in self.players:
            found += [*player.network.parameters(), *player.network.buffers()]
            for state in player.optimizer.state.values():
                found += [value for value in state.values() if isinstance(value, Tensor)]
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on except its batch: both players and the noise's generator."""
        return {"players": [player.state_dict() for player in self.players], "noise": self.noise.get_state()}

    def load_state_dict(self, state: dict[str, Any], new_noise_seed: int | None = None) -> None:
        """Load the result of `state_dict`; raise PyTorch's error if it does not fit the networks.

        Each kind of device has noise of its own: that of another kind begins anew, from `new_noise_seed`.
        """
        for player, saved in zip(self.players, state["players"], strict=True):
            player.load_state_dict(saved)
        if new_noise_seed is None:
            self.noise.set_state(state["noise"])
        else:
            self.noise.manual_seed(new_noise_seed)

    def losses(self, images: Tensor, step: int | Tensor) -> Losses:
        """Compute all losses and their graphs in one forward pass, without updates.

        The images are those of `Objective.num_batches` batches; a second one is encoded and no more.
        Where several processes train together, the gradient of the first player's loss is this one's part of it.
        """
        for player in self.players:
            player.refresh()
        return self.losses_of(images, self.draw(len(images)), step)

    def draw(self, num_images: int) -> dict[str, Tensor]:
        """Draw the random numbers, by purpose, of a step on this process's share of the images."""
        shape = (num_images * self.processes.size // self.objective.num_batches, self.vae.num_latent)
        kept = self.first_player.parameters[0]
        drawn = {}
        for name in ("codes", "independent")[: self.objective.num_batches]:
            drawn[name] = torch.randn(shape, generator=self.noise, device=kept.device, dtype=kept.dtype)
        own = self.objective.draw(shape, kept.device, self.noise)
        return drawn if own is None else {**drawn, "objective": own}

    def losses_of(self, images: Tensor, drawn: dict[str, Tensor], step: int | Tensor) -> Losses:
        """Compute the losses from these images, random numbers and the weights alone."""
        images, *independent = images.chunk(self.objective.num_batches)
        z_mean, z_logvar = self._encode(images)
        z_sampled = sample_from_latent_distribution(z_mean, z_logvar, drawn["codes"])
        reconstructed = _full(self._computing_vae.decode(self.processes.own(z_sampled)))
        own_reconstruction = self.reconstruction_loss(images, reconstructed).mean() / self.processes.size
        reconstruction = self.processes.total(own_reconstruction)
        codes = Codes(
            z_mean,
            z_logvar,
            z_sampled,
            kl_loss=gaussian_kl(z_mean, z_logvar).mean(),
            step=step,
            z_independent=self._sample_codes(independent[0], drawn["independent"]) if independent else None,
            drawn=drawn.get("objective"),
            num_images=self.num_images,
        )
        result = self.objective(codes, self.second_player.computes if self.second_player else None)
        loss = reconstruction + result.regularizer
        named = {
            "loss": loss + result.constant if result.constant else loss,
            "reconstruction_loss": reconstruction,
            "kl_loss": codes.kl_loss,
            "regularizer": result.regularizer + result.constant if result.constant else result.regularizer,
            "elbo": -(reconstruction + codes.kl_loss),
            **result.terms,
        }
        if result.second_player_loss is not None:
            named["discriminator_loss"] = result.second_player_loss
        return Losses(loss, result.second_player_loss, named, result.is_apart)

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z_mean, z_logvar = self._computing_vae.encode(images)
        return self.processes.gather(_full(z_mean)), self.processes.gather(_full(z_logvar))

    @torch.no_grad()
    def _sample_codes(self, images: Tensor, noise: Tensor) -> Tensor:
        return sample_from_latent_distribution(*self._encode(images), noise)


def _full(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or unchanged if it is wider."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
