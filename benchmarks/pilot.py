#!/usr/bin/env python
"""What Table 3's narrowest and widest rows learn in few steps under several settings, to choose one for all tables.

    PYTHONPATH=. python benchmarks/pilot.py

Trains each row under each setting, as many at a time as there are cores, one thread each, and prints what a choice may
go by: how well the images are reconstructed and how many latents are in use. Nothing is scored, as a setting that is
chosen by its scores has seen the labels. What is trained is kept, and a program that was stopped goes on.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.cli import run_script
from disentanglement_challenge.environment import scratch
from disentanglement_challenge.errors import TrainingError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import read_json, write_json
from disentanglement_challenge.provenance import available_cores
from disentanglement_challenge.sweep.udr import ACTIVE_ABOVE
from disentanglement_challenge.training.pictures import read_pictures

ROOT = Path(__file__).resolve().parent.parent

SETTINGS = {"gamma 30": ["factor_vae.gamma = 30.0"], "gamma 6": ["factor_vae.gamma = 6.0"]}  # besides scaled.gin's
ROWS = ("256", "3072")

# Heading, name and format of what is printed; D is the discriminator.
_COLUMNS = (
    ("latents", "row", ""),
    ("", "setting", ""),
    ("recon.", "reconstruction_loss", ".1f"),
    ("KL", "kl_loss", ".2f"),
    ("active", "active_latents", "d"),
    ("TC", "total_correlation", ".3f"),
    ("D loss", "discriminator_loss", ".3f"),
    ("steps/s", "steps_per_second", ".2f"),
)


def train(row: str, setting: str, steps: int, output: Path) -> dict[str, Any]:
    """Train one row under one setting in a process of its own, and return its losses and number of active latents.

    Raises:
        TrainingError: the process failed.
    """
    experiment = Experiment(output / f"{row} {setting}".replace(" ", "_"))
    bindings = [*SETTINGS[setting], f"model.training_steps = {steps}"]
    command = [sys.executable, str(ROOT / "train_pytorch.py"), "--resume", "--experiment", experiment.path.name]
    command += ["--gin_config", f"table3/{row}.gin", "--gin_config", "scaled.gin"]
    command += [argument for binding in bindings for argument in ("--gin_bindings", binding)]
    environment = {**os.environ, "AICROWD_OUTPUT_PATH": str(output), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise TrainingError(f"{experiment.path.name} failed: {ended.stderr.strip().splitlines()[-1]}")
    pictures = read_pictures(experiment.pictures)
    return {
        "row": row,
        "setting": setting,
        "active_latents": int((pictures.kl > ACTIVE_ABOVE).sum()),
        **read_json(experiment.losses),
    }


def main(flags: argparse.Namespace) -> None:
    check_count("--steps", flags.steps)
    with ThreadPoolExecutor(available_cores()) as pool:
        output = flags.output.resolve()
        trained = [pool.submit(train, row, setting, flags.steps, output) for setting in SETTINGS for row in ROWS]
        found = [future.result() for future in trained]
    table = Table(title=f"after {flags.steps} steps, both rates 0.001")
    for heading, _, _ in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        table.add_row(*(f"{one[name]:{form}}" for _, name, form in _COLUMNS))
    Console().print(table)
    write_json(output / "pilot.json", found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000, help="of training (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", default=scratch() / "pilot", help="where to train (default: %(default)s)"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
