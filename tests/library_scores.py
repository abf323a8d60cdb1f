"""Compute scores with disentanglement_lib itself, with its own gin bindings."""

import warnings

import gin
import numpy as np
from numpy.random import RandomState

from disentanglement_challenge import library
from disentanglement_challenge.data.sampling import GridSampler


def library_results(metric, data, representation_function, settings, seed=0):
    """Return the results of the library's function of a metric, with numpy's global generator seeded as in `Metric`."""
    module, function = metric.library.split(".")
    compute = getattr(getattr(library, module), function)
    gin.clear_config()
    gin.parse_config([f"{name} = {_in_gin(value)}" for name, value in settings.items()])
    try:
        np.random.seed(seed)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return compute(data, representation_function, RandomState(seed))
    finally:
        gin.clear_config()


def our_results(metric, data, representation_function, settings, seed=0):
    return metric.results(GridSampler(data, representation_function), seed, settings)


def _in_gin(value):
    if isinstance(value, list):
        return f"[{', '.join(map(_in_gin, value))}]"
    return value if isinstance(value, str) and value.startswith("@") else repr(value)
