"""Stand-ins for the modules of TensorFlow, gin.tf and distutils that disentanglement_lib 1.5 imports.

Its metric, data and results modules use only TensorFlow's file access (`gfile`), import `gin.tf` for gin itself, and
use distutils' `copy_tree`, which Python 3.12 removed. TensorFlow takes three seconds at each start and 1.3 GB of disk,
and does not have wheels for every Python. So these modules replace it. `library.use_tensorflow` gives the library the
real file access.

The stand-ins do not stay in `sys.modules`: later imports of tensorflow, gin.tf or distutils get the real modules, or a
real ImportError.
"""

import functools
import glob
import importlib
import io
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import IO, Any

import gin


class _ReadableAfterBlock(io.BufferedReader):
    """A file that a `with` block does not close; TensorFlow's files reopen themselves.

    The library reads the arrays of an archive after the block that opens it.
    """

    def __exit__(self, *_: object) -> None:
        pass

    def __del__(self) -> None:
        self.close()


def _open(name: str | os.PathLike[str], mode: str = "r") -> IO[Any]:
    if mode == "rb":
        return _ReadableAfterBlock(io.FileIO(name))
    # TensorFlow's files are UTF-8 in every locale.
    return open(name, mode, encoding=None if "b" in mode else "utf-8")


def _module(name: str, **content: object) -> ModuleType:
    module = ModuleType(name, "A stand-in for the module of this name (disentanglement_challenge.tensorflow_stand_in).")
    module.__dict__.update(content)
    module.__path__ = []  # needed for `import name.part`
    return module


def _modules() -> dict[str, ModuleType]:
    make_folders = functools.partial(os.makedirs, exist_ok=True)
    v1_gfile = _module(
        "tensorflow.compat.v1.gfile",
        Open=_open, GFile=_open, ListDirectory=os.listdir, MakeDirs=make_folders, Exists=os.path.exists,
        IsDirectory=os.path.isdir, DeleteRecursively=shutil.rmtree, Glob=glob.glob,
    )  # fmt: skip
    gfile = _module(
        "tensorflow.io.gfile",
        GFile=_open, listdir=os.listdir, makedirs=make_folders, exists=os.path.exists, isdir=os.path.isdir,
        rmtree=shutil.rmtree, glob=glob.glob,
    )  # fmt: skip
    tf_io = _module("tensorflow.io", gfile=gfile)
    v1 = _module("tensorflow.compat.v1", gfile=v1_gfile, io=tf_io)
    compat = _module("tensorflow.compat", v1=v1)
    dir_util = _module("distutils.dir_util", copy_tree=functools.partial(shutil.copytree, dirs_exist_ok=True))
    modules = [
        _module("tensorflow", compat=compat, io=tf_io), compat, v1, v1_gfile, tf_io, gfile,
        _module("distutils", dir_util=dir_util), dir_util,
    ]  # fmt: skip
    return {**{module.__name__: module for module in modules}, "gin.tf": gin}


MODULES = _modules()


class _Later(ModuleType):
    """A module that is imported when one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def importing_library(scikit_learn_later: bool = False) -> Iterator[None]:
    """Make disentanglement_lib importable inside the block, with the stand-ins and without log messages.

    gin reports a deprecated keyword of the library eleven times, through the root logger. Inside the block other code
    gets the stand-ins too; afterwards, modules imported earlier under these names are restored.

    Args:
        scikit_learn_later: whether to import scikit-learn only when it is used. It is for the library's data modules,
            as Cars3D imports `sklearn.utils.extmath`, which would take a second at each start of training.
    """
    modules = dict(MODULES)
    if scikit_learn_later and "sklearn" not in sys.modules:
        modules["sklearn.utils"] = _module("sklearn.utils", extmath=_Later("sklearn.utils.extmath"))

    def drop_deprecation(record: logging.LogRecord) -> bool:
        return "is deprecated. Please use" not in record.getMessage()

    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    root = logging.getLogger()
    handlers = list(root.handlers)
    root.addFilter(drop_deprecation)
    sys.modules.update(modules)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)
        sys.modules.update(before)
        root.removeFilter(drop_deprecation)
        # The first message to a root logger without handlers adds one, which would print all messages twice.
        root.handlers[:] = handlers
