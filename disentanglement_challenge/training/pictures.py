"""Draw pictures of a trained VAE: reconstructions, latent traversals, samples from the prior.

They are drawn from images and noise of their own, so that training goes on with the same random numbers whether they
are drawn or not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import gin
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.data.batches import random_batches, to_network
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, NamedGroundTruthData
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.files import read_arrays, write_arrays
from disentanglement_challenge.models import VAE
from disentanglement_challenge.objectives import gaussian_kl_per_latent, to_intensities

BATCH = 64
NUM_RECONSTRUCTIONS = 10
NUM_TRAVERSED = 16
NUM_SAMPLES = 40
# Two standard deviations of the prior to either side hold 95% of its codes.
TRAVERSAL_VALUES = np.linspace(-2, 2, 11, dtype=np.float32)
# Over 1024 images the standard error of a mean is a thirty-second of the spread over images.
NUM_IMAGES = 1024
# What is drawn while training goes on, which is to take little of its time.
IN_PASSING = {"num_images": 4 * BATCH, "num_traversed": 8}


@dataclass(frozen=True)
class Pictures:
    """The outputs of a VAE for images and codes.

    Attributes:
        step: updates made before they were drawn.
        num_images: that the next two are taken over.
        kl: KL divergence of each latent from the prior, in nats, mean over images: float32 [num_latent].
        variance: of each latent's mean over images: float32 [num_latent].
        originals: uint8 [N, height, width, channels].
        reconstructions: the same images through the encoder's mean and the decoder: uint8, shaped alike.
        traversed: latents, the largest KL first: int64 [T].
        values: what each of them is set to, the other latents being the first original's means: float32 [F].
        traversals: uint8 [T, F, height, width, channels].
        samples: decoded from the prior: uint8 [S, height, width, channels].
    """

    step: int
    num_images: int
    kl: NDArray[np.float32]
    variance: NDArray[np.float32]
    originals: NDArray[np.uint8]
    reconstructions: NDArray[np.uint8]
    traversed: NDArray[np.int64]
    values: NDArray[np.float32]
    traversals: NDArray[np.uint8]
    samples: NDArray[np.uint8]

    def grids(self) -> dict[str, NDArray[np.uint8]]:
        """Return one picture [height, width, channels] of each kind, by name."""
        samples = self.samples[: len(self.samples) // 10 * 10]
        return {
            "reconstructions": tiled(np.stack([self.originals, self.reconstructions])),
            "traversals": tiled(self.traversals),
            "samples": tiled(samples.reshape(-1, 10, *samples.shape[1:])),
        }


def num_pictures(num_latent: int, num_traversed: int = NUM_TRAVERSED) -> int:
    """Return the maximum number of images that `draw_pictures` draws."""
    return 2 * NUM_RECONSTRUCTIONS + min(num_latent, num_traversed) * len(TRAVERSAL_VALUES) + NUM_SAMPLES


@gin.configurable("pictures")
def picture_interval(every_steps: int = 5000) -> int:
    """Return the steps between pictures in TensorBoard; the end of training always draws them.

    Drawing takes about as long as a few steps of training (benchmarks/pictures.py measures it).

    Raises:
        ConfigError: the interval is not a positive integer.
    """
    check_count("pictures.every_steps", every_steps)
    return every_steps


@torch.no_grad()
def draw_pictures(
    vae: VAE,
    activation: str,
    ground_truth_data: NamedGroundTruthData,
    device: torch.device,
    step: int,
    num_images: int = NUM_IMAGES,
    num_traversed: int = NUM_TRAVERSED,
) -> Pictures:
    """Draw the pictures; equal weights give equal pictures, and no other random generator is used.

    Args:
        vae: on the device; in the mode that it was in afterwards.
        activation: as `to_intensities` takes it.
        ground_truth_data: to draw images from, the same ones each time.
        device: that the VAE is on.
        step: updates made.
        num_images: for the mean KL and the variance; rounded up to whole batches. A smaller data set is taken whole.
        num_traversed: latents to traverse, where there are as many.
    """
    with _evaluating(vae):
        means, kl_sum, images = [], torch.zeros(vae.num_latent, dtype=torch.float64), torch.empty(0)
        for batch in _batches(ground_truth_data, num_images):
            inputs = to_network(batch, device)
            z_mean, z_logvar = (code.float() for code in vae.encode(inputs))
            kl_sum += gaussian_kl_per_latent(z_mean, z_logvar).double().sum(dim=0).cpu()
            means.append(z_mean.cpu())
            if len(means) == 1:
                images = inputs[:NUM_RECONSTRUCTIONS]
        codes = torch.cat(means)
        kl = (kl_sum / len(codes)).float()
        traversed = kl.argsort(descending=True, stable=True)[:num_traversed]
        values = torch.from_numpy(TRAVERSAL_VALUES)
        noise = torch.randn(NUM_SAMPLES, vae.num_latent, generator=torch.Generator().manual_seed(0))
        traversals = _decode(vae, activation, traverse(codes[0], traversed, values).flatten(0, 1), device)
        return Pictures(
            step=step,
            num_images=len(codes),
            kl=kl.numpy(),
            variance=codes.double().var(dim=0, correction=0).float().numpy(),
            originals=_to_bytes(images),
            reconstructions=_decode(vae, activation, codes[: len(images)], device),
            traversed=traversed.numpy(),
            values=TRAVERSAL_VALUES,
            traversals=traversals.reshape(len(traversed), len(values), *traversals.shape[1:]),
            samples=_decode(vae, activation, noise, device),
        )


def traverse(code: Tensor, latents: Tensor, values: Tensor) -> Tensor:
    """Return a code [D] with each latent [T] set to each value [F], one at a time: [T, F, D]."""
    codes = code.repeat(len(latents), len(values), 1)
    codes[torch.arange(len(latents)), :, latents] = values
    return codes


def tiled(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tile images [rows, columns, height, width, channels]: [rows * height, columns * width, channels]."""
    rows, columns, height, width, channels = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def write_pictures(path: Path, pictures: Pictures) -> None:
    """Write an .npz with an array for each attribute, atomically; raise OutputError if it cannot be written."""
    write_arrays(path, {name: np.asarray(value) for name, value in vars(pictures).items()})


def read_pictures(path: Path) -> Pictures:
    """Read the file of `write_pictures`.

    Raises:
        DataError: the file is damaged, or something else.
    """
    arrays = read_arrays(path)
    try:
        pictures = Pictures(**{**arrays, "step": int(arrays["step"]), "num_images": int(arrays["num_images"])})  # type: ignore[arg-type]
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path} does not hold the pictures of a training run; train again, or remove it") from error
    image = pictures.originals.shape[1:]
    num_traversed, num_values = pictures.traversed.size, pictures.values.size
    fits = (
        pictures.kl.ndim == pictures.traversed.ndim == pictures.values.ndim == 1
        and pictures.variance.shape == pictures.kl.shape
        and len(image) == 3
        and image[2] in (1, 3)
        and pictures.reconstructions.shape == pictures.originals.shape
        and pictures.traversals.shape == (num_traversed, num_values, *image)
        and pictures.samples.shape[1:] == image
        and all(array.dtype == np.uint8 for array in (pictures.originals, pictures.traversals, pictures.samples))
        and bool((pictures.traversed >= 0).all() and (pictures.traversed < len(pictures.kl)).all())
    )
    if not fits:
        raise DataError(f"{path} holds pictures whose shapes do not fit each other; train again, or remove it")
    return pictures


def _batches(ground_truth_data: NamedGroundTruthData, num_images: int) -> Iterator[Tensor]:
    """Return fixed random images in batches for `to_network`; if there are at most `num_images`, each image once."""
    random = np.random.default_rng(0)
    if isinstance(ground_truth_data, IndexedGroundTruthData) and len(ground_truth_data.images) <= num_images:
        images = ground_truth_data.images[random.permutation(len(ground_truth_data.images))]
        return iter(torch.from_numpy(images).split(BATCH))
    return islice(random_batches(ground_truth_data, BATCH, random), -(-num_images // BATCH))


def _decode(vae: VAE, activation: str, codes: Tensor, device: torch.device) -> NDArray[np.uint8]:
    """Decode codes [N, D] on the CPU to uint8 [N, height, width, channels]; equal codes give equal pictures."""
    decoded = [to_intensities(vae.decode(part.to(device)).float(), activation) for part in codes.split(BATCH)]
    return np.concatenate([_to_bytes(images) for images in decoded])


def _to_bytes(images: Tensor) -> NDArray[np.uint8]:
    return (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().contiguous().numpy()


@contextmanager
def _evaluating(vae: VAE) -> Iterator[None]:
    """Evaluate inside the block: layers such as dropout draw no random numbers and update no state."""
    was_training = vae.training
    vae.eval()
    try:
        yield
    finally:
        vae.train(was_training)
