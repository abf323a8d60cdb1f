"""dSprites (Matthey et al., 2017) and disentanglement_lib's variants of it with random colours and backgrounds.

The official .npz also holds a pickled description, which is never read.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from disentanglement_challenge.data.archive import NpzMember, load_npz_images, missing_file
from disentanglement_challenge.data.download import Source
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, NamedGroundTruthData
from disentanglement_challenge.errors import DataError

FACTOR_NAMES = ["shape", "scale", "orientation", "position_x", "position_y"]
FACTOR_SIZES = [3, 6, 40, 32, 32]
ARCHIVE = "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
SCREAM = "scream/scream.jpg"

_DSPRITES = Source(
    ("https://github.com/deepmind/dsprites-dataset/raw/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",),
    ARCHIVE,
    checksum="md5:7da33b31b13a06f4b04a70402ce90c2e",
    inspect=lambda archive: _inspect(archive),
)
_SCREAM = Source(("https://upload.wikimedia.org/wikipedia/commons/f/f4/The_Scream.jpg",), SCREAM)

# Turns sprites, float32 [N, 64, 64, 3] with pixels 0 or 1, into observations, as disentanglement_lib's variants do.
Decorate = Callable[[NDArray[np.float32], RandomState], NDArray[Any]]


class RandomDSprites(NamedGroundTruthData):
    """dSprites with random colours or backgrounds, whose observations are not a function of factors or an index.

    `sample_observations_from_factors` draws the same random numbers as disentanglement_lib's class.
    """

    def __init__(self, name: str, sprites: IndexedGroundTruthData, decorate: Decorate) -> None:
        self.name = name
        self.factor_names = sprites.factor_names
        self._sprites = sprites
        self._decorate = decorate

    @property
    def num_factors(self) -> int:
        return self._sprites.num_factors

    @property
    def factors_num_values(self) -> list[int]:
        return self._sprites.factors_num_values

    @property
    def observation_shape(self) -> list[int]:
        """The shape [height, width, channels] of an observation."""
        return [*self._sprites.observation_shape[:2], 3]

    def sample_factors(self, num: int, random_state: RandomState) -> NDArray[np.int64]:
        """Draw factors uniformly; int64 [num, num_factors]."""
        return self._sprites.sample_factors(num, random_state)

    def sample_observations_from_factors(self, factors: NDArray[np.int64], random_state: RandomState) -> NDArray[Any]:
        """Return decorated sprites with these factors, [num, height, width, 3] in [0, 1]."""
        sprites = self._sprites.sample_observations_from_factors(factors, random_state)
        return self._decorate(np.repeat(sprites, 3, axis=3), random_state)


def color(sprites: NDArray[np.float32], random_state: RandomState) -> NDArray[np.float64]:
    """Give each sprite one random colour (disentanglement_lib's ColorDSprites)."""
    return sprites * random_state.uniform(0.5, 1, [len(sprites), 1, 1, 3])


def noisy(sprites: NDArray[np.float32], random_state: RandomState) -> NDArray[np.float64]:
    """Put each sprite in front of uniform noise (disentanglement_lib's NoisyDSprites)."""
    return np.minimum(sprites + random_state.uniform(0, 1, sprites.shape), 1.0)


def scream(painting: NDArray[np.float64]) -> Decorate:
    """Return a decoration that inverts random, randomly tinted patches of a painting at each sprite (ScreamDSprites).

    The painting is [height, width, 3] in [0, 1].
    """
    return partial(_on_patches, painting)  # a closure could not be pickled for a loader's worker processes


def _on_patches(
    painting: NDArray[np.float64], sprites: NDArray[np.float32], random_state: RandomState
) -> NDArray[np.float32]:
    height, width = sprites.shape[1:3]
    observations = np.empty_like(sprites)
    for observation, sprite in zip(observations, sprites, strict=True):
        top = random_state.randint(0, painting.shape[0] - height)
        left = random_state.randint(0, painting.shape[1] - width)
        patch = (painting[top : top + height, left : left + width] + random_state.uniform(0, 1, size=3)) / 2.0
        observation[:] = np.where(sprite == 1, 1 - patch, patch)
    return observations


def _check_images(archive: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> Sequence[int]:
    num_images = int(np.prod(FACTOR_SIZES))
    if dtype != np.uint8 or tuple(shape[:3]) != (num_images, 64, 64):
        raise DataError(
            f"{archive}: imgs are {dtype} of shape {tuple(shape)}; dSprites' are uint8 of shape ({num_images}, 64, 64)"
        )
    return [num_images, 64, 64, 1]


def _inspect(archive: Path) -> str:
    with NpzMember(archive, "imgs") as member:
        _check_images(archive, member.shape, member.dtype)
        return f"imgs {member.dtype} {member.shape}"


def load_dsprites(name: str, data_path: Path) -> NamedGroundTruthData:
    """Map dSprites into memory, and decorate it if the name says so; the first call converts its archive.

    Args:
        name: dsprites_full, dsprites_noshape, color_dsprites, noisy_dsprites or scream_dsprites.
        data_path: disentanglement_lib's folder of data sets.

    Raises:
        DataError: a file is missing, damaged, or not the data set's.
        OutputError: the disk is too full for the converted images, or the folder cannot be written.
    """
    archive = data_path / ARCHIVE
    check = partial(_check_images, archive)

    def as_bytes(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if images.max() > 1:
            raise DataError(f"{archive}: a pixel is {images.max()}; dSprites' pixels are 0 or 1")
        return images * np.uint8(255)

    images = load_npz_images(name, archive, "imgs", check, archive.parent / "converted", as_bytes)
    check(images.shape, images.dtype)
    latent = [1, 2, 3, 4] if name == "dsprites_noshape" else None
    sprites = IndexedGroundTruthData(name, images, FACTOR_SIZES, FACTOR_NAMES, latent_factor_indices=latent)
    if name == "color_dsprites":
        return RandomDSprites(name, sprites, color)
    if name == "noisy_dsprites":
        return RandomDSprites(name, sprites, noisy)
    if name == "scream_dsprites":
        return RandomDSprites(name, sprites, scream(_load_painting(name, data_path / SCREAM)))
    return sprites


def _load_painting(name: str, path: Path) -> NDArray[np.float64]:
    try:
        with Image.open(path) as image:
            image.thumbnail((350, 274))
            painting = np.array(image) / 255.0
    except FileNotFoundError:
        raise missing_file(name, path) from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not a picture") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read {path} ({error})") from error
    if painting.ndim != 3 or painting.shape[2] != 3 or min(painting.shape[:2]) <= 64:
        raise DataError(
            f"{path}: the painting has shape {painting.shape} after scaling; it must have 3 channels and at least 65 "
            "rows and columns"
        )
    return painting


SOURCES = {
    **{name: [_DSPRITES] for name in ("dsprites_full", "dsprites_noshape", "color_dsprites", "noisy_dsprites")},
    "scream_dsprites": [_DSPRITES, _SCREAM],
}
