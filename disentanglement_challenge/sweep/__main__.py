"""Runs every row of a table, several seeds each, and prints what the seeds can bear.

    python -m disentanglement_challenge.sweep gin/table3 --seeds 5
    python -m disentanglement_challenge.sweep select FOLDER         # which seed to submit, without labels

A table is a folder of gin files, one for each row. Finished runs are kept and not made again: a sweep that was stopped
goes on where it is started again. One of less than an hour on two cores:

    python -m disentanglement_challenge.sweep gin/table1 --gin_config scaled.gin --divide_steps 60
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.cli import run_script
from disentanglement_challenge.environment import absolute, get_config
from disentanglement_challenge.errors import Interrupted
from disentanglement_challenge.pages.tables import check_export, export, read_results, shown
from disentanglement_challenge.sweep.results import Results
from disentanglement_challenge.sweep.runs import Run, choose_rows, make_runs, table_folder, unused_by_all

if TYPE_CHECKING:
    from disentanglement_challenge.sweep.cluster import Finished, Sweep


def main(flags: argparse.Namespace) -> None:
    from disentanglement_challenge.sweep.cluster import cluster  # which says so where Ray is not installed

    signal.signal(signal.SIGTERM, _stop)
    check_count("--seeds", flags.seeds)
    check_count("--divide_steps", flags.divide_steps)
    for path in flags.export:
        check_export(path)
    console = Console()
    folder = table_folder(flags.table)
    rows = choose_rows(folder, flags.rows)
    output = absolute(flags.output or Path(get_config().base_path) / folder.name)
    overrides = (flags.gin_config, flags.gin_bindings, flags.divide_steps)
    runs, broken = make_runs(folder, rows, flags.seeds, *overrides)
    unused = unused_by_all(runs, flags.gin_bindings)
    if unused:
        console.print(Text(f"not used by any run: {', '.join(unused)}"))
    unusable = [Text.assemble((row, "red"), f" cannot be run: {message}") for row, message in broken.items()]
    console.print(*unusable, sep="\n", end="\n" if unusable else "")
    results = Results(output, folder.name)
    # Rows and seeds that are kept and not asked for go into the same table, so they must be of this configuration too.
    results.finished(make_runs(folder, *results.kept(), *overrides)[0])
    finished = results.finished(runs)
    if finished:
        console.print(f"{len(finished)} of {len(runs)} runs are finished already")
    failed = []
    missing = [run for run in runs if run not in finished]
    if missing:
        try:
            with cluster(flags.address):
                failed = _sweep(console, missing, runs, results, flags)
        finally:
            results.remove_if_empty()
    if results.finished(runs):
        results.write()
        measured = read_results(results.path)
        console.print(shown(measured))
        for path in flags.export:
            export(measured, path)
        console.print(Text(f"every score: {results.path}"))
    # All together, as hours of other rows may have passed since each was told.
    for line in (*map(_failure, failed), *(unusable if missing else ())):
        console.print(line)
    if failed or broken:
        sys.exit(1)


def _sweep(
    console: Console, missing: list[Run], runs: list[Run], results: Results, flags: argparse.Namespace
) -> "list[Finished]":
    """Carries out the missing runs, keeping each record as it comes; returns those that failed."""
    from disentanglement_challenge.sweep.cluster import Sweep

    failed = []
    sweep = Sweep(missing, results.folder, flags.cpus_per_run, flags.gpus_per_run)
    try:
        with Live(console=console, refresh_per_second=2, transient=True) as live:
            while sweep.num_pending:
                for ended in sweep.wait(1):
                    if ended.record is None:
                        failed.append(ended)
                        live.console.print(_failure(ended))
                    else:
                        results.keep(ended.run, ended.record)
                        live.console.print(Text(f"{ended.run.name} finished in {ended.record['seconds']:.0f} s"))
                if console.is_terminal:
                    live.update(_progress(sweep, len(missing)))
    except KeyboardInterrupt:
        sweep.cancel()
        kept = len(results.finished(runs))
        console.print(f"{kept} of {len(runs)} runs are finished and kept; the same command makes the others")
        raise
    return failed


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(f"stopped at {signal.Signals(number).name}", number)


def _failure(ended: "Finished") -> Text:
    return Text.assemble((ended.run.name, "red"), f" failed: {ended.error}")


def _progress(sweep: "Sweep", total: int) -> Group:
    running = sweep.running()
    head = Text(f"{total - sweep.num_pending} of {total} runs ended, {len(running)} running")
    return Group(head, *(Text(f"  {name}  {line}", no_wrap=True) for name, line in sorted(running.items())))


def _select(arguments: Sequence[str]) -> None:
    from disentanglement_challenge.sweep import selection

    flags = selection.parse(arguments)
    run_script(lambda: selection.main(flags), flags.debug)


if __name__ == "__main__":
    if sys.argv[1:2] == ["select"]:
        _select(sys.argv[2:])
        sys.exit()
    parser = argparse.ArgumentParser(
        prog="python -m disentanglement_challenge.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", help="folder with a gin file for each row, as a path or below gin/")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="these alone (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each row (default: 3)")
    parser.add_argument(
        "--gin_config",
        action="append",
        default=[],
        metavar="FILE",
        help="gin file that overrides every row's; repeatable",
    )
    parser.add_argument(
        "--gin_bindings", action="append", default=[], metavar="'a.b = c'", help="overrides them all; repeatable"
    )
    parser.add_argument("--divide_steps", type=int, default=1, metavar="N", help="train for 1/N of every row's steps")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where everything is kept (default: $AICROWD_OUTPUT_PATH/TABLE)"
    )
    parser.add_argument(
        "--export",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also write the table to a .tex, .md or .csv; repeatable",
    )
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="a Ray cluster that is there, or auto (default: this machine)"
    )
    parser.add_argument("--cpus_per_run", type=float, default=1, metavar="N", help="each run's share (default: 1)")
    parser.add_argument(
        "--gpus_per_run", type=float, metavar="N", help="each run's share, such as 0.25 (default: 1 if there are any)"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
