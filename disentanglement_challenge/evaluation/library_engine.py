"""Compute a metric with disentanglement_lib's own code, independent of gin's and numpy's global state outside."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData
from numpy.random import RandomState

from disentanglement_challenge import library
from disentanglement_challenge.data.sampling import RepresentationFunction
from disentanglement_challenge.errors import ChallengeError, ScoreError, lines_of
from disentanglement_challenge.evaluation.bindings import bound
from disentanglement_challenge.metrics.metric import Metric

# Some of the library's functions need these bindings for other results that they compute beside the metric.
_LIBRARY_NEEDS = {"discretizer.discretizer_fn": "@histogram_discretizer", "discretizer.num_bins": 20}


def library_results(
    metric: Metric,
    ground_truth_data: GroundTruthData,
    representation_function: RepresentationFunction,
    seed: int,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Compute a metric of disentanglement_lib.

    Args:
        metric: a record with a `library` function.
        ground_truth_data: the source of observations.
        representation_function: maps its observations to codes [N, num_latent].
        seed: the seed of the metric's random state, and of numpy's global one, which the library leaves unseeded.
        settings: a value for each of the metric's settings, by gin name.

    Raises:
        ScoreError: the library's code fails on these codes.
    """
    library.use_tensorflow()  # the library is made for it, so use it if it is installed
    module, _, function = metric.library.rpartition(".")
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        compute = getattr(getattr(library, module), function)
        with bound({**_LIBRARY_NEEDS, **{name: settings[name] for name in metric.settings}}):
            return compute(ground_truth_data, representation_function, RandomState(seed))
    except ChallengeError:  # from the representation function
        raise
    except Exception as error:  # the library checks little, so codes may make it fail anywhere
        reason = f"{type(error).__name__}: {lines_of(error)[0]}"
        raise ScoreError(f"disentanglement_lib's code fails on these codes ({reason})") from error
    finally:
        np.random.set_state(before)
