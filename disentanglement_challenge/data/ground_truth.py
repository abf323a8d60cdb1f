"""Ground-truth data: the interface that later stages use, and data over an array of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray

from disentanglement_challenge.data.pixels import to_floats
from disentanglement_challenge.data.store import MappedImages, take_images
from disentanglement_challenge.errors import DataError


class NamedGroundTruthData(GroundTruthData):
    """disentanglement_lib's ground-truth data, with the facts that a run records about it.

    Attributes:
        name: the data set's name, by which it can be loaded again.
        factor_names: the names of the factors, in the order of `factors_num_values`.
        note: a caveat for readers of scores on this data set; "" if there is none.
        accepted: a sentence on check sums that the user accepted in place of recorded ones; "" if there are none.
    """

    name: str
    factor_names: list[str]
    note: str = ""
    accepted: str = ""


class IndexedGroundTruthData(NamedGroundTruthData):
    """Ground-truth data over an array with one image for each combination of factors.

    It draws from the random state exactly as disentanglement_lib's `SplitDiscreteStateSpace` does (one `randint` per
    factor, in order), so the library's metrics see the same stream as on their own classes. Factors that are not
    latent are drawn again for each observation, as the library does with SmallNORB's instances. Data without latent
    factors can be used for training, but not for scores.

    Attributes:
        images: uint8 or int16 array [num_images, height, width, channels] in units of 1/255, usually memory-mapped.
            SmallNORB needs int16, as resampling gives it values below 0 and above 255.
        factor_sizes: the number of values of each factor of the images, whether latent or not.
        latent_factor_indices: the positions of the latent factors, which are the ground truth.
    """

    def __init__(
        self,
        name: str,
        images: NDArray[np.uint8] | NDArray[np.int16],
        factor_sizes: Sequence[int],
        factor_names: Sequence[str],
        note: str = "",
        latent_factor_indices: Sequence[int] | None = None,
        positions: NDArray[np.int64] | None = None,
    ) -> None:
        """Take the images; raise DataError if there is not one image for each factor combination.

        Args:
            name, images, factor_sizes, note: the attributes.
            factor_names: a name for each of `factor_sizes`.
            latent_factor_indices: all factors by default.
            positions: the position in `images` of each combination, the last factor varying fastest, int64
                [num_images]; by default the images are in that order.
        """
        num_combinations = int(np.prod(factor_sizes))
        if images.ndim != 4 or images.dtype not in (np.uint8, np.int16):
            raise DataError(
                f"{name}: images are {images.dtype} of shape {images.shape}; "
                "they must be uint8 of shape (N, height, width, channels)"
            )
        if len(images) != num_combinations:
            raise DataError(
                f"{name}: there are {len(images)} images; factor sizes {list(factor_sizes)} need {num_combinations}"
            )
        self.name = name
        self.images = images
        self.factor_sizes = list(factor_sizes)
        self.latent_factor_indices = list(
            range(len(self.factor_sizes)) if latent_factor_indices is None else latent_factor_indices
        )
        self.factor_names = [factor_names[i] for i in self.latent_factor_indices]
        self.note = note
        # The number of images that one step of each factor skips.
        self._strides = num_combinations // np.cumprod(self.factor_sizes)
        self._positions = positions

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle for other processes, with the name of the images' file in place of a copy."""
        return {**vars(self), "images": MappedImages.of(self.images) or self.images}

    def __setstate__(self, state: dict[str, Any]) -> None:
        images = state["images"]
        self.__dict__.update(state, images=images.open() if isinstance(images, MappedImages) else images)

    @property
    def num_factors(self) -> int:
        return len(self.latent_factor_indices)

    @property
    def factors_num_values(self) -> list[int]:
        return [self.factor_sizes[i] for i in self.latent_factor_indices]

    @property
    def observation_shape(self) -> list[int]:
        """The shape [height, width, channels] of an observation."""
        return list(self.images.shape[1:])

    def sample_factors(self, num: int, random_state: RandomState) -> NDArray[np.int64]:
        """Draw the latent factors uniformly; int64 [num, num_factors]."""
        factors = np.empty((num, self.num_factors), dtype=np.int64)
        for column, size in enumerate(self.factors_num_values):
            factors[:, column] = random_state.randint(size, size=num)
        return factors

    def sample_indices(self, factors: NDArray[np.int64], random_state: RandomState) -> NDArray[np.int64]:
        """Return positions of images with these latent factors [num, num_factors]; int64 [num].

        Only factors that are not latent are drawn from the random state.
        """
        if self.num_factors == len(self.factor_sizes):
            return self.factors_to_index(factors)
        all_factors = np.empty((len(factors), len(self.factor_sizes)), dtype=np.int64)
        all_factors[:, self.latent_factor_indices] = factors
        for i, size in enumerate(self.factor_sizes):
            if i not in self.latent_factor_indices:
                all_factors[:, i] = random_state.randint(size, size=len(factors))
        return self.factors_to_index(all_factors)

    def factors_to_index(self, factors: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the position in `images` of each row of all factors [num, len(factor_sizes)]; int64 [num]."""
        index = factors @ self._strides
        return index if self._positions is None else self._positions[index]

    def index_to_factors(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Invert `factors_to_index`: int64 [num] to int64 [num, len(factor_sizes)]."""
        if self._positions is not None:
            indices = np.argsort(self._positions)[indices]
        return np.stack(np.unravel_index(indices, self.factor_sizes), axis=1).astype(np.int64)

    def observations(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the images at these positions as float32 [num, height, width, channels], scaled so that 255 is 1."""
        return to_floats(take_images(self.images, indices))

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: RandomState
    ) -> NDArray[np.float32]:
        """Return observations with these latent factors, as `sample_indices` draws them."""
        return self.observations(self.sample_indices(factors, random_state))


def positions_of(factors: NDArray[np.int64], factor_sizes: Sequence[int]) -> NDArray[np.int64] | None:
    """Compute the position of each combination of factors from the factors of each image [num_images, num_factors].

    Returns:
        `IndexedGroundTruthData`'s positions, int64 [num_images]; None if there is not one image for each combination.
    """
    if (factors < 0).any() or (factors >= factor_sizes).any() or len(factors) != np.prod(factor_sizes):
        return None
    combinations = np.ravel_multi_index(tuple(factors.T), tuple(factor_sizes))
    positions = np.full(len(factors), -1, dtype=np.int64)
    positions[combinations] = np.arange(len(factors))
    return None if (positions < 0).any() else positions
