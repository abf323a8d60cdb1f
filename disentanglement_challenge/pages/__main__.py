"""Draw the HTML page of one experiment, or a comparison of several.

    python -m disentanglement_challenge.pages EXPERIMENT              # writes EXPERIMENT/page.html
    python -m disentanglement_challenge.pages EXPERIMENT EXPERIMENT   # writes comparison_NAMES.html beside them

An EXPERIMENT is a folder, or a name below $AICROWD_OUTPUT_PATH. The folder or the results.json of a sweep stands for
all of its runs. A page is self-contained: it opens without a network.
"""

import argparse
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from disentanglement_challenge.checks import check_suffix
from disentanglement_challenge.cli import Parser, run_script
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.pages.comparison_page import read_runs, write_comparison
from disentanglement_challenge.pages.experiment_page import write_page
from disentanglement_challenge.pages.record import find_experiment
from disentanglement_challenge.pages.templates import encodable

# In characters: even with four bytes each, the name of the file stays below Linux's limit of 255 bytes.
_LONGEST_NAME = 50


def comparison_name(paths: Sequence[Path]) -> str:
    """Return a file name made from the compared names, so that another comparison does not replace the page."""
    names = "_".join(path.stem for path in paths)
    if len(names) > _LONGEST_NAME:
        names = f"{names[:_LONGEST_NAME]}_{sha256(os.fsencode(names)).hexdigest()[:8]}"
    return f"comparison_{names}.html"


def main(flags: argparse.Namespace) -> None:
    if flags.output is not None:
        check_suffix("--output", flags.output, [".html"])
    paths = [find_experiment(name) for name in flags.experiments]
    runs = read_runs(paths)
    if runs is None:
        written = write_page(Experiment(paths[0]), flags.output)
    else:
        is_sweep = len(paths) == 1 and paths[0].is_dir()
        path = paths[0] / "comparison.html" if is_sweep else paths[0].parent / comparison_name(paths)
        written = write_comparison(runs, flags.output or path)
    print(encodable(str(written)))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags."""
    parser = Parser(
        prog="python -m disentanglement_challenge.pages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiments", nargs="+", metavar="EXPERIMENT", help="an experiment, or a sweep")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write the page")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    parsed = parse()
    run_script(lambda: main(parsed), parsed.debug)
