"""Run every row of a table under several seeds, and print the scores over seeds.

    python -m disentanglement_challenge.sweep gin/table3 --seeds 5
    python -m disentanglement_challenge.sweep select FOLDER         # choose a seed to submit, without labels

A table is a folder of gin files, one for each row. Finished runs are kept and skipped, so the same command resumes a
sweep that was stopped. Rows that differ only in model.training_steps are one training: each continues the one before
it. Rows with equal configurations are trained once, even in two tables. A sweep of less than an hour on two cores:

    python -m disentanglement_challenge.sweep gin/table1 --gin_config scaled.gin --divide_steps 60
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from disentanglement_challenge.checks import check_count
from disentanglement_challenge.cli import Parser, console_of_tables, run_script
from disentanglement_challenge.environment import absolute, get_config
from disentanglement_challenge.errors import ConfigError, Interrupted
from disentanglement_challenge.extras import require_extra
from disentanglement_challenge.pages.results import read_results
from disentanglement_challenge.pages.tables import add_export_flag, check_export, export, shown
from disentanglement_challenge.sweep.results import Results
from disentanglement_challenge.sweep.runs import Run, choose_rows, make_runs, table_folder, unused_by_all
from disentanglement_challenge.sweep.trainings import Training, trainings
from disentanglement_challenge.wording import counted

if TYPE_CHECKING:
    from disentanglement_challenge.sweep.cluster import Sweep
    from disentanglement_challenge.sweep.worker import Finished


@dataclass(frozen=True)
class Table:
    """A table of the sweep.

    Attributes:
        results: its results on disk.
        runs: the runs of the requested rows and seeds.
        unusable: a line for each row whose configuration cannot be read.
    """

    results: Results
    runs: list[Run]
    unusable: list[Text]

    @property
    def finished(self) -> set[Run]:
        """Return the runs that are finished."""
        return set(self.results.finished(self.runs))


def main(flags: argparse.Namespace) -> None:
    require_extra("sweep", "a sweep")
    from disentanglement_challenge.sweep.connection import cluster

    signal.signal(signal.SIGTERM, _stop)
    check_count("--seeds", flags.seeds)
    check_count("--divide_steps", flags.divide_steps)
    for path in flags.export:
        check_export(path)
    console = console_of_tables()
    with ExitStack() as stack:
        tables = _read_tables(console, flags, stack)
        # The first seed of all tables comes before the second of any.
        runs = sorted((run for table in tables for run in table.runs), key=lambda run: run.seed)
        finished = {run for table in tables for run in table.finished}
        if finished:
            console.print(f"{len(finished)} of {len(runs)} runs are already finished")
        missing = [training for training in trainings(runs) if not finished.issuperset(training.runs)]
        failed = []
        num_unusable = sum(len(table.unusable) for table in tables)
        if num_unusable and (missing or not runs):
            raise ConfigError(
                f"{num_unusable} of {num_unusable + len({(run.table, run.row) for run in runs})} rows cannot be run, "
                "so nothing is started; correct them, or choose others by --rows"
            )
        if missing:
            to_go = len(set(runs) - finished)
            folders = ", ".join(str(table.results.folder) for table in tables)
            work = f"{counted(to_go, 'run')} to go, by {counted(len(missing), 'training')}"
            console.print(Text(f"{work}; they write to {folders}"), soft_wrap=True)
            with cluster(flags.address) as handle_signals:
                failed = _sweep(console, missing, tables, finished, handle_signals, flags)
    for table in tables:
        if table.finished:
            table.results.write()
            measured = read_results(table.results.path)
            console.print(shown(measured))
            for path in flags.export:
                export(measured, path)
                console.print(Text(f"table: {path}"), soft_wrap=True)
            console.print(Text(f"all scores: {table.results.path}"), soft_wrap=True)
    # Repeat all failures at the end, as each was printed between the output of other rows, perhaps hours ago.
    for ended in failed:
        console.print(_failure(ended), soft_wrap=True)
    if failed or num_unusable:
        sys.exit(1)


def _read_tables(console: Console, flags: argparse.Namespace, stack: ExitStack) -> list[Table]:
    """Read the requested tables and their kept results; print rows that cannot be run, and unused bindings."""
    folders = {folder.name: folder for folder in map(table_folder, flags.tables)}
    if len(folders) < len(flags.tables):
        raise ConfigError(f"two of the tables {', '.join(flags.tables)} have the same name; sweep them one by one")
    for name, given in (("--rows", flags.rows), ("--export", flags.export)):
        if given and len(folders) > 1:
            raise ConfigError(f"{name} takes one table, not {len(folders)}; sweep them one by one")
    rows = {table: choose_rows(folder, flags.rows) for table, folder in folders.items()}
    base = absolute(flags.output or get_config().base_path)
    is_own = flags.output is not None and len(folders) == 1  # a folder for this table only
    tables = []
    for table, folder in folders.items():
        results = Results(base if is_own else base / table, table)
        stack.callback(results.remove_if_empty)  # whatever ends the sweep
        overrides = (flags.gin_config, flags.gin_bindings, flags.divide_steps, results.auto_precision)
        runs, broken = make_runs(folder, rows[table], flags.seeds, *overrides)
        unusable = [Text.assemble((row, "red"), f" cannot be run: {message}") for row, message in broken.items()]
        for line in unusable:
            console.print(line, soft_wrap=True)
        # The table also shows kept rows and seeds that are not requested, so they must have this configuration.
        results.finished(make_runs(folder, *results.kept(), *overrides)[0])
        tables.append(Table(results, runs, unusable))
    unused = unused_by_all([run for table in tables for run in table.runs], flags.gin_bindings)
    if unused:
        console.print(Text(f"not used by any run: {', '.join(unused)}"))
    return tables


def _sweep(
    console: Console,
    missing: Sequence[Training],
    tables: Sequence[Table],
    finished: set[Run],
    handle_signals: Callable[[], None],
    flags: argparse.Namespace,
) -> "list[Finished]":
    """Carry out the missing trainings, save each record when it arrives, and return the runs that failed."""
    from disentanglement_challenge.sweep.cluster import Sweep

    failed = []
    results = {table.results.table: table.results for table in tables}
    folders = {table: kept.folder for table, kept in results.items()}
    sweep = Sweep(missing, folders, flags.cpus_per_run, flags.gpus_per_run, flags.seeds_together)
    total = sweep.num_pending
    try:
        with Live(console=console, refresh_per_second=2, transient=True) as live:
            while sweep.num_pending:
                handle_signals()
                for ended in sweep.wait(1):
                    if ended.run in finished:
                        continue
                    if ended.record is None:
                        failed.append(ended)
                        live.console.print(_failure(ended), soft_wrap=True)
                    else:
                        results[ended.run.table].keep(ended.run, ended.record)
                        live.console.print(Text(f"{ended.run.title} finished in {ended.record['seconds']:.0f} s"))
                if console.is_terminal:
                    live.update(_progress(sweep, total))
    except KeyboardInterrupt:
        sweep.cancel()
        for table in tables:
            if table.finished:  # and the signal may have come between a record and the file of all
                table.results.write()
        kept = sum(len(table.finished) for table in tables)
        total = sum(len(table.runs) for table in tables)
        console.print(f"{kept} of {total} runs are finished and kept; run the same command again for the others")
        raise
    return failed


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(f"stopped at {signal.Signals(number).name}", number)


def _failure(ended: "Finished") -> Text:
    return Text.assemble((ended.run.title, "red"), f" failed: {ended.error}")


def _progress(sweep: "Sweep", total: int) -> Group:
    running = sweep.running()
    head = Text(f"{total - sweep.num_pending} of {total} runs ended, {len(running)} running")
    return Group(head, *(Text(f"  {name}  {line}", no_wrap=True) for name, line in sorted(running.items())))


def _select(arguments: Sequence[str]) -> None:
    from disentanglement_challenge.sweep import selection

    flags = selection.parse(arguments)
    run_script(lambda: selection.main(flags), flags.debug)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags."""
    parser = Parser(
        prog="python -m disentanglement_challenge.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "tables", nargs="+", metavar="TABLE", help="a folder with a gin file for each row, as a path or below gin/"
    )
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="run only these rows (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of each row (default: 3)")
    parser.add_argument(
        "--gin_config",
        action="append",
        default=[],
        metavar="FILE",
        help="a gin file that overrides every row's settings; repeatable",
    )
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="'a.b = c'",
        help="binding that overrides all files; repeatable",
    )
    parser.add_argument("--divide_steps", type=int, default=1, metavar="N", help="train for 1/N of each row's steps")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the results; with several tables, DIR/TABLE for each (default: $AICROWD_OUTPUT_PATH/TABLE)",
    )
    add_export_flag(parser)
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="the address of a running Ray cluster, or auto (default: this machine)"
    )
    parser.add_argument("--cpus_per_run", type=float, default=1, metavar="N", help="CPUs for each run (default: 1)")
    parser.add_argument(
        "--gpus_per_run", type=float, metavar="N", help="GPUs for each run, such as 0.25 (default: 1 if there are any)"
    )
    parser.add_argument(
        "--seeds_together",
        action="store_true",
        help="train the seeds of a row in one process on one GPU, by steps that they share",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["select"]:
        _select(sys.argv[2:])
        sys.exit()
    parsed = parse()
    run_script(lambda: main(parsed), parsed.debug)
