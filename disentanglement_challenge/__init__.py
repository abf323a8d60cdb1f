"""Disentangled representations: train them as the winning report of the NeurIPS 2019 challenge did, and score any.

    from disentanglement_challenge import load_data, score
    scores = score(representation, "mpi3d_embedded")   # a model file, a torch module, a function, or codes
    scores = score(codes, factors)                     # arrays [N, num_latent] and [N, num_factors]

Importing this loads neither PyTorch nor TensorFlow.
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
    # On an evaluator the user may have no home, and then "~" stands for a folder of this name: numba, Keras and
    # matplotlib would leave their caches in ./~ or complain. They get a home for as long as this process lives.
    os.environ["HOME"] = tempfile.mkdtemp(prefix="home_")
    atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)

# OpenMP's threads spin at each barrier while they wait for each other. Where a core has other work, that is most of the
# time: two threads beside one busy process trained at a third of their speed alone, and with few spins at more than
# half. On an idle machine few spins cost about a tenth (benchmarks/busy_machine.py). PyTorch's import reads it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# numba's threads are OpenMP's too: when the first of its parallel functions is called, it gives PyTorch the number of
# its own threads. Sums round otherwise on another number of threads, so a run that rendered its data, or that follows
# scores in one process, would not be that of the same command where neither was needed.
_threads = os.environ.get("OMP_NUM_THREADS", "")
if _threads.isdecimal() and int(_threads) > 0:
    os.environ.setdefault("NUMBA_NUM_THREADS", _threads)


def __getattr__(name: str) -> Any:
    # What these names need takes a second to import, which a program that only trains does without.
    if name == "Scores":
        from disentanglement_challenge.evaluation.scores import Scores

        return Scores
    if name == "load_data":
        from disentanglement_challenge.data.named import load_data

        return load_data
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
