#!/usr/bin/env python
"""Scores one experiment's model with the exact engine and with disentanglement_lib's own code, and prints the
differences.

    make check-scores ARGS="--experiment NAME"

The experiment is left as it is. At hundreds of latents the library takes hours. Exit code 1 where a score differs by
more than the exact engine promises.
"""

import argparse
import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

import disentanglement_challenge.training.run  # noqa: F401 (its bindings may stand in the same gin files)
from disentanglement_challenge.cli import add_common_flags, apply_common_flags, run_script
from disentanglement_challenge.evaluation.harness import Score, evaluate
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import import_model
from disentanglement_challenge.metrics import METRICS

TOLERANCES = {"factor_vae_metric": 0.0, "sap_score": 1e-3, "dci": 2e-3, "irs": 1e-6, "mig": 0.0}


def main(flags: argparse.Namespace) -> None:
    bindings = apply_common_flags(flags)
    experiment = Experiment.from_environment()
    import_model(experiment.model_to_score)  # says what is wrong before anything is copied
    scores: dict[str, dict[str, Score]] = {}
    with TemporaryDirectory() as folder:
        for engine in ("exact", "library"):
            copy = Experiment(Path(folder) / engine)
            shutil.copytree(experiment.path / "representation", copy.path / "representation")
            print(f"{engine} engine", flush=True)
            engine_bindings = [*bindings, f"evaluation.engine = {engine!r}"]
            scores[engine] = evaluate(copy, flags.gin_config or [], engine_bindings).by_metric
    table, within = compare(scores["exact"], scores["library"])
    Console(width=100).print(table)
    if not within:
        sys.exit(1)


def compare(exact_scores: Mapping[str, Score], library_scores: Mapping[str, Score]) -> tuple[Table, bool]:
    """A row for each metric, and whether all differences are within what the exact engine promises."""
    table = Table()
    for column in ("metric", "exact", "library", "difference", "allowed", "exact s", "library s"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    within = True
    for metric in METRICS:
        exact, library = exact_scores[metric], library_scores[metric]
        difference = exact.value - library.value
        within &= abs(difference) <= TOLERANCES[metric] or (math.isnan(exact.value) and math.isnan(library.value))
        table.add_row(
            metric,
            f"{exact.value:.6f}",
            f"{library.value:.6f}",
            f"{difference:+.1e}",
            f"{TOLERANCES[metric]:.0e}",
            f"{exact.seconds:.1f}",
            f"{library.seconds:.1f}",
        )
    return table, within


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser, "none")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
