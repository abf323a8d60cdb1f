"""Disentangled representations: train them as the winning report of the NeurIPS 2019 challenge did, and score any.

    from disentanglement_challenge import load_data, score
    scores = score(representation, "mpi3d_embedded")   # a model file, a torch module, a function, or codes
    scores = score(codes, factors)                     # arrays [N, num_latent] and [N, num_factors]

Importing this loads neither PyTorch nor TensorFlow.
"""

from typing import TYPE_CHECKING, Any

from disentanglement_challenge.score import score

if TYPE_CHECKING:
    from disentanglement_challenge.data.named import load_data
    from disentanglement_challenge.evaluation.scores import Scores

__all__ = ["Scores", "load_data", "score"]


def __getattr__(name: str) -> Any:
    # What these names need takes a second to import, which a program that only trains does without.
    if name == "Scores":
        from disentanglement_challenge.evaluation.scores import Scores

        return Scores
    if name == "load_data":
        from disentanglement_challenge.data.named import load_data

        return load_data
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
