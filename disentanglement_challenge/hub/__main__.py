"""Push a model to Hugging Face's hub, or load one from there.

python -m disentanglement_challenge.hub push EXPERIMENT owner/name
python -m disentanglement_challenge.hub load owner/name --experiment NAME

`push` uploads the model, its card and its gin configuration. `load` downloads them into an experiment, which
run.py --evaluate_only --experiment NAME scores; it never unpickles a file. To push, set HF_TOKEN to your token, or log
in once with: hf auth login.
"""

import argparse
import os
from collections.abc import Sequence

from disentanglement_challenge.cli import Parser, run_script
from disentanglement_challenge.experiment import Experiment


def main(flags: argparse.Namespace) -> None:
    from disentanglement_challenge.hub.repository import load, push

    if flags.experiment is not None:
        os.environ["AICROWD_EVALUATION_NAME"] = flags.experiment
    experiment = Experiment.from_environment()
    if flags.command == "push":
        print(f"pushed {experiment.name} to {push(experiment, flags.repository, flags.private)}")
    else:
        print(f"representation function: {load(flags.repository, experiment, flags.overwrite)}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags."""
    parser = Parser(
        prog="python -m disentanglement_challenge.hub",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("push", help="push an experiment's model")
    command.add_argument("experiment", metavar="EXPERIMENT", help="name of the experiment")
    command.add_argument("repository", metavar="OWNER/NAME", help="created if missing; append @BRANCH for a branch")
    command.add_argument("--private", action="store_true", help="if the repository is created, make it private")
    command = commands.add_parser("load", help="load a model into an experiment")
    command.add_argument("repository", metavar="OWNER/NAME", help="append @REVISION for a revision")
    command.add_argument("--experiment", metavar="NAME", help="experiment name (default: $AICROWD_EVALUATION_NAME)")
    command.add_argument("--overwrite", action="store_true", help="replace the experiment's contents")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    parsed = parse()
    run_script(lambda: main(parsed), parsed.debug)
