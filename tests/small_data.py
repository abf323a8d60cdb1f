"""A data set of 120 images that contain their own index, so that any table of codes is a representation of it."""

import numpy as np
from numpy.random import RandomState

from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.sampling import GridSampler

FACTOR_SIZES = [4, 3, 2, 5]
NUM_IMAGES = 120


def small_ground_truth_data():
    images = RandomState(1).randint(256, size=(NUM_IMAGES, 8, 8, 1)).astype(np.uint8)
    images[:, 0, 0, 0] = np.arange(NUM_IMAGES)
    return IndexedGroundTruthData("small", images, FACTOR_SIZES, ["a", "b", "c", "d"])


def indices_of(observations):
    return np.rint(observations[:, 0, 0, 0] * 255).astype(np.int64)


def representation_of(codes):
    return lambda observations: codes[indices_of(observations)]


def network(observations):
    """Compute a representation from the pixels: a linear layer and a nonlinearity, 6 latents."""
    pixels = observations.reshape(len(observations), -1)
    return np.tanh(pixels @ RandomState(2).normal(size=(pixels.shape[1], 6)).astype(np.float32) / 8)


def codes_of_every_kind(dtype=np.float32):
    """Return latents: linear in factors, noisy, far from zero, tiny, huge, quantised, repeated, binary, constant."""
    factors = small_ground_truth_data().index_to_factors(np.arange(NUM_IMAGES)).astype(np.float64)
    random_state = RandomState(3)
    noise = random_state.normal(size=(NUM_IMAGES, 8))
    mixed = factors @ random_state.normal(size=(4, 4)) + noise[:, :4]
    latents = [
        *mixed.T,
        factors[:, 0] / 4 + 0.05 * noise[:, 4],
        100 + factors[:, 3] + noise[:, 5],
        1e-4 * noise[:, 6],
        1e3 * (factors[:, 3] + noise[:, 7]),
        np.round(mixed[:, 0]),
        mixed[:, 1],
        factors[:, 2],
        (factors[:, 3] - 2) ** 2,
        np.full(NUM_IMAGES, 0.7),
        np.zeros(NUM_IMAGES),
    ]
    return np.stack(latents, axis=1).astype(dtype)


def collapsed_codes():
    """Return constant latents."""
    return np.tile(np.array([0.5, -0.25, 0.0], dtype=np.float32), (NUM_IMAGES, 1))


def on_images(metric, representation_function, settings=None):
    """Return a metric's results on the images of the small data set: its values and its matrix."""
    sampler = GridSampler(small_ground_truth_data(), representation_function)
    return metric.results(sampler, 0, {**metric.official(), **(settings or {})})
