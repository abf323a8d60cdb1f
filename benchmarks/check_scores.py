#!/usr/bin/env python
"""Score one experiment's model with the fast engine and with disentanglement_lib's own code, and print the differences.

    make check-scores ARGS="--experiment NAME"

The experiment does not change. With hundreds of latents the library takes hours. The exit code is 1 if a score differs
by more than the fast engine's tolerance, which is for the official settings.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

import disentanglement_challenge.training.run  # noqa: F401 (its bindings may be in the same gin files)
from disentanglement_challenge.cli import add_common_flags, apply_common_flags, run_script
from disentanglement_challenge.evaluation.harness import evaluate
from disentanglement_challenge.evaluation.scores import Score, Scores, unofficial_note, written
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import import_model
from disentanglement_challenge.metrics import METRICS


def main(flags: argparse.Namespace) -> None:
    bindings = apply_common_flags(flags)
    experiment = Experiment.from_environment()
    import_model(experiment.model_to_score)  # reports mistakes before anything is copied
    scores: dict[str, Scores] = {}
    with TemporaryDirectory() as folder:
        for engine in ("fast", "library"):
            copy = Experiment(Path(folder) / engine)
            shutil.copytree(experiment.path / "representation", copy.path / "representation")
            print(f"{engine} engine", flush=True)
            engine_bindings = [*bindings, f"evaluation.engine = {engine!r}"]
            scores[engine] = evaluate(copy, flags.gin_config or [], engine_bindings)
    table, failed = compare(scores["fast"].by_metric, scores["library"].by_metric)
    Console(width=100).print(table)
    if scores["fast"].unofficial:
        print(f"{unofficial_note(written(scores['fast'].unofficial))} The tolerances are for the official settings.")
    if failed:
        print(f"beyond the tolerance: {', '.join(failed)}")
        sys.exit(1)


def compare(fast_scores: Mapping[str, Score], library_scores: Mapping[str, Score]) -> tuple[Table, list[str]]:
    """Return a table with a row for each of the five metrics, and the metrics that exceed their tolerance."""
    table = Table()
    for column in ("metric", "fast", "library", "difference", "allowed", "fast s", "library s"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    failed = []
    for name, metric in METRICS.items():
        fast, library = fast_scores[name], library_scores[name]
        tolerance = metric.tolerance or 0.0
        if fast.value is None or library.value is None:
            within, difference = fast.value == library.value, "-"
        else:
            within = abs(fast.value - library.value) <= tolerance
            difference = f"{fast.value - library.value:+.1e}"
        if not within:
            failed.append(name)
        values = ("-" if score.value is None else f"{score.value:.6f}" for score in (fast, library))
        seconds = (f"{score.seconds:.1f}" for score in (fast, library))
        table.add_row(name, *values, difference, f"{tolerance:.0e}", *seconds)
    return table, failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser, "none")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
