"""A function that encodes images, made from what a caller has, and the checks that it is one."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState
from numpy.typing import NDArray

from disentanglement_challenge.data.sampling import RepresentationFunction
from disentanglement_challenge.errors import ChallengeError, RepresentationError, lines_of
from disentanglement_challenge.metrics.codes import as_codes


def representation_function_of(representation: Any) -> tuple[RepresentationFunction, int]:
    """Return the function that encodes images, and its batch size.

    Args:
        representation: a model file's path, a torch module, or a function of images [N, height, width, channels].

    Raises:
        RepresentationError: the file is not a model.
    """
    if isinstance(representation, str | os.PathLike) or _is_module(representation):
        # Importing PyTorch takes seconds, and codes do not need it.
        from disentanglement_challenge.export.model_file import import_model
        from disentanglement_challenge.export.representor import encoding_batch, make_representor, module_representor

        if isinstance(representation, str | os.PathLike):
            function = make_representor(import_model(representation))
        else:
            function = module_representor(representation)
        return function, encoding_batch(function)
    return _of_callable(representation), 64


def _is_module(representation: Any) -> bool:
    return any(kind.__module__ == "torch.nn.modules.module" for kind in type(representation).__mro__)


def _of_callable(function: Callable[[NDArray[Any]], Any]) -> RepresentationFunction:
    widths: set[int] = set()

    def representation_function(images: NDArray[Any]) -> NDArray[Any]:
        try:
            given = function(images.copy())  # the function may change its argument
        except ChallengeError:
            raise
        except Exception as error:  # the caller's own code may raise anything
            reason = f"{type(error).__name__}: {lines_of(error)[0]}"
            raise RepresentationError(f"the representation fails on images {images.shape}: {reason:.300}") from error
        codes = np.array(as_codes(given, "the representation's codes"))  # a copy, as the function may reuse its array
        if len(codes) != len(images):
            raise RepresentationError(
                f"the representation returns {len(codes)} codes for {len(images)} images; there must be one for each"
            )
        widths.add(codes.shape[1])
        if len(widths) > 1:
            raise RepresentationError(
                f"the representation's number of latents varies ({sorted(widths)}); it must be the same for all images"
            )
        return codes

    return representation_function


def check_representation_function(
    ground_truth_data: GroundTruthData, representation_function: RepresentationFunction
) -> None:
    """Raise RepresentationError for faults that would only show after an hour of metrics, or never."""
    observations = ground_truth_data.sample_observations(64, RandomState(0))
    try:
        at_once = representation_function(observations)
    except RepresentationError as error:
        _check_channels(representation_function, observations)
        raise error
    check_num_latent(at_once.shape[1])
    one_by_one = np.concatenate([representation_function(observations[i : i + 1]) for i in range(8)])
    if one_by_one.shape[1] != at_once.shape[1] or not np.allclose(one_by_one, at_once[:8], rtol=1e-3, atol=1e-4):
        raise RepresentationError(
            "the representation of an image depends on the batch or is random; it must be a function of the image"
        )


def _check_channels(representation_function: RepresentationFunction, observations: NDArray[Any]) -> None:
    """Raise RepresentationError if a function that failed accepts images with another number of channels."""
    channels = observations.shape[-1]
    other = 3 if channels == 1 else 1

    def works(images: NDArray[Any]) -> bool:
        try:
            representation_function(images)
        except Exception:  # a user's function may raise any
            return False
        return True

    # If it works on a few images as they are, or fails on others too, the channels are not the cause.
    if not works(observations[:2]) and works(np.repeat(observations[:2, ..., :1], other, axis=-1)):
        raise RepresentationError(f"the data set's images have {channels} channel(s); the model takes {other}")


def check_num_latent(num_latent: int) -> None:
    """Raise RepresentationError for a single latent."""
    if num_latent < 2:
        raise RepresentationError("the representation has 1 latent; SAP and MIG need at least 2")
