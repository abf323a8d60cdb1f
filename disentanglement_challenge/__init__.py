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

# OpenMP's threads spin at each barrier while they wait for each other. Where a core has other work, that is most of the
# time: two threads beside one busy process trained at a third of their speed, and with few spins at more than half, at
# no cost alone (benchmarks/busy_machine.py). The library reads it when PyTorch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
