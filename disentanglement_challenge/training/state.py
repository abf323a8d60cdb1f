"""Save and restore everything that changes from one training step to the next."""

from typing import Any

import numpy as np
import torch

from disentanglement_challenge.errors import TrainingError
from disentanglement_challenge.training.step import TrainingStep


class TrainingState:
    """Both players, all random states, and the number of updates.

    Attributes:
        step: the networks, their optimisers, and the stream of noise.
        random: decides the next batches, so that its state is the position in the data.
        done: updates made.
        seconds: that they took.
        devices: the kind of device that updates were made on, by the number of updates before.
    """

    def __init__(self, step: TrainingStep, random_seed: int) -> None:
        self.step = step
        self._random_seed = random_seed
        self.devices = {0: step.noise.device.type}
        self.random = np.random.default_rng(random_seed)
        self.done = 0
        self.seconds = 0.0
        # Nothing here draws from PyTorch's own generators, but a layer that somebody adds may, as dropout does.
        torch.manual_seed(random_seed)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors, numbers, texts, and containers of these.

        Raises:
            TrainingError: weights are no longer finite, and not worth writing down.
        """
        for player in self.step.players:
            for name, tensor in player.network.state_dict().items():
                if not torch.isfinite(tensor).all():
                    kind = type(player.network).__name__
                    raise TrainingError(f"{name} of the {kind} is no longer finite after step {self.done}")
        return {
            "done": self.done,
            "seconds": self.seconds,
            "step": self.step.state_dict(),
            "random": self.random.bit_generator.state,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
            "devices": self.devices,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the result of `state_dict`, from this device or another.

        Raises:
            TrainingError: it is of other networks.
        """
        here = self.step.noise.device.type
        try:
            # Checkpoints of earlier versions do not say where they were made; they are resumed where that was.
            devices = state.get("devices", {0: here})
            moved = here != devices[max(devices)]
            self.step.load_state_dict(state["step"], new_noise_seed=self._noise_seed(state["done"]) if moved else None)
            self.random.bit_generator.state = state["random"]
            torch.set_rng_state(state["torch"])
            if state["cuda"] is not None and not moved:
                torch.cuda.set_rng_state(state["cuda"])
            self.done, self.seconds = state["done"], state["seconds"]
            self.devices = {**devices, self.done: here} if moved else dict(devices)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise TrainingError(f"the checkpoint does not fit these networks: {reason:.200}") from error

    def _noise_seed(self, done: int) -> int:
        """Return a seed for noise that restarts after `done` updates; it differs by run and by `done`."""
        return int(np.random.SeedSequence([self._random_seed, done]).generate_state(1, np.uint64)[0] >> 1)
