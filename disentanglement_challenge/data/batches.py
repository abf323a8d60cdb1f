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
    """Yield endless batches of images drawn uniformly with replacement, as disentanglement_lib's training does.

    Yields:
        tensors [batch_size, height, width, channels] for `to_network`: integers, or float32 in [0, 1] if the data set
        adds noise to each observation. The generator's state alone determines the next batch.
    """
    if not isinstance(ground_truth_data, IndexedGroundTruthData):
        # Both share one bit generator: drawing from one advances the other.
        random_state = np.random.RandomState(random_generator.bit_generator)
        while True:
            observations = ground_truth_data.sample_observations(batch_size, random_state)
            yield torch.from_numpy(observations.astype(np.float32, copy=False))

    images = ground_truth_data.images
    while True:
        yield torch.from_numpy(take_images(images, random_generator.integers(len(images), size=batch_size)))


def to_network(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Convert images [N, height, width, channels] to a network's input, float32 [N, channels, height, width].

    Integers are moved to the device as they are, then divided by 255. Floats are not scaled.
    """
    if images.is_floating_point():
        floats = images.to(device, torch.float32, non_blocking=True)
    elif device.type == "cpu":
        # One pass over the bytes, where PyTorch makes two; too little work to be worth starting threads.
        floats = torch.from_numpy(to_floats(images.numpy()))
    else:
        floats = divided(images.to(device, non_blocking=True))
    return floats.permute(0, 3, 1, 2)


def divided(pixels: torch.Tensor) -> torch.Tensor:
    """Divide integers by 255 on their own device, as float32; the result equals the CPU's bit for bit."""
    floats = pixels.float()
    # On a GPU PyTorch multiplies by 1 / 255 if the divisor is a Python number, so the divisor is a tensor.
    return floats.div_(torch.full((), 255.0, device=floats.device))
