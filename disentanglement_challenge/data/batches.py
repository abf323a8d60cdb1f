"""Random batches of images, drawn by index from the array instead of one by one."""

from collections.abc import Iterator

import numpy as np
import torch

from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, NamedGroundTruthData
from disentanglement_challenge.data.pixels import to_floats
from disentanglement_challenge.data.store import take_images


def random_batches(
    ground_truth_data: NamedGroundTruthData, batch_size: int, random_generator: np.random.Generator
) -> Iterator[torch.Tensor]:
    """Yields batches for ever, each image drawn uniformly and with replacement, as disentanglement_lib's training does.

    Yields:
        tensors [batch_size, height, width, channels] for `to_network`: integers, or float32 in [0, 1] where each
        observation has noise of its own, which is drawn as the data set draws it. The generator's state is what decides
        the next.
    """
    if not isinstance(ground_truth_data, IndexedGroundTruthData):
        # Another face of the same generator: what is drawn from one moves the other on.
        random_state = np.random.RandomState(random_generator.bit_generator)
        while True:
            observations = ground_truth_data.sample_observations(batch_size, random_state)
            yield torch.from_numpy(observations.astype(np.float32, copy=False))

    images = ground_truth_data.images
    while True:
        yield torch.from_numpy(take_images(images, random_generator.integers(len(images), size=batch_size)))


def to_network(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Images [N, height, width, channels] as a network takes them: float32 [N, channels, height, width], 255 as 1.

    Integers are divided by 255, and travel to the device before they become floats; floats are taken as they are.
    """
    if images.is_floating_point():
        floats = images.to(device, torch.float32, non_blocking=True)
    elif device.type == "cpu":
        # One pass over the bytes where PyTorch makes two, and no waiting for threads over so little.
        floats = torch.from_numpy(to_floats(images.numpy()))
    else:
        floats = divided(images.to(device, non_blocking=True))
    return floats.permute(0, 3, 1, 2)


def divided(pixels: torch.Tensor) -> torch.Tensor:
    """Integers in units of 1/255 as float32, where they are: to the last bit what the CPU makes of them."""
    floats = pixels.float()
    # On a GPU PyTorch multiplies by 1 / 255 where the divisor is a number.
    return floats.div_(torch.full((), 255.0, device=floats.device))
