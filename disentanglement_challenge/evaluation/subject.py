"""What is scored: a representation together with the data to score it on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from disentanglement_lib.data.ground_truth.ground_truth_data import GroundTruthData

from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.sampling import GridSampler, RepresentationFunction, RowSampler, Sampler
from disentanglement_challenge.data.tables import Bins, FactorGrid, FactorTable, factor_table
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.evaluation.representation import check_num_latent, check_representation_function
from disentanglement_challenge.evaluation.table import IndexOnlyData
from disentanglement_challenge.metrics.codes import as_codes

# Two factors whose normalised mutual information is above this get a note.
_DEPENDENT = 0.05


@dataclass(frozen=True)
class Subject:
    """The representation and the data to score it on.

    Attributes:
        data: facts about the data: name, note, factor_names, factor_sizes, and, for codes, the number of rows.
        sampler: draws codes and factors; for images it encodes each draw.
        images: the data whose images are encoded once; None if there is nothing to encode, or if observations are
            random and encoded as they are drawn.
        notes: caveats for readers of the scores.
    """

    data: dict[str, Any]
    sampler: Sampler
    images: IndexedGroundTruthData | None = None
    notes: tuple[str, ...] = ()


def image_subject(ground_truth_data: GroundTruthData, representation_function: RepresentationFunction) -> Subject:
    """Make a subject from the images of a data set and a function that encodes them.

    Raises:
        DataError: the data has no factors, or one with a single value.
        RepresentationError: the function's output is invalid, or is not a function of the image.
    """
    data = describe(ground_truth_data)
    check_representation_function(ground_truth_data, representation_function)
    indexed = ground_truth_data if isinstance(ground_truth_data, IndexedGroundTruthData) else None
    sampler = GridSampler(ground_truth_data, representation_function, data["factor_names"])
    return Subject(data, sampler, indexed, _accepted(ground_truth_data))


def code_subject(codes: Any, data: Any, bins: Bins = None) -> Subject:
    """Make a subject from codes and their data set or factors.

    Args:
        codes: [N, num_latent], numbers.
        data: ground-truth data with N images in the order of the codes, or factors (see `tables.factor_table`).
        bins: the bins of continuous factors.

    Raises:
        RepresentationError, DataError, ConfigError: codes or factors are invalid; the message names the place.
    """
    codes = as_codes(codes)
    check_num_latent(codes.shape[1])
    if isinstance(data, GroundTruthData):
        if not isinstance(data, IndexedGroundTruthData):
            raise DataError(
                "the data set's observations are random; codes in a data set's order need a fixed image for each "
                "combination of factors"
            )
        described = describe(data)
        if len(codes) != len(data.images):
            raise DataError(
                f"there are {len(codes)} codes; data set {data.name!r} has {len(data.images)} images and needs as many"
            )
        sampler: Sampler = GridSampler(IndexOnlyData(data), codes.__getitem__, described["factor_names"])
        return Subject({**described, "rows": len(codes)}, sampler, notes=_accepted(data))
    table = data if isinstance(data, FactorTable) else factor_table(data, bins)
    if len(codes) != len(table.indices):
        raise DataError(f"there are {len(codes)} codes and {len(table.indices)} rows of factors; each row needs both")
    described = {
        "name": "", "note": "", "factor_names": table.names, "factor_sizes": table.sizes, "rows": len(codes),
        "is_full_grid": table.positions is not None,
    }  # fmt: skip
    notes = []
    if (codes.min(axis=0) == codes.max(axis=0)).all():
        notes.append("Every latent is constant, so these codes say nothing of the factors.")
    if table.positions is not None:
        return Subject(described, GridSampler(FactorGrid(table), codes.__getitem__, table.names), notes=tuple(notes))
    notes.append(
        f"The {len(codes)} rows are not a full grid of their factors, so rows are drawn with replacement; IRS measures "
        "association here, not the effect of an intervention."
    )
    if len(table.names) > 1:
        shared, *names = _dependence(table)
        described["largest_mutual_information"] = {"normalised": shared, "factors": names}
        if shared >= _DEPENDENT:
            notes.append(
                f"Factors {names[0]!r} and {names[1]!r} share information (normalised mutual information {shared:.2f}, "
                "the largest of all pairs), so even perfect codes cannot reach the best scores."
            )
    return Subject(described, RowSampler(codes, table.indices, table.names), notes=tuple(notes))


def describe(ground_truth_data: GroundTruthData) -> dict[str, Any]:
    """Return facts about a data set: name, note, factor_names and factor_sizes.

    Raises DataError if scores are impossible: it has no factors, or one with a single value.
    """
    name = getattr(ground_truth_data, "name", type(ground_truth_data).__name__)
    sizes = [int(size) for size in ground_truth_data.factors_num_values]
    names = list(getattr(ground_truth_data, "factor_names", [])) or [f"factor {index}" for index in range(len(sizes))]
    fault = "" if sizes else "it has no factors"
    for factor, size in zip(names, sizes, strict=True):
        if size == 1:
            fault = f"its factor {factor!r} has only one value"
    if fault:
        raise DataError(
            f"data set {name!r}: {fault}; scores need factors with at least two values (train_pytorch.py trains "
            "without scores)"
        )
    note = getattr(ground_truth_data, "note", "")
    return {"name": name, "note": note, "factor_names": names, "factor_sizes": sizes}


def _accepted(ground_truth_data: GroundTruthData) -> tuple[str, ...]:
    """Return the note on files with accepted check sums, if there are any."""
    return tuple(filter(None, [getattr(ground_truth_data, "accepted", "")]))


def _dependence(table: FactorTable) -> tuple[float, str, str]:
    """Compute the largest normalised mutual information of two factors, in [0, 1], and return it with their names."""
    from sklearn.metrics import normalized_mutual_info_score  # takes a second to import, and a grid does not need it

    pairs = [(a, b) for b in range(len(table.names)) for a in range(b)]
    shared = [float(normalized_mutual_info_score(table.indices[:, a], table.indices[:, b])) for a, b in pairs]
    largest = int(np.argmax(shared))
    a, b = pairs[largest]
    return shared[largest], table.names[a], table.names[b]
