"""Ground-truth data as the stages to the right see it: the interface, and data over an array of images."""

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
    """disentanglement_lib's ground-truth data, with what a run writes down about it.

    Attributes:
        name: the data set's name, which loads it again.
        factor_names: the names of the factors, in the order of `factors_num_values`.
        note: what a reader of scores on this data set must know; "" for the sets that are what their name says.
    """

    name: str
    factor_names: list[str]
    note: str = ""


class IndexedGroundTruthData(NamedGroundTruthData):
    """Ground-truth data over an array that holds one image for each combination of factors.

    It draws from the random state exactly as disentanglement_lib's `SplitDiscreteStateSpace` does (one `randint` a
    factor, in order), so the library's metrics see the same stream as on their own classes. Factors that are not
    latent are drawn anew for each observation, as the library does with SmallNORB's instances; data without any latent
    factor can be trained on and not be scored.

    Attributes:
        images: uint8 or int16 array [num_images, height, width, channels] in units of 1/255, usually memory-mapped.
            Resampling takes SmallNORB's values below 0 and above 255, which is what int16 is for.
        factor_sizes: the number of values of each factor of the images, whether latent or not.
        latent_factor_indices: which of them are the ground-truth factors.
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
        """Raises DataError when the images are not one image for each factor combination.

        Args:
            name, images, factor_sizes, note: the attributes.
            factor_names: a name for each of `factor_sizes`.
            latent_factor_indices: all factors by default.
            positions: where in `images` each combination is, the last factor varying fastest, int64 [num_images]; by
                default they lie in that order themselves.
        """
        num_combinations = int(np.prod(factor_sizes))
        if images.ndim != 4 or images.dtype not in (np.uint8, np.int16):
            raise DataError(
                f"{name}: images are {images.dtype} of shape {images.shape}; "
                "they must be uint8 of shape (N, height, width, channels)"
            )
        if len(images) != num_combinations:
            raise DataError(
                f"{name}: {len(images)} images cannot be factors {list(factor_sizes)}, which make {num_combinations}"
            )
        self.name = name
        self.images = images
        self.factor_sizes = list(factor_sizes)
        self.latent_factor_indices = list(
            range(len(self.factor_sizes)) if latent_factor_indices is None else latent_factor_indices
        )
        self.factor_names = [factor_names[i] for i in self.latent_factor_indices]
        self.note = note
        # How many images one step of each factor skips.
        self._strides = num_combinations // np.cumprod(self.factor_sizes)
        self._positions = positions

    def __getstate__(self) -> dict[str, Any]:
        """For other processes, which are not forked on every system: the images' file is named, not copied."""
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
        """[height, width, channels]."""
        return list(self.images.shape[1:])

    def sample_factors(self, num: int, random_state: RandomState) -> NDArray[np.int64]:
        """Draws the latent factors uniformly; int64 [num, num_factors]."""
        factors = np.empty((num, self.num_factors), dtype=np.int64)
        for column, size in enumerate(self.factors_num_values):
            factors[:, column] = random_state.randint(size, size=num)
        return factors

    def sample_indices(self, factors: NDArray[np.int64], random_state: RandomState) -> NDArray[np.int64]:
        """The positions of images with these latent factors [num, num_factors]; int64 [num].

        The random state is drawn from only for factors that are not latent.
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
        """The position in `images` of each row of all factors [num, len(factor_sizes)]; int64 [num]."""
        index = factors @ self._strides
        return index if self._positions is None else self._positions[index]

    def index_to_factors(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The inverse of `factors_to_index`: int64 [num] to int64 [num, len(factor_sizes)]."""
        if self._positions is not None:
            indices = np.argsort(self._positions)[indices]
        return np.stack(np.unravel_index(indices, self.factor_sizes), axis=1).astype(np.int64)

    def observations(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The images at these positions as float32 [num, height, width, channels], 255 as 1."""
        return to_floats(take_images(self.images, indices))

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: RandomState
    ) -> NDArray[np.float32]:
        """Observations with these latent factors, as `sample_indices` draws them."""
        return self.observations(self.sample_indices(factors, random_state))


def positions_of(factors: NDArray[np.int64], factor_sizes: Sequence[int]) -> NDArray[np.int64] | None:
    """Where each combination of factors is, given the factors of each image [num_images, num_factors].

    Returns:
        `IndexedGroundTruthData`'s positions, int64 [num_images]; None where the images are not one for each
        combination.
    """
    if (factors < 0).any() or (factors >= factor_sizes).any() or len(factors) != np.prod(factor_sizes):
        return None
    combinations = np.ravel_multi_index(tuple(factors.T), tuple(factor_sizes))
    positions = np.full(len(factors), -1, dtype=np.int64)
    positions[combinations] = np.arange(len(factors))
    return None if (positions < 0).any() else positions
