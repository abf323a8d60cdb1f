"""Draw the points that a metric is computed on: representations and factors, from images or from rows.

A metric draws in three ways: points, points that share the value of a factor, and pairs that share it. A full grid has
one image or row for each combination of factors. On it the draws are disentanglement_lib's own, so a score uses the
same draws as the library's (`GridSampler`). Without a full grid, rows are drawn directly (`RowSampler`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray

from disentanglement_challenge.errors import DataError

_ENCODED_AT_A_TIME = 64  # the library's batch size when it estimates variances

RepresentationFunction = Callable[[NDArray[Any]], NDArray[Any]]
"""Observations [N, ...] to representations [N, num_latent]."""


class Points(NamedTuple):
    """Sampled points.

    Attributes:
        codes: their representations, float [num_points, num_latent].
        factors: the index of each factor's value, int64 [num_points, num_factors].
        rows: where the points are rows that are no full grid, which rows, int64 [num_points]; None on a full grid.
    """

    codes: NDArray[Any]
    factors: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None


class Sampler(Protocol):
    """The source of a metric's points.

    Attributes:
        factor_names: a name for each factor.
        factor_sizes: the number of values of each factor.
    """

    factor_names: list[str]
    factor_sizes: list[int]

    def points(self, num: int, batch_size: int, random_state: RandomState) -> Points:
        """Draw points, `batch_size` at a time; the library's random stream depends on that."""
        ...

    def codes(self, num: int, random_state: RandomState) -> NDArray[Any]:
        """Draw the codes [num, num_latent] of points; all factors are drawn before the first observation."""
        ...

    def sharing(self, factor: int, num: int, random_state: RandomState) -> NDArray[Any]:
        """Draw the codes [num, num_latent] of points that share one randomly drawn value of a factor."""
        ...

    def pairs(self, factor: int, num: int, random_state: RandomState) -> tuple[NDArray[Any], NDArray[Any]]:
        """Draw two arrays of codes [num, num_latent]; the two points of one row share their value of a factor."""
        ...


class GridSampler:
    """Draw from ground-truth data as disentanglement_lib's metrics do.

    Example:
        >>> sampler = GridSampler(load_data("mpi3d_embedded"), representation_function)
        >>> sampler.points(1000, 16, RandomState(0)).codes.shape
        (1000, 10)
    """

    def __init__(
        self,
        ground_truth_data: GroundTruthData,
        representation_function: RepresentationFunction,
        factor_names: Sequence[str] | None = None,
    ) -> None:
        """Take the data and its representation.

        Args:
            ground_truth_data: what to draw from.
            representation_function: its observations to codes [N, num_latent].
            factor_names: "factor 0" and so on by default.
        """
        self.ground_truth_data = ground_truth_data
        self.representation_function = representation_function
        self.factor_sizes = [int(size) for size in ground_truth_data.factors_num_values]
        self.factor_names = list(factor_names or (f"factor {i}" for i in range(len(self.factor_sizes))))

    def points(self, num: int, batch_size: int, random_state: RandomState) -> Points:
        """Draw points (the library's `utils.generate_batch_factor_code`)."""
        codes: NDArray[Any] = np.empty((0, 0))
        factors: NDArray[np.int64] = np.empty((0, 0), dtype=np.int64)
        for start in range(0, num, batch_size):
            batch_factors, observations = self.ground_truth_data.sample(min(batch_size, num - start), random_state)
            batch = self.representation_function(observations)
            if start == 0:  # the library copies all earlier points for every batch
                codes = np.empty((num, batch.shape[1]), dtype=batch.dtype)
                factors = np.empty((num, batch_factors.shape[1]), dtype=np.int64)
            codes[start : start + batch_size] = batch
            factors[start : start + batch_size] = batch_factors
        return Points(codes, factors)

    def codes(self, num: int, random_state: RandomState) -> NDArray[Any]:
        """Draw codes (the library's `factor_vae._compute_variances`, which holds all observations in memory)."""
        factors = self.sample_factors(num, random_state)
        batches = [
            self.codes_of(factors[start : start + _ENCODED_AT_A_TIME], random_state)
            for start in range(0, num, _ENCODED_AT_A_TIME)
        ]
        return np.concatenate(batches)

    def sharing(self, factor: int, num: int, random_state: RandomState) -> NDArray[Any]:
        """Draw codes of points that share a value (the library's `factor_vae._generate_training_sample`)."""
        factors = self.sample_factors(num, random_state)
        factors[:, factor] = factors[0, factor]
        return self.codes_of(factors, random_state)

    def pairs(self, factor: int, num: int, random_state: RandomState) -> tuple[NDArray[Any], NDArray[Any]]:
        """Draw pairs that share a value (the library's `beta_vae._generate_training_sample`)."""
        first = self.sample_factors(num, random_state)
        second = self.sample_factors(num, random_state)
        second[:, factor] = first[:, factor]
        return self.codes_of(first, random_state), self.codes_of(second, random_state)

    def sample_factors(self, num: int, random_state: RandomState) -> NDArray[np.int64]:
        """Draw factors uniformly, int64 [num, num_factors]."""
        return self.ground_truth_data.sample_factors(num, random_state)

    def codes_of(self, factors: NDArray[np.int64], random_state: RandomState) -> NDArray[Any]:
        """Return the codes [N, num_latent] of observations with these factors [N, num_factors]."""
        return self.representation_function(
            self.ground_truth_data.sample_observations_from_factors(factors, random_state)
        )


class RowSampler:
    """Draw rows with replacement, if they are not a full grid of the factors' values.

    `sharing` and `pairs` leave out values with a single row, which could only be paired with itself.
    """

    def __init__(self, codes: NDArray[Any], factors: NDArray[np.int64], factor_names: Sequence[str]) -> None:
        """Take the rows.

        Args:
            codes: float [num_rows, num_latent].
            factors: the index of each factor's value, int64 [num_rows, num_factors]; each index from 0 to the number of
                values minus 1 occurs.
            factor_names: a name for each factor.
        """
        self._codes = codes
        self._factors = factors
        self.factor_names = list(factor_names)
        self.factor_sizes = [int(size) for size in factors.max(axis=0) + 1]
        # Rows by value, for each factor: the rows of value v are order[first[v] : first[v + 1]].
        self._order = [np.argsort(column, kind="stable") for column in factors.T]
        self._first = [
            np.concatenate([[0], np.cumsum(np.bincount(column, minlength=size))])
            for column, size in zip(factors.T, self.factor_sizes, strict=True)
        ]
        self._shared = [
            np.flatnonzero(np.diff(first)[column] > 1) for first, column in zip(self._first, factors.T, strict=True)
        ]

    def points(self, num: int, batch_size: int, random_state: RandomState) -> Points:
        """Draw rows; the stream does not depend on `batch_size`."""
        rows = random_state.randint(len(self._codes), size=num)
        return Points(self._codes[rows], self._factors[rows], rows)

    def codes(self, num: int, random_state: RandomState) -> NDArray[Any]:
        """Draw the codes of rows."""
        return self._codes[random_state.randint(len(self._codes), size=num)]

    def sharing(self, factor: int, num: int, random_state: RandomState) -> NDArray[Any]:
        """Draw a row, then `num` - 1 among those that share its value.

        Raises DataError if no value of the factor has two rows.
        """
        row = self._draw_shared(factor, 1, random_state)
        others = self._partners(factor, np.repeat(row, num - 1), random_state)
        return self._codes[np.concatenate([row, others])]

    def pairs(self, factor: int, num: int, random_state: RandomState) -> tuple[NDArray[Any], NDArray[Any]]:
        """Draw rows, and for each a second one that shares its value.

        Raises DataError if no value of the factor has two rows.
        """
        rows = self._draw_shared(factor, num, random_state)
        return self._codes[rows], self._codes[self._partners(factor, rows, random_state)]

    def _draw_shared(self, factor: int, num: int, random_state: RandomState) -> NDArray[np.int64]:
        shared = self._shared[factor]
        if not len(shared):
            raise DataError(
                f"no two rows share a value of factor {self.factor_names[factor]!r}; give it bins, or leave it out"
            )
        return shared[random_state.randint(len(shared), size=num)]

    def _partners(self, factor: int, rows: NDArray[np.int64], random_state: RandomState) -> NDArray[np.int64]:
        values = self._factors[rows, factor]
        first, last = self._first[factor][values], self._first[factor][values + 1]
        return self._order[factor][first + random_state.randint(last - first)]
