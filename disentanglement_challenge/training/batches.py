"""Batches for the training step: the same ones on every device, from wherever the images fit."""

import mmap
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.training.processes import ALONE, Processes

# What a mapped file may hold of this process's memory before it is let go.
MAPPED_LIMIT = 512 * 2**20
# What Linux maps around a page that is asked for (fault_around_bytes).
FAULT_AROUND = 64 * 2**10
# What is left free on a GPU that holds the images: networks, activations, cuDNN's workspaces.
DEVICE_RESERVE = 4 * 2**30


def training_batches(
    ground_truth_data: IndexedGroundTruthData,
    batch_size: int,
    random: np.random.Generator,
    device: torch.device,
    processes: Processes = ALONE,
) -> Iterator[Tensor]:
    """Yields this process's share of random batches, as `random_batches` draws them.

    A GPU that has room for all images takes them as bytes, once, and picks batches itself. One that has none gets each
    batch through pinned memory, so that the host does not wait for the copy.

    Yields:
        float32 [batch_size / processes.size, channels, height, width] in [0, 1], on the device.
    """
    images = ground_truth_data.images
    if device.type == "cuda" and images.nbytes + DEVICE_RESERVE <= torch.cuda.mem_get_info(device)[0]:
        on_device = _upload(images, device)
        while True:
            indices = torch.from_numpy(random.integers(len(images), size=batch_size))
            yield to_network(processes.own(on_device[indices.to(device, non_blocking=True)]), device)
    mapped = 0
    for batch in random_batches(ground_truth_data, batch_size, random):
        share = processes.own(batch)
        yield to_network(share.pin_memory() if device.type == "cuda" else share, device)
        mapped += batch_size * (images[0].nbytes + FAULT_AROUND)
        if mapped > MAPPED_LIMIT:
            _let_go(images)
            mapped = 0


def _upload(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    on_device = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), 8192):
        on_device[start : start + 8192] = torch.tensor(images[start : start + 8192])
    _let_go(images)
    return on_device


def _let_go(images: NDArray[np.uint8]) -> None:
    """Takes a mapped file's pages out of this process's memory; the system may still keep them, to give them back."""
    if isinstance(images, np.memmap):
        images._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
