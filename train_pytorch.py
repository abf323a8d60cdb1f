#!/usr/bin/env python
"""Train the VAE that gin files describe, and export its mean encoder as the challenge's representation function.

Several processes on several GPUs can share each batch: torchrun --nproc_per_node 4 train_pytorch.py ...
"""

import argparse

from disentanglement_challenge.aicrowd import reported_execution
from disentanglement_challenge.cli import Parser, add_common_flags, add_training_flags, apply_common_flags, run_script
from disentanglement_challenge.environment import is_leader
from disentanglement_challenge.preflight import check_training

DEFAULT_CONFIG = "mpi3d_embedded.gin"


def main(flags: argparse.Namespace) -> None:
    bindings = apply_common_flags(flags)
    files = flags.gin_config or [DEFAULT_CONFIG]
    with reported_execution(to_evaluator=is_leader()) as on_progress:
        experiment = check_training(files, bindings, flags)
        # Imported here, so that mistakes are reported before PyTorch is imported.
        from disentanglement_challenge.config import gin_configuration
        from disentanglement_challenge.training.run import train_and_export

        with gin_configuration(files, bindings):
            summary = train_and_export(
                experiment, flags.overwrite, flags.resume, on_progress, flags.resume_on, flags.discard_unfinished
            )
    if is_leader():
        print(f"{summary}\nrepresentation function: {experiment.model}")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the script's flags."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_flags(parser, DEFAULT_CONFIG)
    add_training_flags(parser)
    return parser


if __name__ == "__main__":
    parsed = make_parser().parse_args()
    run_script(lambda: main(parsed), parsed.debug)
