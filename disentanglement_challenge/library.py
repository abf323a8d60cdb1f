"""disentanglement_lib 1.5 on a stack that installs today: everything of it that imports TensorFlow comes from here.

The library is used as published. It is imported with a stand-in for TensorFlow (`tensorflow_stand_in`), of which it
needs the file access alone; `use_tensorflow` gives it the real one.

distutils' `copy_tree`, by which results take along those of the stage before, remembers folders that it has made and
does not make them again after they were removed, as they are when an experiment is scored twice in one process. It is
given shutil's in its place, whether or not this Python still has distutils.

Three of its data sets do not load any more; these names of theirs are given other meanings, and nothing else is:

* Pillow dropped `Image.ANTIALIAS` for `LANCZOS`, and its `thumbnail` no longer takes a third number (Cars3D, Scream,
  SmallNORB).
* numpy no longer takes an array of one number for the number (`int` in SmallNORB).
* Cars3D numbers its cars as the file system lists their files; here they are listed in the order of their names, so
  that it is the same data set on every disk.

`unified_scores` draws: it loads pandas, seaborn and matplotlib, which takes as long as all the others together. It is
imported when it is asked for.

`disentanglement_lib.data.ground_truth.ground_truth_data` and `.dummy_data` need none of this and are imported directly
where they are needed.
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
    """The version of the TensorFlow that the library runs with, for provenance; "stand-in" where it is the stand-in."""
    return "stand-in" if results.tf is MODULES["tensorflow.compat.v1"] else str(sys.modules["tensorflow"].__version__)


def use_tensorflow() -> None:
    """Gives the library the real TensorFlow in place of the stand-in; does nothing where it is not installed.

    Raises:
        ConfigError: what is installed cannot be imported.
    """
    # PyTorch's CUDA build brings Triton, which torch.export and torch.compile import. It crashes the process where
    # TensorFlow was imported before it (both have an LLVM of their own), and does not where it comes first.
    if "tensorflow" not in sys.modules:
        with suppress(ImportError):
            importlib.import_module("triton._C.libtriton")
    try:
        with _quiet_tensorflow():
            import tensorflow
    except Exception as error:  # one that was built for another machine or numpy may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == "tensorflow":
            return
        raise ConfigError(
            f"TensorFlow is installed and cannot be imported ({type(error).__name__}: {lines_of(error)[0]}); "
            "mend it, or uninstall it: disentanglement_lib runs without it"
        ) from error
    for name, module in list(sys.modules.items()):
        if name.startswith("disentanglement_lib."):
            for attribute, value in list(vars(module).items()):
                if isinstance(value, types.ModuleType) and value is MODULES.get(value.__name__):
                    setattr(module, attribute, _real(tensorflow, value.__name__))


def _real(tensorflow: Any, name: str) -> Any:
    """The module of this name, such as "tensorflow.compat.v1"; others than TensorFlow's remain stand-ins."""
    package, _, rest = name.partition(".")
    if package != "tensorflow":
        return MODULES[name]
    return attrgetter(rest)(tensorflow) if rest else tensorflow


@contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's start-up log from the screen, and Keras from being loaded by it.

    Keras takes almost as long to import as the rest of TensorFlow, and nothing here uses it. TensorFlow is told to use
    Keras 2 for the length of its import, which is not installed, so it loads neither; `tensorflow.keras` is still
    there for whoever asks for it.
    """
    # TensorFlow reads both when it is first imported.
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

    # The library chooses a backend without windows for the whole process, in which a notebook would draw nothing more.
    use = matplotlib.use
    matplotlib.use = lambda *_, **__: None
    try:
        with importing_library():
            module = importlib.import_module("disentanglement_lib.evaluation.metrics.unified_scores")
    finally:
        matplotlib.use = use
    if tensorflow_in_use() != "stand-in":
        use_tensorflow()  # for what was imported now too
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
results.dir_util = MODULES["distutils.dir_util"]  # also where the library was imported before, by somebody else
for _module in (cars3d, dsprites, norb):
    _module.PIL = _OLD_PILLOW
norb.int = lambda array: array.item()
cars3d.gfile = types.SimpleNamespace(  # of whichever TensorFlow the library has at the time
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
