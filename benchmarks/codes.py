#!/usr/bin/env python
"""Time the five scores of codes: `score` against disentanglement_lib's own code on the same array.

    make bench-codes ARGS="--repeats 3"

The codes are float32 [1,036,800, 10] with MPI3D's full factor sizes, and mix the factors like a trained encoder.
Settings are official. The two sides take turns, each in a separate process, to measure imports and peak memory
separately. The ratio is of the seconds in `score`, without imports.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from disentanglement_challenge.cli import run_script

SIZES = (6, 6, 2, 3, 3, 40, 40)


def codes_and_factors(num_latent: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 codes [N, num_latent], and the factors [N, 7] that they mix, one row for each combination."""
    factors = np.stack(np.unravel_index(np.arange(np.prod(SIZES)), SIZES), axis=1)
    random_state = np.random.RandomState(0)
    mixed = np.tanh(factors / np.array(SIZES) @ random_state.normal(size=(len(SIZES), num_latent)))
    return (mixed + 0.1 * random_state.normal(size=mixed.shape)).astype(np.float32), factors


def one_side(engine: str, num_latent: int) -> None:
    codes, factors = codes_and_factors(num_latent)
    started = time.monotonic()
    from disentanglement_challenge import score

    scores = score(codes, factors, engine=engine)
    first = time.monotonic() - started  # includes imports and numba's compilation
    started = time.monotonic()
    scores = score(codes, factors, engine=engine) if engine == "fast" else scores
    seconds = time.monotonic() - started if engine == "fast" else sum(s.seconds for s in scores.by_metric.values())
    result = {
        "first": first,
        "seconds": seconds,
        "by_metric": {name: one.seconds for name, one in scores.by_metric.items()},
        "scores": scores.as_dict(),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "tensorflow": "tensorflow" in sys.modules,
        "torch": "torch" in sys.modules,
    }
    print(json.dumps(result))


def main(flags: argparse.Namespace) -> None:
    if flags.side:
        one_side(flags.side, flags.num_latent)
        return
    runs: dict[str, list[dict]] = {"fast": [], "library": []}
    for _ in range(flags.repeats):
        for side in runs:
            command = [sys.executable, __file__, "--side", side, "--num_latent", str(flags.num_latent)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            runs[side].append(json.loads(output.splitlines()[-1]))
    table = Table(title=f"codes [{np.prod(SIZES):,}, {flags.num_latent}], median seconds of {flags.repeats} run(s)")
    for column in ("", "fast", "library", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name in runs["fast"][0]["by_metric"]:
        ours, theirs = (statistics.median(run["by_metric"][name] for run in runs[side]) for side in runs)
        table.add_row(name, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}x")
    ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in zip(runs["fast"], runs["library"], strict=True)]
    totals = [statistics.median(run["seconds"] for run in runs[side]) for side in runs]
    table.add_row("all", *(f"{total:.2f}" for total in totals), f"{statistics.median(ratios):.1f}x")
    Console().print(table)
    for side in runs:
        spread = [run["seconds"] for run in runs[side]]
        peak = max(run["peak_gb"] for run in runs[side])
        first = statistics.median(run["first"] for run in runs[side])
        loaded = [name for name in ("torch", "tensorflow") if runs[side][0][name]] or ["neither torch nor TensorFlow"]
        print(
            f"{side}: {min(spread):.2f} to {max(spread):.2f} s, first call with imports {first:.1f} s, "
            f"peak {peak:.2f} GB, imports {', '.join(loaded)}"
        )
    differences = (
        f"{name} {value - runs['library'][0]['scores'][name]:+.1e}" for name, value in runs["fast"][0]["scores"].items()
    )
    print(f"ratios {min(ratios):.1f} to {max(ratios):.1f}; fast minus library: {', '.join(differences)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_latent", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=["fast", "library"], help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), debug=True)
