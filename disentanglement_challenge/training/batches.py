"""Batches for the training step: the same ones on every device, from wherever the images fit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, NamedGroundTruthData
from disentanglement_challenge.data.store import release_pages
from disentanglement_challenge.training.processes import ALONE, Processes

# What is left free on a GPU that holds the images: networks, activations, cuDNN's workspaces.
DEVICE_RESERVE = 4 * 2**30


def training_batches(
    ground_truth_data: NamedGroundTruthData,
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
    if isinstance(ground_truth_data, IndexedGroundTruthData) and _has_room(device, ground_truth_data.images.nbytes):
        on_device = _upload(ground_truth_data.images, device)
        while True:
            indices = torch.from_numpy(random.integers(len(on_device), size=batch_size))
            yield to_network(processes.own(on_device[indices.to(device, non_blocking=True)]), device)
    for batch in random_batches(ground_truth_data, batch_size, random):
        share = processes.own(batch)
        yield to_network(share.pin_memory() if device.type == "cuda" else share, device)


def _has_room(device: torch.device, num_bytes: int) -> bool:
    return device.type == "cuda" and num_bytes + DEVICE_RESERVE <= torch.cuda.mem_get_info(device)[0]


def _upload(images: NDArray[Any], device: torch.device) -> Tensor:
    on_device = torch.empty(images.shape, dtype=torch.from_numpy(images[:1].copy()).dtype, device=device)
    for start in range(0, len(images), 8192):
        on_device[start : start + 8192] = torch.tensor(images[start : start + 8192])
        release_pages(images)
    return on_device
