"""Stand-ins for what disentanglement_lib 1.5 imports of TensorFlow, gin.tf and distutils, while it is imported.

Its metric, data and results modules use of TensorFlow the file access (`gfile`) alone, and import `gin.tf` for gin
itself; of distutils, which Python 3.12 dropped, they use `copy_tree`. TensorFlow takes three seconds of a start and
1.3 GB of an environment, and has no wheels for every Python, so the modules of this page take its place.
`library.use_tensorflow` gives the library the real file access.

Nothing of it stays in `sys.modules`: who imports tensorflow, gin.tf or distutils afterwards gets the real one, or an
honest ImportError.
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
    """A file that a `with` block leaves open, as TensorFlow's opens itself again.

    The library reads the arrays of an archive after the block in which it opened it.
    """

    def __exit__(self, *_: object) -> None:
        pass

    def __del__(self) -> None:
        self.close()


def _open(name: str | os.PathLike[str], mode: str = "r") -> IO[Any]:
    if mode == "rb":
        return _ReadableAfterBlock(io.FileIO(name))
    # TensorFlow's files are UTF-8 whatever the locale is.
    return open(name, mode, encoding=None if "b" in mode else "utf-8")


def _module(name: str, **content: object) -> ModuleType:
    module = ModuleType(name, "Stands in for the module of this name (disentanglement_challenge.tensorflow_stand_in).")
    module.__dict__.update(content)
    module.__path__ = []  # so that `import name.part` looks for the part
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
    """A module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def importing_library(scikit_learn_later: bool = False) -> Iterator[None]:
    """Lets disentanglement_lib be imported inside the block, with the stand-ins and without a word.

    gin reports a deprecated keyword of the library eleven times, through the root logger. In the block other code
    gets the stand-ins too; what was imported under their names before is back after it.

    Args:
        scikit_learn_later: for its data modules alone, of which Cars3D imports `sklearn.utils.extmath`; it is imported
            when it is used. It takes a second, which training would wait for at each start.
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
        # The first message to a root logger without handlers gives it one, which would print everybody's messages
        # twice.
        root.handlers[:] = handlers
