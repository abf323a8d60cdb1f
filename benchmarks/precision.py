#!/usr/bin/env python
"""Print how far scores of the default run in bfloat16 are from those in float32, seed by seed.

    python -m disentanglement_challenge.sweep gin/precision --seeds 5
    PYTHONPATH=. python benchmarks/precision.py scratch/shared/precision/results.json

Both runs of a seed begin with the same weights and draw the same batches and noise, so they are compared in pairs.
From five seeds on, the mean difference has a 95% t interval. One that contains 0 does not show equality.
"""

import argparse
from pathlib import Path

import numpy as np

from disentanglement_challenge.cli import console_of_tables, run_script
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.pages.results import LABELS, Results, read_results
from disentanglement_challenge.pages.statistics import summarise
from disentanglement_challenge.pages.text_table import Line, TextTable, as_rich


def differences(results: Results) -> TextTable:
    """Return a table of the scores in bfloat16 less those in float32, with a line for each seed that has both.

    Raises:
        DataError: a row is missing, or no seed has both.
    """
    missing = {"float32", "bfloat16"} - set(results.rows)
    if missing:
        raise DataError(f"the sweep has no row {' and no row '.join(sorted(missing))}; run that of gin/precision")
    by_seed = results.scores[results.rows.index("bfloat16")] - results.scores[results.rows.index("float32")]
    both = {seed: row for seed, row in zip(results.seeds, by_seed, strict=True) if np.isfinite(row).all()}
    if not both:
        raise DataError("no seed has scores in both precisions; run the sweep of gin/precision to its end")
    lines = [Line([f"seed {seed}", *(f"{difference:+.4f}" for difference in row)]) for seed, row in both.items()]
    named = [summarise(column).named() for column in np.transpose(list(both.values()))]
    for name in [name for name in named[0] if name != "values"]:
        lines.append(Line([name, *(" to ".join(f"{end:+.4f}" for end in parts[name]) for parts in named)]))
    return TextTable([f"bfloat16 less float32: {results.dataset}"], ["", *LABELS.values()], lines)


def main(flags: argparse.Namespace) -> None:
    console_of_tables().print(as_rich(differences(read_results(flags.results))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="FILE", help="the results.json of the sweep of gin/precision")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
