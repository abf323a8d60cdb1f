"""Code shared by the scripts: flags, and reporting errors as one line and an exit code."""

import argparse
import gc
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from disentanglement_challenge.errors import ChallengeError, Interrupted, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in the flags in one line, with what would be right. No abbreviations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with 2, as argparse does."""
        self.exit(2, f"error: {printable(message)}{self._hint(message)}; --help shows all flags\n")

    def _hint(self, message: str) -> str:
        _, is_unrecognised, arguments = message.partition("unrecognized arguments: ")
        first = next(iter(arguments.split()), "").partition("=")[0] if is_unrecognised else ""
        if first.startswith("-"):
            return did_you_mean(f"--{first.lstrip('-').replace('-', '_')}", self._option_string_actions)
        if first and "--gin_bindings" in self._option_string_actions:
            return "; --gin_bindings and --gin_config take one value each, so repeat the flag before every value"
        return ""


def console_of_tables() -> "Console":
    """Return a console for tables: as wide as the terminal, and wide where the output is a file or a pipe."""
    # Imported here, as most scripts print no table, and answer mistakes sooner.
    from rich.console import Console

    return Console(width=None if Console().is_terminal else 200)


def add_common_flags(parser: argparse.ArgumentParser, default_config: str) -> None:
    """Add the flags that train_pytorch.py and run.py have in common."""
    parser.add_argument(
        "--gin_config",
        action="append",
        metavar="FILE",
        help="gin file, as a path or relative to gin/; repeatable, later ones override earlier ones "
        f"(default: {default_config})",
    )
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="'a.b = c'",
        help="gin binding; repeatable, overrides files",
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="data set (default: dataset.name, else $AICROWD_DATASET_NAME)"
    )
    parser.add_argument("--experiment", metavar="NAME", help="experiment name (default: $AICROWD_EVALUATION_NAME)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the results of an earlier run of the experiment"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the scripts that train."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume the experiment's training from its last checkpoint, or start if there is none; with --overwrite "
        "also start if this configuration cannot resume it",
    )
    parser.add_argument(
        "--resume_on",
        choices=("cpu", "cuda"),
        help="resume on this device a run that started on the other one; the result is no longer equal bit for bit",
    )
    parser.add_argument(
        "--discard_unfinished",
        action="store_true",
        help="remove the interrupted run in unfinished/ and keep the finished one, or start again if there is none",
    )


def apply_common_flags(flags: argparse.Namespace) -> list[str]:
    """Set the environment variables of flags that have one, and return the gin bindings."""
    if flags.experiment is not None:
        os.environ["AICROWD_EVALUATION_NAME"] = flags.experiment
    return [*flags.gin_bindings, *([f"dataset.name = {flags.dataset!r}"] if flags.dataset is not None else [])]


def printable(text: str) -> str:
    """Return the text without control characters, as parts of it may come from untrusted models or files."""
    return "".join(character if character.isprintable() else "?" for character in text)


def run_script(main: Callable[[], None], debug: bool) -> None:
    """Run the script; if it fails, end the process with an exit code.

    The code is 1 for an error of the ChallengeError family, 128 plus the number of a signal, and 130 for Ctrl-C.
    """
    try:
        main()
    except ChallengeError as error:
        if debug:
            raise
        # The lines after the first are appended by gin to errors that pass through it.
        print(f"error: {printable(str(error).splitlines()[0])}", file=sys.stderr)
        sys.exit(1)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        # Freeze import-time objects, so that exit skips a garbage collection, which takes a second.
        gc.freeze()
