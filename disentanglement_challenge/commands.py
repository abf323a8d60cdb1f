"""The command `disentanglement-challenge`, which runs the scripts and the `python -m` programs from any folder.

disentanglement-challenge run --gin_config mpi3d_embedded.gin
disentanglement-challenge score codes.npy --factors factors.csv
disentanglement-challenge COMMAND --help
"""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from disentanglement_challenge.environment import IS_TREE, ROOT
from disentanglement_challenge.errors import did_you_mean

# Each command runs like `python SCRIPT` or `python -m MODULE`.
SCRIPTS = {
    "run": ("run.py", "train, export and score an experiment"),
    "train": ("train_pytorch.py", "train and export, as on the challenge's evaluator"),
}
MODULES = {
    "score": ("disentanglement_challenge.score", "score codes or a model against factors"),
    "sweep": ("disentanglement_challenge.sweep", "run a table's rows with several seeds"),
    "data": ("disentanglement_challenge.data", "list, download and check data sets"),
    "hub": ("disentanglement_challenge.hub", "push a model to Hugging Face's hub, or load one"),
    "page": ("disentanglement_challenge.pages", "write the page of an experiment, or a comparison"),
    "submission": ("disentanglement_challenge.submission", "check and push a submission"),
}
# An installation has the scripts in the package (pyproject.toml); a checkout has them at its top.
SCRIPT_FOLDER = ROOT if IS_TREE else Path(__file__).resolve().parent / "scripts"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command at the start of these arguments (by default the process's), with its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return
    command = arguments.pop(0)
    if command not in SCRIPTS | MODULES:
        known = did_you_mean(command, SCRIPTS | MODULES) or f"; known: {', '.join(SCRIPTS | MODULES)}"
        print(f"error: unknown command {command!r}{known}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"disentanglement-challenge {command}", *arguments]
    if command in SCRIPTS:
        runpy.run_path(str(SCRIPT_FOLDER / SCRIPTS[command][0]), run_name="__main__")
    else:
        runpy.run_module(MODULES[command][0], run_name="__main__", alter_sys=True)


def _usage() -> str:
    commands = "\n".join(f"    {name:<12}{purpose}" for name, (_, purpose) in (SCRIPTS | MODULES).items())
    return f"{__doc__.strip()}\n\ncommands:\n{commands}"
