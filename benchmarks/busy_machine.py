#!/usr/bin/env python
"""Time training steps alone and beside busy processes, as ratios in one run.

    make bench-busy

The step is the default FactorVAE's, with as many threads as cores. It runs in processes with the scripts' settings and
in processes with OpenMP's default settings. Each is timed alone and beside a process that computes without a pause, in
turns, so that a slowdown of the machine affects all of them.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from disentanglement_challenge.cli import run_script
from disentanglement_challenge.files import write_json

ROOT = Path(__file__).resolve().parent.parent
# OpenMP's default number of spins, which libgomp uses if there are not more threads than cores.
SETTINGS = {"here": {}, "OpenMP as it comes": {"GOMP_SPINCOUNT": "300000"}}

_STEPS = """
import sys, time
import disentanglement_challenge
import torch
from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.objectives import FactorVAE
from disentanglement_challenge.training.acceleration import make_step
keep_freed_memory()
with gin_configuration(["mpi3d_embedded.gin"]):
    step, advance = make_step(FactorVAE(6.0), (3, 64, 64), 0, torch.device("cpu"))
images = torch.rand(64, 3, 64, 64).contiguous(memory_format=torch.channels_last)
for done in range(3):
    advance(images, done)
print("ready", flush=True)
for line in sys.stdin:
    steps = int(line)
    started = time.perf_counter()
    for done in range(steps):
        advance(images, done)
    print(steps / (time.perf_counter() - started), flush=True)
"""


def compute() -> None:
    """Keep a core busy."""
    value = 1
    while True:
        value = (value * 1103515245 + 12345) % 2**31


class Trainer:
    """A process that makes steps on request."""

    def __init__(self, settings: dict[str, str]) -> None:
        names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
        clean = {name: value for name, value in os.environ.items() if name not in names}
        environment = {**clean, **settings, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _STEPS], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def steps_per_second(self, steps: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def main(flags: argparse.Namespace) -> None:
    trainers = {name: Trainer(settings) for name, settings in SETTINGS.items()}
    rates: dict[str, dict[str, list[float]]] = {name: {"alone": [], "busy": []} for name in SETTINGS}
    try:
        for _ in range(flags.rounds):
            for name, trainer in trainers.items():
                rates[name]["alone"].append(trainer.steps_per_second(flags.steps))
                others = [multiprocessing.Process(target=compute, daemon=True) for _ in range(flags.busy)]
                for other in others:
                    other.start()
                rates[name]["busy"].append(trainer.steps_per_second(flags.steps))
                for other in others:
                    other.kill()
                    other.join()
    finally:
        for trainer in trainers.values():
            trainer.close()
    table = Table(title=f"steps a second, {len(os.sched_getaffinity(0))} cores, beside {flags.busy} busy processes")
    for column in ("", "alone", "beside", "ratio", "spread"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, measured in rates.items():
        ratios = [busy / alone for alone, busy in zip(measured["alone"], measured["busy"], strict=True)]
        table.add_row(
            name,
            f"{statistics.median(measured['alone']):.2f}",
            f"{statistics.median(measured['busy']):.2f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
        )
    Console().print(table)
    if flags.output is not None:
        write_json(flags.output, rates)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="steps per measurement (default: %(default)s)")
    parser.add_argument("--busy", type=int, default=1, metavar="N", help="busy processes (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the numbers to this JSON file")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
