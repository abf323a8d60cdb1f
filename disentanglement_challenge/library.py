"""disentanglement_lib 1.5 on a stack that installs today: all imports of its TensorFlow half go through here.

The library is used as published. What this module does, it does around the import:

* TensorFlow 2.16 removed `tf.estimator`, which gin's TensorFlow half subclasses a hook from: it is given one that has
  that class, from `tf.compat.v1.train` where it lives on.
* TensorFlow loads Keras when it is imported, which takes almost as long as the rest of it, and which nothing here
  uses. It is told to use Keras 2 for the length of the import, which is not installed, so it loads neither;
  `tensorflow.keras` is still there for whoever asks for it.
* Three sources of noise on a user's first screen are silenced for the length of the import, and no longer:
  TensorFlow's start-up log, gin's deprecation notice for the library's `blacklist=` (eleven times), and distutils'
  deprecation notice.

distutils' `copy_tree`, by which results take along those of the stage before, remembers folders that it has made and
does not make them again after they were removed, as they are when an experiment is scored twice in one process. It is
given shutil's in its place.

Three of its data sets do not load any more; these names of theirs are given other meanings, and nothing else is:

* Pillow dropped `Image.ANTIALIAS` for `LANCZOS`, and its `thumbnail` no longer takes a third number (Cars3D, Scream,
  SmallNORB).
* numpy no longer takes an array of one number for the number (`int` in SmallNORB).
* Cars3D numbers its cars as the file system lists their files; here they are listed in the order of their names, so
  that it is the same data set on every disk.

`disentanglement_lib.data.ground_truth.ground_truth_data` and `.dummy_data` need none of this and are imported directly
where they are needed.
"""

import functools
import logging
import os
import shutil
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import PIL.Image

# TensorFlow reads both when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


@contextmanager
def _without_keras() -> Iterator[None]:
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TF_USE_LEGACY_KERAS")
        if before is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = before


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


with _quiet_import(), _without_keras():
    import tensorflow

    if not hasattr(tensorflow, "estimator"):
        tensorflow.estimator = types.SimpleNamespace(SessionRunHook=tensorflow.compat.v1.train.SessionRunHook)
    from disentanglement_lib.data.ground_truth import cars3d, dsprites, mpi3d, norb, shapes3d
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


def _with_old_thumbnail(image: PIL.Image.Image) -> Any:
    new_thumbnail = image.thumbnail
    image.thumbnail = lambda size, *resample: new_thumbnail(size[:2], *resample)  # type: ignore[method-assign]
    return image


_OLD_PILLOW = types.SimpleNamespace(
    Image=types.SimpleNamespace(
        ANTIALIAS=PIL.Image.Resampling.LANCZOS,
        fromarray=lambda array: _with_old_thumbnail(PIL.Image.fromarray(array)),
        open=lambda file: _with_old_thumbnail(PIL.Image.open(file)),
    )
)
results.dir_util = types.SimpleNamespace(copy_tree=functools.partial(shutil.copytree, dirs_exist_ok=True))
for _module in (cars3d, dsprites, norb):
    _module.PIL = _OLD_PILLOW
norb.int = lambda array: array.item()
cars3d.gfile = types.SimpleNamespace(
    Open=cars3d.gfile.Open,
    ListDirectory=lambda path, list_directory=cars3d.gfile.ListDirectory: sorted(list_directory(path)),
)

__all__ = [
    "beta_vae",
    "cars3d",
    "dci",
    "dsprites",
    "factor_vae",
    "irs",
    "mig",
    "modularity_explicitness",
    "mpi3d",
    "norb",
    "results",
    "sap_score",
    "shapes3d",
    "unsupervised_metrics",
    "utils",
]
