"""What the scripts share: their flags, and turning an error the user can put right into one line and an exit code."""

import argparse
import gc
import os
import sys
from collections.abc import Callable

from disentanglement_challenge.errors import ChallengeError, Interrupted


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


def add_resume_flag(parser: argparse.ArgumentParser) -> None:
    """Adds the flag of the scripts that train."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the experiment's training run from its last checkpoint, or start where there is none; with "
        "--overwrite also where there is one that this configuration cannot go on from",
    )


def apply_common_flags(flags: argparse.Namespace) -> list[str]:
    """Carries the flags that have an environment variable over to it, and returns the gin bindings to use."""
    if flags.experiment is not None:
        os.environ["AICROWD_EVALUATION_NAME"] = flags.experiment
    return [*flags.gin_bindings, *([f"dataset.name = {flags.dataset!r}"] if flags.dataset is not None else [])]


def _printable(text: str) -> str:
    """The text without what a terminal would obey: a model or a file that somebody else made may have a part in it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def run_script(main: Callable[[], None], debug: bool) -> None:
    """Runs the script and ends the process with an exit code where it does not come to its end.

    1 on an error of the ChallengeError family; after a signal 128 and the signal's number, 130 for Ctrl-C.
    """
    # What the imports made is there to stay: no collection need go through it again, at the end of the process least of
    # all, where that takes a second.
    gc.freeze()
    try:
        main()
    except ChallengeError as error:
        if debug:
            raise
        # Beyond the first line is what gin adds to an error that passes through it.
        print(f"error: {_printable(str(error).splitlines()[0])}", file=sys.stderr)
        sys.exit(1)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
