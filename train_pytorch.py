#!/usr/bin/env python
"""Trains a VAE as gin files say and exports its mean encoder as the challenge's representation function.

Several processes, on several GPUs, share each batch: torchrun --nproc_per_node 4 train_pytorch.py ...
"""

import argparse

from disentanglement_challenge.aicrowd import reported_execution
from disentanglement_challenge.cli import add_common_flags, add_resume_flag, apply_common_flags, run_script
from disentanglement_challenge.config import EVALUATION_CONFIGURABLES, gin_configuration
from disentanglement_challenge.environment import is_leader
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.training.run import train_and_export

DEFAULT_CONFIG = "mpi3d_embedded.gin"


def main(flags: argparse.Namespace) -> None:
    bindings = apply_common_flags(flags)
    files = flags.gin_config or [DEFAULT_CONFIG]
    with (
        reported_execution(to_evaluator=is_leader()) as on_progress,
        gin_configuration(files, bindings, skip_unknown=EVALUATION_CONFIGURABLES),
    ):
        experiment = Experiment.from_environment()
        summary = train_and_export(experiment, flags.overwrite, flags.resume, on_progress)
    if is_leader():
        print(f"{summary}\nrepresentation function: {experiment.model}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser, DEFAULT_CONFIG)
    add_resume_flag(parser)
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
