"""FactorVAE and its kin for the NeurIPS 2019 Disentanglement Challenge: data, training, export, scores, tables."""

import atexit
import os
import shutil
import tempfile

_home = os.path.expanduser("~")
if not os.path.isabs(_home) or not os.path.isdir(_home):
    # On an evaluator the user may have no home, and then "~" stands for a folder of this name: numba, Keras and
    # matplotlib would leave their caches in ./~ or complain. They get a home for as long as this process lives.
    os.environ["HOME"] = tempfile.mkdtemp(prefix="home_")
    atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
