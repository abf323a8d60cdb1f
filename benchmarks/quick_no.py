#!/usr/bin/env python
"""Time how long the scripts take to show their help and to refuse mistakes, compared with the import of PyTorch.

    make bench-quick

The commands run in turns in every round. The table shows medians and spread over the rounds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from disentanglement_challenge.cli import run_script
from disentanglement_challenge.files import write_json

ROOT = Path(__file__).resolve().parent.parent
IMPORT = 'python -c "import torch"'
MISTAKES = {
    "--help": ["--help"],
    "a misspelt name": ["--gin_bindings", "encodr.num_latent = 3"],
    "a macro that nothing uses": ["--gin_bindings", "num_latent = 3"],
    "no such gin file": ["--gin_config", "nothing.gin"],
    "no such data set": ["--dataset", "mpi3d_embeded"],
    "a data set that is not here": ["--dataset", "mpi3d_real"],
}


def main(flags: argparse.Namespace) -> None:
    commands = {IMPORT: ([sys.executable, "-c", "import torch"], 0)}
    for script in ("run.py", "train_pytorch.py"):
        for name, arguments in MISTAKES.items():
            expected = 0 if name == "--help" else 1
            commands[f"{script}, {name}"] = ([sys.executable, str(ROOT / script), *arguments], expected)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DISENTANGLEMENT_LIB_DATA": folder, "AICROWD_OUTPUT_PATH": folder}
        for _ in range(flags.rounds):
            for name, (command, expected) in commands.items():
                started = time.perf_counter()
                result = subprocess.run(command, env=environment, capture_output=True, text=True)
                seconds[name].append(time.perf_counter() - started)
                assert result.returncode == expected, result.stderr
    table = Table(title="seconds to an answer")
    for column in ("", "median", "spread", "of importing PyTorch"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, measured in seconds.items():
        ratio = statistics.median(measured) / statistics.median(seconds[IMPORT])
        spread = f"{min(measured):.2f}-{max(measured):.2f}"
        table.add_row(name, f"{statistics.median(measured):.2f}", spread, f"{ratio:.2f}")
    Console().print(table)
    if flags.output is not None:
        write_json(flags.output, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the numbers to this JSON file")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
