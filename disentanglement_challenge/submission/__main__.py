"""Submitting to the challenge.

    python -m disentanglement_challenge.submission check           # does what the evaluator does, before it does
    python -m disentanglement_challenge.submission push VERSION    # makes the tag submission-VERSION and pushes it

The repository is the one that this package lies in; where pip has installed it, the working directory.

`check` looks at what is committed. Every line is a tick (✓), a cross (✗) with what is wrong, or a warning (!); the exit
code is 1 if there is a cross.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from disentanglement_challenge.cli import run_script
from disentanglement_challenge.environment import IS_TREE, ROOT
from disentanglement_challenge.errors import ChallengeError
from disentanglement_challenge.submission.findings import CROSS, TICK, WARNING, Finding, failed
from disentanglement_challenge.submission.manifests import STATIC_CHECKS, check_resolution
from disentanglement_challenge.submission.push import push
from disentanglement_challenge.submission.repository import check_root, check_uncommitted
from disentanglement_challenge.submission.trial import Trial

_OUTPUT_LINES = 15


def findings(root: Path) -> Iterator[tuple[str, Finding]]:
    """Checks what is committed in this repository, each thing whatever became of the others."""
    check_root(root)
    with tempfile.TemporaryDirectory(prefix="submission_check_") as folder:
        trial = Trial(Path(folder), root)
        checks: dict[str, Callable[[], Finding]] = {
            "committed": partial(check_uncommitted, root),
            **{name: partial(check, trial.copy) for name, check in STATIC_CHECKS.items()},
            "resolution": partial(check_resolution, trial.copy),
            "short run": trial.run,
            "score": trial.score,
        }
        try:
            for name, check in checks.items():
                try:
                    yield name, check()
                except ChallengeError as error:
                    yield name, failed(str(error))
        finally:
            trial.close()


def check(root: Path) -> bool:
    """Prints what was found; returns whether there is no cross."""
    marks = []
    for name, finding in findings(root):
        print(f"{finding.mark} {name}: {finding.reason}", flush=True)
        for line in finding.output.splitlines()[-_OUTPUT_LINES:]:
            print(f"    {line:.200}")
        marks.append(finding.mark)
    crosses, warnings = marks.count(CROSS), marks.count(WARNING)
    print(f"{len(marks) - crosses - warnings} {TICK}, {warnings} {WARNING}, {crosses} {CROSS}")
    return crosses == 0


def main(flags: argparse.Namespace) -> None:
    root = ROOT if IS_TREE else Path.cwd()
    if flags.command == "push":
        print(push(root, flags.version, flags.remote))
    elif not check(root):
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m disentanglement_challenge.submission",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="check what is committed as the evaluator would, with a short run")
    command = commands.add_parser("push", help="tag what is committed as submission-VERSION and push it")
    command.add_argument("version", metavar="VERSION", help="such as v0.1")
    command.add_argument("--remote", default="aicrowd", help="the git remote to push to (default: %(default)s)")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
