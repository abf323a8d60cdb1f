"""disentanglement_lib 1.5 on a stack that installs today: all imports of its TensorFlow half go through here.

The library is used as published. What this module does, it does around the import:

* TensorFlow 2.16 removed `tf.estimator`, which gin's TensorFlow half subclasses a hook from: it is given one that has
  that class, from `tf.compat.v1.train` where it lives on.
* Three sources of noise on a user's first screen are silenced for the length of the import, and no longer:
  TensorFlow's start-up log, gin's deprecation notice for the library's `blacklist=` (eleven times), and distutils'
  deprecation notice.

`disentanglement_lib.data.ground_truth.ground_truth_data` needs none of this and is imported directly where it is
needed.
"""

import logging
import os
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# TensorFlow reads both when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


@contextmanager
def _quiet_import() -> Iterator[None]:
    def drop_deprecation(record: logging.LogRecord) -> bool:
        return "is deprecated. Please use" not in record.getMessage()

    root = logging.getLogger()
    handlers = list(root.handlers)
    root.addFilter(drop_deprecation)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(drop_deprecation)
        # The first message to a root logger without handlers gives it one, which would print everybody's messages
        # twice.
        root.handlers[:] = handlers


with _quiet_import():
    import tensorflow

    if not hasattr(tensorflow, "estimator"):
        tensorflow.estimator = types.SimpleNamespace(SessionRunHook=tensorflow.compat.v1.train.SessionRunHook)
    from disentanglement_lib.evaluation.metrics import (
        beta_vae,
        dci,
        factor_vae,
        irs,
        mig,
        modularity_explicitness,
        sap_score,
        unsupervised_metrics,
        utils,
    )
    from disentanglement_lib.utils import results

__all__ = [
    "beta_vae",
    "dci",
    "factor_vae",
    "irs",
    "mig",
    "modularity_explicitness",
    "results",
    "sap_score",
    "unsupervised_metrics",
    "utils",
]
