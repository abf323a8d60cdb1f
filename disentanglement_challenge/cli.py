"""What the scripts share: their flags, and turning an error the user can put right into one line and an exit code."""

import argparse
import gc
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from disentanglement_challenge.errors import ChallengeError, Interrupted, did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong with the flags, and what would be right."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and ends the process with 2, as argparse does."""
        self.exit(2, f"error: {printable(message)}{self._hint(message)}; --help shows all flags\n")

    def _hint(self, message: str) -> str:
        _, is_unrecognised, arguments = message.partition("unrecognized arguments: ")
        first = arguments.split()[0].partition("=")[0] if is_unrecognised else ""
        if first.startswith("-"):
            return did_you_mean(f"--{first.lstrip('-').replace('-', '_')}", self._option_string_actions)
        if first:
            return "; --gin_bindings and --gin_config take one value each, so repeat the flag before every value"
        return ""


def add_common_flags(parser: argparse.ArgumentParser, default_config: str) -> None:
    """Adds the flags that training and running have in common."""
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
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run of the experiment left")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the scripts that train."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume the experiment's training run from its last checkpoint, or start where there is none; with "
        "--overwrite also start where this configuration cannot resume it",
    )
    parser.add_argument(
        "--resume_on",
        choices=("cpu", "cuda"),
        help="resume on this device what was begun on the other; bit for bit it is no longer the run that was begun",
    )
    parser.add_argument(
        "--discard_unfinished",
        action="store_true",
        help="remove what an interrupted training run left, and keep what is finished",
    )


def apply_common_flags(flags: argparse.Namespace) -> list[str]:
    """Carries the flags that have an environment variable over to it, and returns the gin bindings to use."""
    if flags.experiment is not None:
        os.environ["AICROWD_EVALUATION_NAME"] = flags.experiment
    return [*flags.gin_bindings, *([f"dataset.name = {flags.dataset!r}"] if flags.dataset is not None else [])]


def printable(text: str) -> str:
    """The text without what a terminal would obey: a model or a file that somebody else made may have a part in it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def run_script(main: Callable[[], None], debug: bool) -> None:
    """Runs the script and ends the process with an exit code where it does not come to its end.

    1 on an error of the ChallengeError family; after a signal 128 and the signal's number, 130 for Ctrl-C.
    """
    try:
        main()
    except ChallengeError as error:
        if debug:
            raise
        # Beyond the first line is what gin adds to an error that passes through it.
        print(f"error: {printable(str(error).splitlines()[0])}", file=sys.stderr)
        sys.exit(1)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        # Freeze what imports made, so that the collection at exit, which takes a second, skips it.
        gc.freeze()
