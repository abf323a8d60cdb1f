"""Codes as arrays, and which latents of them, in which precision, metrics compute with.

* A latent with one value over the points is left out. The test compares its least and greatest value, never its
  variance, as numpy's float32 variance of a constant need not be 0.
* float16 is computed as float64, and so are other codes if a variance or a range over- or underflows in float32.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from disentanglement_challenge.data.sampling import Points
from disentanglement_challenge.data.tables import columns_of
from disentanglement_challenge.errors import DataError, RepresentationError, lines_of

# Above this, a float64's square or its sum over points may not be finite.
_LARGEST = 2.0**200


def usable(
    codes: NDArray[Any], *others: NDArray[Any], together: bool = False
) -> tuple[NDArray[np.bool_], list[NDArray[Any]]]:
    """Leave out the latents of one value, and choose the precision to compute in.

    Args:
        codes: [N, num_latent], which determine latents and precision.
        *others: further codes of the same latents.
        together: whether latents too large to square are scaled together with all others, for metrics that compare
            their sizes.

    Returns:
        The mask of kept latents, bool [num_latent], and the arrays of these latents.
    """
    left = varying(codes)
    # Indexing with a mask would change the memory order, and with it the last bit of float32 sums.
    arrays = [array if left.all() else np.compress(left, array, axis=1) for array in (codes, *others)]
    if not left.any():
        return left, arrays
    arrays = [array.astype(precision(arrays[0]), copy=False) for array in arrays]
    largest = np.abs(arrays[0]).max(axis=0).astype(np.float64)
    over = largest > _LARGEST
    if over.any():
        excess = np.frexp(largest)[1] - math.frexp(_LARGEST)[1]
        exponents = np.full(len(largest), excess.max()) if together else np.where(over, excess, 0)
        with np.errstate(under="ignore"):
            arrays = [np.ldexp(array, -exponents) for array in arrays]  # a power of two changes no digit
        kept = varying(arrays[0])  # small latents may vanish when scaled with the largest
        left = left.copy()
        left[left] = kept
        arrays = [np.compress(kept, array, axis=1) for array in arrays]
    return left, arrays


def varying(codes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which latents have more than one value, bool [num_latent]."""
    return codes.min(axis=0) < codes.max(axis=0)


def precision(codes: NDArray[Any]) -> np.dtype[Any]:
    """Return the dtype to compute these latents in, none of which is constant: the codes' own, or float64.

    It is float64 if they are float16, or if a variance or a range is not a normal number in their own dtype.
    """
    if codes.dtype != np.float32:
        return np.dtype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        spans = np.stack([codes.var(axis=0), np.ptp(codes, axis=0)])
    fits = np.isfinite(spans) & (spans >= np.finfo(np.float32).tiny)
    return np.dtype(np.float32 if fits.all() else np.float64)


def as_codes(codes: ArrayLike, name: str = "codes") -> NDArray[Any]:
    """Return codes as a float array [N, num_latent].

    Raises:
        RepresentationError: they have another shape, are not numbers, or are not finite.
    """
    if np.ma.is_masked(codes):
        raise RepresentationError(f"{name} are an array with masked values; each entry needs a value")
    try:
        array = np.asarray(_off_device(codes))
    except ValueError as error:
        raise RepresentationError(
            f"{name} are rows of unequal length; they must be an array (N, num_latent)"
        ) from error
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise RepresentationError(
            f"{name} cannot be converted to an array (N, num_latent): {lines_of(error)[0]:.200}"
        ) from error
    if array.ndim != 2 or 0 in array.shape:
        raise RepresentationError(f"{name} have shape {array.shape}; they must be an array (N, num_latent)")
    if array.dtype.kind not in "fiub":
        raise RepresentationError(f"{name} are of dtype {array.dtype}; they must be numbers")
    if array.dtype.kind != "f":
        if array.dtype.kind in "iu" and np.abs(array.astype(np.float64)).max() > 2.0**53:
            raise RepresentationError(
                f"{name} hold integers above 2**53, which float64 cannot distinguish; subtract an offset"
            )
        array = array.astype(np.float64)
    elif array.dtype.itemsize > 8 or not array.dtype.isnative:
        array = array.astype(np.float32 if array.dtype.itemsize == 4 else np.float64)
    finite = np.isfinite(array)
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        raise RepresentationError(
            f"{name} hold {array[row, column]} at row {row}, column {column}; they must be finite"
        )
    return array


def _off_device(codes: Any) -> Any:
    """Convert a tensor to one that numpy accepts: without gradients, dense, on the CPU, and of a dtype of numpy's."""
    if not hasattr(codes, "detach"):
        return codes
    tensor = codes.detach()
    if getattr(tensor, "is_sparse", False):
        tensor = tensor.to_dense()
    tensor = tensor.cpu()
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def points_of(*arrays: ArrayLike) -> list[Points]:
    """Return points from alternating codes [N, num_latent] and factors [N, num_factors].

    Each factor's values become indices into its sorted values over all arrays.

    Raises:
        RepresentationError, DataError: an array has another shape or length, or invalid values.
    """
    codes = [as_codes(array) for array in arrays[::2]]
    factors = [list(columns_of(array).values()) for array in arrays[1::2]]
    for one, columns in zip(codes, factors, strict=True):
        shape = (len(columns[0]), len(columns))
        if shape != (len(one), len(factors[0])):
            raise DataError(f"factors have shape {shape}; with these codes it must be ({len(one)}, num_factors)")
    ends = np.cumsum([len(one) for one in codes])[:-1]
    together = [np.concatenate(parts) for parts in zip(*factors, strict=True)]
    indices = np.stack([np.unique(column, return_inverse=True)[1] for column in together], axis=1).astype(np.int64)
    return [Points(one, index, np.arange(len(one))) for one, index in zip(codes, np.split(indices, ends), strict=True)]
