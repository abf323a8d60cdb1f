"""The data sets on the command line.

    python -m disentanglement_challenge.data list
    python -m disentanglement_challenge.data download NAME...
    python -m disentanglement_challenge.data check NAME...

Files are in DISENTANGLEMENT_LIB_DATA (default scratch/dataset), where disentanglement_lib looks for them. `download`
resumes an interrupted download, checks the file, and converts it for use. `check` compares the local files with the
published facts (sums, shape, the mean of the images) and exits with 1 if they differ.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.table import Table

from disentanglement_challenge.cli import Parser, console_of_tables, run_script
from disentanglement_challenge.data.catalogue import CATALOGUE
from disentanglement_challenge.data.download import download
from disentanglement_challenge.data.named import check_name, get_named_ground_truth_data
from disentanglement_challenge.data.verify import Finding, check_data, check_files
from disentanglement_challenge.environment import data_path
from disentanglement_challenge.errors import DataError, lines_of


def list_data_sets() -> Table:
    """Return a table with a row for each named data set."""
    table = Table(title=f"data sets in {data_path()}", title_justify="left")
    for column in ("name", "images", "GB", "channels", "factor sizes", "licence", "state"):
        table.add_column(column, justify="right" if column in ("images", "GB", "channels") else "left")
    for name, entry in CATALOGUE.items():
        table.add_row(
            name,
            f"{entry.num_images:,}" if entry.num_images else "-",
            f"{entry.num_bytes / 1e9:.1f}" if entry.num_images else "-",
            str(entry.channels),
            " ".join(map(str, entry.factor_sizes)),
            entry.licence,
            entry.state(data_path()),
        )
    table.add_row("folder", "", "", "1, 3", "your own data", "", "see docs/data.md")
    return table


def check(name: str) -> bool:
    """Print one line per finding about a data set; return whether all of them are right."""
    marks = []
    try:
        for finding in check_files(name, data_path()):
            marks.append(_show(name, finding))
        for finding in check_data(name, get_named_ground_truth_data(name)):
            marks.append(_show(name, finding))
    except DataError as error:
        marks.append(_show(name, Finding(False, lines_of(error)[0])))
    return all(marks)


def _show(name: str, finding: Finding) -> bool:
    print(f"{'✓' if finding.is_right else '✗'} {name}: {finding.text}", flush=True)
    return finding.is_right


def main(flags: argparse.Namespace) -> None:
    if flags.command == "list":
        console_of_tables().print(list_data_sets())
        return
    for name in flags.names:
        check_name(name)
    if flags.command == "check":
        are_right = [check(name) for name in flags.names]
        if not all(are_right):
            sys.exit(1)
        return
    for name in flags.names:
        entry = CATALOGUE.get(name)
        if entry is not None and entry.is_ready(data_path()):
            print(f"{name}: already converted, nothing to download")
        elif entry is not None:
            for source in entry.missing(data_path()):
                download(source, data_path(), flags.accept)
        data = get_named_ground_truth_data(name)
        print(f"{name}: ready, factor sizes {data.factors_num_values}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags."""
    parser = Parser(
        prog="python -m disentanglement_challenge.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the data sets with their sizes, factors, licences and local state")
    command = commands.add_parser("download", help="download data sets, check them and convert them for use")
    command.add_argument("names", nargs="+", metavar="NAME", help="as `list` shows it")
    command.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="SUM",
        help="use a download with this check sum, such as md5:..., even if another one is recorded; repeatable",
    )
    command = commands.add_parser("check", help="check the local files: check sums, shapes and the mean of the images")
    command.add_argument("names", nargs="+", metavar="NAME", help="as `list` shows it")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    parsed = parse()
    run_script(lambda: main(parsed), parsed.debug)
