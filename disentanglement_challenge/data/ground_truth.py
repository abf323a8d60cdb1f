"""Ground-truth data over an array of images that holds every factor combination once."""

from collections.abc import Sequence

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray

from disentanglement_challenge.errors import DataError


class IndexedGroundTruthData(GroundTruthData):
    """Ground-truth data whose observation is a function of the factors alone: image `factors_to_index(factors)`.

    It draws factors from the random state exactly as disentanglement_lib's `SplitDiscreteStateSpace` does when all
    factors are latent (one `randint` a factor, in order), so the library's metrics see the same stream as on their
    own classes.

    Attributes:
        images: uint8 array [num_images, height, width, channels], usually memory-mapped; the last factor varies
        fastest.
        factor_sizes: the number of values of each factor.
        factor_names: the factors' names, in the same order.
        note: what a reader of scores on this data set must know; "" for the sets that are what their name says.
    """

    def __init__(
        self,
        name: str,
        images: NDArray[np.uint8],
        factor_sizes: Sequence[int],
        factor_names: Sequence[str],
        note: str = "",
    ) -> None:
        """Raises DataError when the images are not one uint8 image for each factor combination."""
        num_combinations = int(np.prod(factor_sizes))
        if images.ndim != 4 or images.dtype != np.uint8:
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
        self.factor_names = list(factor_names)
        self.note = note
        # How many images one step of each factor skips.
        self._strides = num_combinations // np.cumprod(self.factor_sizes)

    @property
    def num_factors(self) -> int:
        return len(self.factor_sizes)

    @property
    def factors_num_values(self) -> list[int]:
        return self.factor_sizes

    @property
    def observation_shape(self) -> list[int]:
        """[height, width, channels]."""
        return list(self.images.shape[1:])

    def sample_factors(self, num: int, random_state: RandomState) -> NDArray[np.int64]:
        """Draws factors uniformly; int64 [num, num_factors]."""
        factors = np.empty((num, self.num_factors), dtype=np.int64)
        for i, size in enumerate(self.factor_sizes):
            factors[:, i] = random_state.randint(size, size=num)
        return factors

    def factors_to_index(self, factors: NDArray[np.int64]) -> NDArray[np.int64]:
        """The position in `images` of each row of factors [num, num_factors]; int64 [num]."""
        return factors @ self._strides

    def index_to_factors(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The inverse of `factors_to_index`: int64 [num] to int64 [num, num_factors]."""
        return np.stack(np.unravel_index(indices, self.factor_sizes), axis=1).astype(np.int64)

    def observations(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The images at these positions as float32 [num, height, width, channels] in [0, 1]."""
        return np.divide(self.images[indices], np.float32(255), dtype=np.float32)

    def sample_observations_from_factors(
        self, factors: NDArray[np.int64], random_state: RandomState
    ) -> NDArray[np.float32]:
        """The observations of these factors; the random state is not drawn from."""
        return self.observations(self.factors_to_index(factors))
