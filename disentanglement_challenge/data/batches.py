"""Random batches of images, drawn by index from the array instead of one by one."""

from collections.abc import Iterator

import numpy as np
import torch

from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData


def random_batches(
    ground_truth_data: IndexedGroundTruthData, batch_size: int, random_generator: np.random.Generator
) -> Iterator[torch.Tensor]:
    """Yields batches for ever, each image drawn uniformly and with replacement, as disentanglement_lib's training does.

    Yields:
        uint8 tensors [batch_size, height, width, channels]; the generator's state is what decides the next.
    """
    images = ground_truth_data.images
    while True:
        yield torch.from_numpy(images[random_generator.integers(len(images), size=batch_size)])


def to_network(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """uint8 images [N, height, width, channels] as a network takes them: float32 [N, channels, height, width] in [0,
    1].

    The bytes travel to the device, not the floats.
    """
    return images.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
