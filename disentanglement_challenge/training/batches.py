"""Draw batches for the training step: the same ones on every device, from host or device memory."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from disentanglement_challenge.data.batches import divided, random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, NamedGroundTruthData
from disentanglement_challenge.data.store import release_pages
from disentanglement_challenge.training.log import say
from disentanglement_challenge.training.processes import ALONE, Processes

# What is left free on a GPU that holds the images: networks, activations, cuDNN's workspaces.
DEVICE_RESERVE = 4 * 2**30

# Batches drawn before they are asked for. One hides the drawing; a few more, that a batch now and then takes longer.
_AHEAD = 4


def training_batches(
    ground_truth_data: NamedGroundTruthData,
    batch_size: int,
    random: np.random.Generator,
    device: torch.device,
    processes: Processes = ALONE,
) -> Iterator[Tensor]:
    """Iterate over this process's share of random batches, as `random_batches` draws them.

    A GPU that has room for all images takes them as bytes, here and now, and picks batches itself. One that has none
    gets each batch through pinned memory, so that the host does not wait for the copy, and drawn ahead.

    Yields:
        float32 [batch_size / processes.size, channels, height, width] in [0, 1], on the device.
    """
    if device.type == "cuda" and isinstance(ground_truth_data, IndexedGroundTruthData):
        on_device = upload(ground_truth_data.images, device, processes)
        if on_device is not None:
            return DeviceBatches(on_device, batch_size, random, processes)
    return _from_host(ground_truth_data, batch_size, random, device, processes)


def _from_host(
    ground_truth_data: NamedGroundTruthData,
    batch_size: int,
    random: np.random.Generator,
    device: torch.device,
    processes: Processes,
) -> Iterator[Tensor]:
    if device.type == "cpu":
        for batch in random_batches(ground_truth_data, batch_size, random):
            yield to_network(processes.own(batch), device)

    def draw(own_random: np.random.Generator) -> Iterator[Tensor]:
        for batch in random_batches(ground_truth_data, batch_size, own_random):
            yield processes.own(batch).pin_memory()

    for batch in drawn_ahead(draw, random):
        yield to_network(batch, device)


class DeviceBatches:
    """Random batches of images that lie on a device.

    Attributes:
        images: all of them, integers [N, height, width, channels].
        shape: of the indices of one batch: its size, of all processes together.
    """

    def __init__(
        self, images: Tensor, batch_size: int, random: np.random.Generator, processes: Processes = ALONE
    ) -> None:
        self.images = images
        self.shape: tuple[int, ...] = (batch_size,)
        self._random = random
        self._processes = processes

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        """Return the next batch; see `training_batches`."""
        return self.take(self._processes.own(self.indices(1)[0].to(self.images.device, non_blocking=True)))

    def indices(self, count: int) -> Tensor:
        """Draw the image indices of the next batches: int64 [count, *shape], on the host.

        The generator is then where drawing these batches one by one leaves it.
        """
        indices = torch.from_numpy(self._draw(count))
        return indices.pin_memory() if self.images.is_cuda else indices

    def _draw(self, count: int) -> NDArray[np.int64]:
        return np.stack([self._random.integers(len(self.images), size=self.shape) for _ in range(count)])

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at these indices [..., B] for a network: float32 [..., B, channels, height, width]."""
        pixels = self.images.index_select(0, indices.flatten()).unflatten(0, indices.shape)
        return divided(pixels).movedim(-1, -3)


class StackedDeviceBatches(DeviceBatches):
    """The batches of several seeds, each as its own `DeviceBatches` draws them, of the same images."""

    def __init__(self, seeds: Sequence[DeviceBatches]) -> None:
        """Combine N sources; the indices of a batch are then [N, batch_size]."""
        self.images = seeds[0].images
        self.shape = (len(seeds), *seeds[0].shape)
        self._seeds = seeds
        self._processes = ALONE

    def _draw(self, count: int) -> NDArray[np.int64]:
        return np.stack([seed._draw(count) for seed in self._seeds], axis=1)


def batches_of_seeds(
    ground_truth_data: NamedGroundTruthData,
    batch_size: int,
    randoms: Sequence[np.random.Generator],
    device: torch.device,
) -> list[Iterator[Tensor]]:
    """Return the `training_batches` of each random generator; images that a GPU has room for lie there once."""
    first = training_batches(ground_truth_data, batch_size, randoms[0], device)
    if isinstance(first, DeviceBatches):
        return [first, *(DeviceBatches(first.images, batch_size, random) for random in randoms[1:])]
    return [first, *(_from_host(ground_truth_data, batch_size, random, device, ALONE) for random in randoms[1:])]


def stacked_batches(seeds: Sequence[Iterator[Tensor]]) -> Iterator[Tensor]:
    """Return the batches of several seeds in one, [N, B, channels, height, width]."""
    on_device = [batches for batches in seeds if isinstance(batches, DeviceBatches)]
    if len(on_device) == len(seeds):
        return StackedDeviceBatches(on_device)
    return (torch.stack(batches) for batches in zip(*seeds, strict=True))


def upload(images: NDArray[Any], device: torch.device, processes: Processes = ALONE) -> Tensor | None:
    """Copy all images to the device, with a progress bar; print a line and return None if they do not fit."""
    if images.nbytes + DEVICE_RESERVE > torch.cuda.mem_get_info(device)[0]:
        reason = "they and the networks are larger"
    else:
        try:
            on_device = torch.empty(images.shape, dtype=torch.from_numpy(images[:1].copy()).dtype, device=device)
        except torch.OutOfMemoryError:
            reason = "another process took it first"  # as two runs do that begin together and both see the room
        else:
            return _filled(on_device, images, processes)
    if processes.is_leader:
        say(f"images: {images.nbytes / 1e9:.1f} GB stay in the host's memory, as the GPU has no room ({reason})")
    return None


def _filled(on_device: Tensor, images: NDArray[Any], processes: Processes) -> Tensor:
    with tqdm(
        total=images.nbytes, desc="images to the GPU", unit="B", unit_scale=True, disable=not processes.is_leader
    ) as bar:
        for start in range(0, len(images), 8192):
            part = images[start : start + 8192]
            on_device[start : start + 8192] = torch.tensor(part)
            release_pages(images)
            bar.update(part.nbytes)
    return on_device


def drawn_ahead(
    draw: Callable[[np.random.Generator], Iterator[Tensor]], random: np.random.Generator, ahead: int = _AHEAD
) -> Iterator[Tensor]:
    """Yield the batches of `draw`, which a thread draws in advance.

    The thread has a generator of its own. Whenever a batch is yielded, `random` is where drawing that batch leaves it,
    so that a checkpoint in between resumes with the next.
    """
    own = np.random.Generator(type(random.bit_generator)())
    own.bit_generator.state = random.bit_generator.state
    drawn: queue.Queue[tuple[Tensor | None, Any]] = queue.Queue(ahead)
    is_over = threading.Event()

    def put(item: tuple[Tensor | None, Any]) -> None:
        while not is_over.is_set():
            with suppress(queue.Full):
                drawn.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for batch in draw(own):
                put((batch, own.bit_generator.state))
                if is_over.is_set():
                    return
        except BaseException as error:  # whoever asks for the batch gets it
            put((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            batch, after = drawn.get()
            if batch is None:
                raise after
            random.bit_generator.state = after
            yield batch
    finally:
        is_over.set()
        thread.join()
