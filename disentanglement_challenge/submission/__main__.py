"""Submit to the challenge.

    python -m disentanglement_challenge.submission check           # do beforehand what the evaluator will do
    python -m disentanglement_challenge.submission push VERSION    # make the tag submission-VERSION and push it

The repository is the one with this package; if pip has installed the package, it is the working directory.

`check` checks what is committed. Every line has a tick (✓), a cross (✗) with the reason, or a warning (!); the exit
code is 1 if there is a cross.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from disentanglement_challenge.cli import Parser, run_script
from disentanglement_challenge.environment import IS_TREE, ROOT
from disentanglement_challenge.errors import ChallengeError
from disentanglement_challenge.submission.findings import CROSS, TICK, WARNING, Finding, failed
from disentanglement_challenge.submission.manifests import STATIC_CHECKS, check_resolution
from disentanglement_challenge.submission.push import push
from disentanglement_challenge.submission.repository import check_root, check_uncommitted
from disentanglement_challenge.submission.trial import Trial

_OUTPUT_LINES = 15


def findings(root: Path) -> Iterator[tuple[str, Finding]]:
    """Run all checks on the commit of this repository, even if one of them fails."""
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
    """Print the findings; return whether there is no cross."""
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


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags."""
    parser = Parser(
        prog="python -m disentanglement_challenge.submission",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="check the commit as the evaluator would, with a short run")
    command = commands.add_parser("push", help="tag the commit as submission-VERSION and push it")
    command.add_argument("version", metavar="VERSION", help="such as v0.1")
    command.add_argument("--remote", default="aicrowd", help="the git remote to push to (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    parsed = parse()
    run_script(lambda: main(parsed), parsed.debug)
