"""Disentangled representations: train them like the winning entry of the NeurIPS 2019 challenge, and score any.

    from disentanglement_challenge import load_data, score
    scores = score(representation, "mpi3d_embedded")   # a model file, a torch module, a function, or codes
    scores = score(codes, factors)                     # arrays [N, num_latent] and [N, num_factors]

Importing this package loads neither PyTorch nor TensorFlow.
"""

import atexit
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from disentanglement_challenge.score import score

if TYPE_CHECKING:
    from disentanglement_challenge.data.named import load_data
    from disentanglement_challenge.evaluation.scores import Scores

__all__ = ["Scores", "load_data", "score"]

_home = os.path.expanduser("~")
if not os.path.isabs(_home) or not os.path.isdir(_home):
    # On an evaluator the user may have no home. Then "~" is a folder of this name, and numba, Keras and matplotlib
    # would write their caches to ./~ or complain. They get a temporary home for the life of this process.
    os.environ["HOME"] = tempfile.mkdtemp(prefix="home_")
    atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)

# OpenMP's threads spin while they wait for each other at a barrier. On busy cores this costs most of the time: two
# threads beside one busy process trained at a third of their speed, and with few spins at more than half. On idle cores
# few spins cost about a tenth (benchmarks/busy_machine.py). OpenMP reads the variable when PyTorch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# numba's threads are OpenMP's too: when the first of its parallel functions is called, it gives PyTorch the number of
# its own threads. Sums round otherwise on another number of threads, so a run that rendered its data, or that follows
# scores in one process, would not be that of the same command where neither was needed.
_threads = os.environ.get("OMP_NUM_THREADS", "")
if _threads.isdecimal() and int(_threads) > 0:
    os.environ.setdefault("NUMBA_NUM_THREADS", _threads)


def __getattr__(name: str) -> Any:
    # The modules behind these names take a second to import, and programs that only train do not need them.
    if name == "Scores":
        from disentanglement_challenge.evaluation.scores import Scores

        return Scores
    if name == "load_data":
        from disentanglement_challenge.data.named import load_data

        return load_data
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
