"""Score any representation, with `score` or in the shell with `python -m disentanglement_challenge.score`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from disentanglement_challenge.evaluation.scores import Scores
    from disentanglement_challenge.metrics import Metric


def score(
    representation: Any,
    data: Any,
    metrics: "str | Metric | Iterable[str | Metric] | None" = None,
    seed: int = 0,
    engine: str = "fast",
    settings: Mapping[str, Any] | None = None,
    bins: int | Sequence[int | None] | None = None,
) -> "Scores":
    """Score a representation as the NeurIPS 2019 Disentanglement Challenge does.

    It reads no gin configuration and leaves no file. On a data set, or on codes and factors that are a full grid with
    one row for each combination, the scores are those of disentanglement_lib, with the same draws. The fast engine's
    maximum difference from them is `metrics.RECORDS[name].tolerance`. Other rows are drawn with replacement.

    Args:
        representation: a function of images, float32 (N, height, width, channels) in [0, 1], that returns codes
            (N, num_latent) in any form that numpy.asarray accepts; a torch.nn.Module of images (N, channels, height,
            width), which runs in evaluation mode on its device; the path of a .pt, .pt2 or .onnx file; the address of a
            model on Hugging Face's hub, "hf://owner/name", optionally with "@revision" or "/file"; or an array of
            codes.
        data: a data set's name, ground-truth data, or, for codes, factors (N, num_factors): an array or named columns.
        metrics: names, such as "mig" or ["mig", "sap"], or records; by default the challenge's five.
        seed: the seed of the random state that each metric draws from. The challenge's is 0.
        engine: "fast", or "library" for disentanglement_lib's own code.
        settings: values by gin name, such as {"dci.num_train": 2000}; by default the official ones.
        bins: the number of equal bins for continuous factors; or a sequence with a number or None for each factor.

    Returns:
        The scores, by metric, with the matrices behind them.

    Raises:
        RepresentationError, DataError, ConfigError, HubError: an argument is invalid; the message names it.

    Example:
        >>> scores = score(codes, factors)
        >>> scores["mig"], scores["sap"], scores.matrices["dci"].shape
        >>> score("pytorch_model.pt", "mpi3d_embedded", metrics=["factor_vae", "mig"]).as_dict()
    """
    from disentanglement_challenge.evaluation.score import score as compute  # takes a second to import

    return compute(representation, data, metrics, seed, engine, settings, bins)
