"""disentanglement_lib 1.5 with today's packages: all its modules that import TensorFlow must be imported from here.

The library is used as published. It is imported with a stand-in for TensorFlow (`tensorflow_stand_in`), of which it
only needs the file access; `use_tensorflow` gives it the real TensorFlow.

The library copies results with distutils' `copy_tree`. That remembers the folders that it has made, and does not make
them again if they are removed, as happens when an experiment is scored twice in one process. So the library gets
shutil's function instead, even if this Python still has distutils.

Three of its data sets no longer load. Only these names in their modules are replaced:

* Pillow removed `Image.ANTIALIAS` in favour of `LANCZOS`, and `thumbnail`'s third argument (Cars3D, Scream, SmallNORB).
* numpy no longer converts an array of one number to a number (`int` in SmallNORB).
* Cars3D numbers its cars in the file system's order of files; here the files are sorted by name, so that the data set
  is the same on every disk.

`unified_scores` loads pandas, seaborn and matplotlib for its plots, which takes as long as all other modules together.
It is imported when it is needed.

`disentanglement_lib.data.ground_truth.ground_truth_data` and `.dummy_data` need none of this and are imported directly.
"""

import importlib
import os
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Any

import PIL.Image

from disentanglement_challenge.errors import ConfigError, lines_of
from disentanglement_challenge.tensorflow_stand_in import MODULES, importing_library

with importing_library():
    from disentanglement_lib.data.ground_truth import cars3d, dsprites, mpi3d, named_data, norb, shapes3d
    from disentanglement_lib.evaluation.metrics import (
        beta_vae,
        dci,
        downstream_task,
        factor_vae,
        fairness,
        irs,
        mig,
        modularity_explicitness,
        sap_score,
        strong_downstream_task,
        unsupervised_metrics,
        utils,
    )
    from disentanglement_lib.utils import results


def tensorflow_in_use() -> str:
    """Return the version of the library's TensorFlow, for provenance; "stand-in" for the stand-in."""
    return "stand-in" if results.tf is MODULES["tensorflow.compat.v1"] else str(sys.modules["tensorflow"].__version__)


def use_tensorflow() -> None:
    """Give the library the real TensorFlow instead of the stand-in; do nothing if it is not installed.

    Raises:
        ConfigError: the installed TensorFlow cannot be imported.
    """
    # PyTorch's CUDA build contains Triton, which torch.export and torch.compile import. Both Triton and TensorFlow
    # contain LLVM: if TensorFlow is imported first, Triton crashes the process, so import Triton first.
    if "tensorflow" not in sys.modules:
        with suppress(ImportError):
            importlib.import_module("triton._C.libtriton")
    try:
        with _quiet_tensorflow():
            import tensorflow
    except Exception as error:  # a build for another machine or numpy may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == "tensorflow":
            return
        raise ConfigError(
            f"cannot import the installed TensorFlow ({type(error).__name__}: {lines_of(error)[0]}); repair it or "
            "uninstall it: disentanglement_lib also runs without it"
        ) from error
    for name, module in list(sys.modules.items()):
        if name.startswith("disentanglement_lib."):
            for attribute, value in list(vars(module).items()):
                if isinstance(value, types.ModuleType) and value is MODULES.get(value.__name__):
                    setattr(module, attribute, _real(tensorflow, value.__name__))


def _real(tensorflow: Any, name: str) -> Any:
    """Return TensorFlow's module of this name, such as "tensorflow.compat.v1"; for other names the stand-in."""
    package, _, rest = name.partition(".")
    if package != "tensorflow":
        return MODULES[name]
    return attrgetter(rest)(tensorflow) if rest else tensorflow


@contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Suppress TensorFlow's start-up log, and prevent it from loading Keras.

    Keras takes almost as long to import as the rest of TensorFlow, and nothing here uses it. During its import
    TensorFlow is told to use Keras 2, which is not installed, so it loads neither version. `tensorflow.keras` still
    works for later users.
    """
    # TensorFlow reads both variables when it is first imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.environ.pop("TF_USE_LEGACY_KERAS")
        if before is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = before


def __getattr__(name: str) -> types.ModuleType:
    if name != "unified_scores":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import matplotlib

    # The library selects a backend without windows for the whole process; then a notebook could not show plots.
    use = matplotlib.use
    matplotlib.use = lambda *_, **__: None
    try:
        with importing_library():
            module = importlib.import_module("disentanglement_lib.evaluation.metrics.unified_scores")
    finally:
        matplotlib.use = use
    if tensorflow_in_use() != "stand-in":
        use_tensorflow()  # also in the module that was imported now
    return module


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
results.dir_util = MODULES["distutils.dir_util"]  # needed if other code has imported the library before
for _module in (cars3d, dsprites, norb):
    _module.PIL = _OLD_PILLOW
norb.int = lambda array: array.item()
cars3d.gfile = types.SimpleNamespace(  # looked up at the call, as the library's TensorFlow may change
    Open=lambda *arguments: results.gfile.Open(*arguments),
    ListDirectory=lambda path: sorted(results.gfile.ListDirectory(path)),
)

__all__ = [
    "beta_vae",
    "cars3d",
    "dci",
    "downstream_task",
    "dsprites",
    "factor_vae",
    "fairness",
    "irs",
    "mig",
    "modularity_explicitness",
    "mpi3d",
    "named_data",
    "norb",
    "results",
    "sap_score",
    "shapes3d",
    "strong_downstream_task",
    "tensorflow_in_use",
    "unsupervised_metrics",
    "use_tensorflow",
    "utils",
]
