"""Rank the seeds of each configuration without labels, by UDR, to choose which one to submit.

    python -m disentanglement_challenge.sweep select FOLDER

FOLDER is a sweep's folder, or a folder of experiments. If these have scores, the last lines show how well UDR's order
agrees with that of each score.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from rich.text import Text
from scipy.stats import spearmanr

from disentanglement_challenge.cli import Parser, console_of_tables
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData, NamedGroundTruthData
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.data.sampling import GridSampler
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.evaluation.table import RepresentationTable, sampled_indices
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import import_model
from disentanglement_challenge.export.representor import RepresentationFunction, encoding_batch, make_representor
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.comparison_page import Group, Run, group, read_runs
from disentanglement_challenge.pages.record import find_experiment, is_experiment
from disentanglement_challenge.pages.results import LABELS
from disentanglement_challenge.pages.text_table import Line, TextTable, as_rich
from disentanglement_challenge.sweep.udr import ACTIVE_ABOVE, FEWEST_MODELS, Udr, compute_udr
from disentanglement_challenge.training.pictures import read_pictures
from disentanglement_challenge.wording import counted

# The number that the challenge's metrics draw. With fewer points, chance correlations lower the UDR of wide
# representations.
NUM_POINTS = 10_000
# With fewer seeds, unrelated orders agree too often.
AGREEMENT_FROM = 5
_BATCH = 64


def main(flags: argparse.Namespace) -> None:
    console = console_of_tables()
    groups = group(runs_below(find_experiment(flags.folder)))
    enough = [one for one in groups if len(one.runs) >= FEWEST_MODELS]
    for one in groups:
        if one not in enough:
            needed = f"UDR needs {FEWEST_MODELS}, as two models agree equally with each other"
            console.print(Text(f"{one.label} has {counted(len(one.runs), 'seed')}; {needed}"))
    if not enough:
        raise DataError(f"{flags.folder} has no configuration with {FEWEST_MODELS} seeds, the fewest for UDR")
    kl = {run.name: kl_of(run) for one in enough for run in one.runs}  # before minutes of encoding
    for one in enough:
        udr = compute_udr(codes_of(one.runs, kl), [kl[run.name] for run in one.runs])
        console.print(as_rich(udr_table(one, udr)))
        best = udr.order[0]
        advice = f"to submit: {_model(one.runs[best])}" if udr.num_active[best] else "every seed has collapsed"
        console.print(Text(advice), soft_wrap=True)


def runs_below(folder: Path) -> list[Run]:
    """Read the runs of a sweep, or the experiments in a folder.

    Raises:
        DataError: the folder contains neither, or is itself an experiment.
    """
    runs = read_runs([folder])
    if runs is None:
        inside = sorted(path for path in folder.iterdir() if is_experiment(path)) if folder.is_dir() else []
        if len(inside) < 2 or is_experiment(folder):
            raise DataError(
                f"{folder} contains neither finished runs of a sweep nor two experiments; name a folder that does"
            )
        runs = read_runs(inside) or []
    return runs


def kl_of(run: Run) -> NDArray[np.float32]:
    """Return the mean KL divergence of each latent that the training of a run saved, float32 [num_latent].

    Raises:
        DataError: the run has no KL divergences, or no model.
    """
    pictures = Experiment(run.folder).pictures if run.folder is not None else None
    if pictures is None or not pictures.exists():
        where = run.source if run.folder is None else run.folder
        raise DataError(
            f"{run.name} has no KL divergences of its latents, which UDR needs: train/pictures.npz is missing below "
            f"{where}; train it again"
        )
    if not _model(run).exists():
        raise DataError(f"{run.name} has no model: {_model(run)} is missing; train it again")
    return read_pictures(pictures).kl


def codes_of(runs: Sequence[Run], kl: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Encode the same images with the model of each run; return float [num_points, num_latent] for each.

    Args:
        runs: the runs of one configuration.
        kl: the KL divergences of each run's latents, by the run's name.

    Raises:
        DataError: the data set is missing, or the numbers of latents of a model and its KL divergences differ.
        RepresentationError: a model does not compute a representation.
    """
    first = runs[0]
    options = [f"{name} = {value}" for name, value in first.bindings.items() if name.startswith("folder.")]
    with gin_configuration([], [f"dataset.name = {first.dataset!r}", *options]):
        ground_truth_data = get_named_ground_truth_data()
    codes = []
    for run in runs:
        codes.append(_encode(ground_truth_data, make_representor(import_model(_model(run)))))
        if codes[-1].shape[1] != len(kl[run.name]):
            raise DataError(
                f"{_model(run)} has {codes[-1].shape[1]} latents, but training saved KL divergences of "
                f"{len(kl[run.name])}; put the trained model back, or train it again"
            )
    return codes


def _encode(ground_truth_data: NamedGroundTruthData, representation_function: RepresentationFunction) -> NDArray[Any]:
    def draw(sampler: GridSampler) -> NDArray[Any]:
        return sampler.points(NUM_POINTS, _BATCH, RandomState(0)).codes

    if not isinstance(ground_truth_data, IndexedGroundTruthData):
        return draw(GridSampler(ground_truth_data, representation_function))
    indices = sampled_indices(ground_truth_data, draw)
    batch_size = encoding_batch(representation_function)
    with RepresentationTable(ground_truth_data, representation_function, indices, batch_size) as table:
        return draw(GridSampler(table.index_data, table.lookup))


def udr_table(one: Group, udr: Udr) -> TextTable:
    """Return a table of a configuration's seeds in UDR's order, and its agreement with the order of each score."""
    has_scores = bool(np.isfinite(one.scores).any())
    lines = []
    for place, index in enumerate(udr.order):
        numbers = [f"{udr.lasso[index]:.4f}", f"{udr.spearman[index]:.4f}", str(udr.num_active[index])]
        scores = [f"{score:.4f}" if np.isfinite(score) else "-" for score in one.scores[index]] if has_scores else []
        lines.append(Line([one.runs[index].name, *numbers, *scores], is_best=place == 0))
    notes = [
        "UDR: how far the latents of the other seeds agree, by a lasso, which determines the order, and by Spearman's "
        "correlation",
        f"Active: latents whose KL divergence exceeds {ACTIVE_ABOVE:g} nats; a model without any comes last",
    ]
    if has_scores and len(one.runs) < AGREEMENT_FROM:
        notes.append(f"How well UDR's order agrees with the scores is shown from {AGREEMENT_FROM} seeds")
    elif has_scores:
        for name, values in (("lasso", udr.lasso), ("Spearman", udr.spearman)):
            agreements = [agreement(values, scores) for scores in one.scores.T]
            texts = ["-" if value is None else f"{value:+.2f}" for value in agreements]
            lines.append(Line([f"agreement of UDR ({name})", "", "", "", *texts]))
        notes.append(f"Agreement: Spearman's correlation of UDR and score over {counted(len(one.runs), 'seed')}")
    columns = ["", "UDR (lasso)", "UDR (Spearman)", "active", *(LABELS[metric] for metric in METRICS if has_scores)]
    return TextTable(
        [f"{one.label}: {counted(len(one.runs), 'seed')}, {NUM_POINTS:,} images of {one.runs[0].dataset}"],
        columns,
        lines,
        notes,
    )


def agreement(udr: NDArray[np.float64], scores: NDArray[np.float64]) -> float | None:
    """Return Spearman's correlation over the seeds that have the score; None for fewer than five or constant values."""
    known = np.isfinite(scores)
    if known.sum() < AGREEMENT_FROM or not np.ptp(scores[known]) or not np.ptp(udr[known]):
        return None
    return float(spearmanr(udr[known], scores[known]).statistic)


def _model(run: Run) -> Path:
    assert run.folder is not None
    return Experiment(run.folder).model_to_score


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog="python -m disentanglement_challenge.sweep select",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder or name of a sweep, or of a folder of experiments")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(arguments)
