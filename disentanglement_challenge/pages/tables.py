"""Show a sweep's table beside the report's: scores over seeds, ranks by the challenge's rule, and wins.

    python -m disentanglement_challenge.pages.tables docs/tables/table1.json [--plot FILE.png] [--export FILE.tex]

prints the results.json of a sweep and, in a separate table, the published rows. --plot draws both. --export writes them
as LaTeX, Markdown or CSV, depending on the file's suffix.
"""

import argparse
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group

from disentanglement_challenge.checks import check_suffix
from disentanglement_challenge.cli import Parser, console_of_tables, run_script
from disentanglement_challenge.files import replacing, write_text
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.results import (
    LABELS,
    Results,
    published_rows,
    published_source,
    published_tables,
    read_results,
)
from disentanglement_challenge.pages.statistics import (
    BOOTSTRAP_FROM,
    INTERVAL_FROM,
    MEAN_FROM,
    Named,
    Pair,
    Ranks,
    average_ranks,
    summarise,
)
from disentanglement_challenge.pages.table_plot import plot
from disentanglement_challenge.pages.text_table import (
    Line,
    TextTable,
    as_latex,
    as_markdown,
    as_rich,
)

RANK_NOTE = "Mean rank: rank in each metric, averaged over the five (the challenge's rule), seed by seed"
EXPORTS = (".tex", ".md", ".csv")


def tables_of(results: Results) -> list[TextTable]:
    """Return the tables of scores and ranks, of wins if there are enough seeds, and of the published rows."""
    return [_score_table(results), *_win_tables(results), *_published_tables(results)]


def shown(results: Results) -> Group:
    """Return `tables_of` for a terminal."""
    return Group(*map(as_rich, tables_of(results)))


def text_of(part: Sequence[float], digits: int = 4) -> str:
    """Format a number, or the ends of an interval with one digit less, for a table."""
    if len(part) == 1:
        return f"{part[0]:.{digits}f}"
    return " to ".join(f"{end:.{digits - 1}f}" for end in part)


def headline_of(named: Named, digits: int = 4) -> str:
    """Format the mean, or the values of one or two seeds, or "-" without either."""
    if "mean" in named:
        return text_of(named["mean"], digits)
    return ", ".join(f"{value:.{digits}f}" for value in named.get("values", ())) or "-"


def details_of(scores: Sequence[Named], rank: Named) -> dict[str, list[str]]:
    """Format the details below the headlines: by name, a text or "" for each score and for the rank."""
    names = dict.fromkeys(name for named in (*scores, rank) for name in named if name not in ("values", "mean"))
    return {
        name: [
            *(text_of(named[name]) if name in named else "" for named in scores),
            text_of(rank[name], 2) if name in rank else "",
        ]
        for name in names
    }


def _score_table(results: Results) -> TextTable:
    ranks = results.ranks()
    lines = []
    for row, label in enumerate(results.labels):
        scores = [summary.named() for summary in results.summaries(row)]
        rank = ranks.named(row)
        count, is_first = results.num_seeds[row], bool(ranks.is_first[row])
        short = f" ({count} of {len(results.seeds)} seeds)" if count < len(results.seeds) else ""
        first = f"{ranks.times_first[row]} of {len(ranks.seeds)}" if rank else "-"
        star = " *" if is_first else ""
        cells = [label + short, *map(headline_of, scores), headline_of(rank, 1) + star, first]
        lines.append(Line(cells, is_best=is_first))
        lines += [Line([name, *texts, ""], is_detail=True) for name, texts in details_of(scores, rank).items()]
    columns = ["", *LABELS.values(), "mean rank", "first in"]
    return TextTable(results.title, columns, lines, _notes(results, ranks))


def _notes(results: Results, ranks: Ranks) -> list[str]:
    notes = [seeds_note(len(results.seeds)), f"{RANK_NOTE}; * ranks first; tied rows are all marked"]
    if not len(ranks.seeds):
        notes.append("Nothing is ranked: no seed has all scores of every row")
    elif len(ranks.seeds) < len(results.seeds):
        notes.append(f"Scores are missing: ranks are of {len(ranks.seeds)} of {len(results.seeds)} seeds")
    return notes


def seeds_note(num_seeds: int) -> str:
    """Return a sentence that says which statistics are shown for this number of seeds."""
    if num_seeds == 1:
        return "One seed: without a spread over seeds this is not a result"
    if num_seeds < MEAN_FROM:
        return "Two seeds: their values, as two are too few for a mean or an interval"
    if num_seeds < INTERVAL_FROM:
        return "Mean over seeds and their range, which is not a confidence interval; that takes five seeds"
    robust = ", and the interquartile mean's by the bootstrap" if num_seeds >= BOOTSTRAP_FROM else ""
    return f"Mean over seeds and its 95% t interval{robust}"


def _win_tables(results: Results) -> list[TextTable]:
    pairs = results.pairs()
    if not pairs:
        return []
    lines = [
        Line([f"{results.labels[pair.first]} over {results.labels[pair.second]}{pairing_of(pair)}", *wins_of(pair)])
        for pair in pairs
    ]
    return [TextTable(["Wins of one row over another"], ["", *LABELS.values()], lines, win_notes(pairs))]


def pairing_of(pair: Pair) -> str:
    """Return the suffix of a pair's name: a note if the rows are one training, else ""."""
    return " (paired, dependent)" if pair.is_paired else ""


def wins_of(pair: Pair) -> list[str]:
    """Format the wins in each metric, such as "9 of 9"."""
    return [f"{wins:g} of {of}" if of else "-" for wins, of in zip(pair.wins, pair.comparisons, strict=True)]


def win_notes(pairs: Sequence[Pair]) -> list[str]:
    """Return notes on how wins are counted and how many are complete, and would be by chance."""
    count = sum(int((pair.comparisons > 0).sum()) for pair in pairs)
    largest = max((int(pair.comparisons.max()) for pair in pairs), default=0)
    expected = sum(float(pair.by_chance.sum()) for pair in pairs)
    complete = sum(
        int(((pair.comparisons > 0) & ((pair.wins == 0) | (pair.wins == pair.comparisons))).sum()) for pair in pairs
    )
    notes = [
        f"Of these {count} comparisons {complete} are all or none, such as {largest} of {largest}. This is not a "
        f"significance test: if no two rows differed, about {expected:.2g} of them would be"
    ]
    if any(pair.is_paired for pair in pairs):
        notes.insert(0, "Paired, dependent: one training at several of its steps, compared under the same seed")
    if not all(pair.is_paired for pair in pairs):
        notes.insert(0, "Each seed of the one row against each of the other; a tie is half a win")
    return notes


def _published_tables(results: Results) -> list[TextTable]:
    """Return the report's own table, if it has this one, ranked among its own rows only."""
    rows = published_rows(results.table)
    if not rows:
        return []
    scores = np.array([[row["scores"][metric] for metric in METRICS] for row in rows.values()])
    ranks = average_ranks(scores)
    lines = [
        Line(
            [row["label"], *(f"{score:.4f}" for score in of_row), f"{rank:.1f}{' *' if rank == ranks.min() else ''}"],
            is_best=bool(rank == ranks.min()),
        )
        for row, of_row, rank in zip(rows.values(), scores, ranks, strict=True)
    ]
    title = ["As published, not run here", published_source()]
    notes = published_tables()[results.table]["notes"]
    return [TextTable(title, ["", *LABELS.values(), "mean rank"], lines, notes)]


def add_export_flag(parser: argparse.ArgumentParser) -> None:
    """Add --export, whose files `check_export` checks and `export` writes."""
    parser.add_argument(
        "--export",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also write the tables to a .tex, .md or .csv file; repeatable",
    )


def check_export(path: Path) -> None:
    """Raise ConfigError if tables cannot be written in the format of this suffix."""
    check_suffix("--export", path, EXPORTS)


def export(results: Results, path: Path) -> None:
    """Write the tables as LaTeX or Markdown, or all their numbers as CSV, depending on the suffix.

    Raises:
        ConfigError: the suffix is not in EXPORTS.
        OutputError: the file cannot be written.
    """
    check_export(path)
    if path.suffix == ".csv":
        write_text(path, as_csv(results))
        return
    written = as_latex if path.suffix == ".tex" else as_markdown
    write_text(path, "\n".join(map(written, tables_of(results))))


def as_csv(results: Results) -> str:
    """Return all numbers of the runs as CSV, one on each line, without the published scores.

    The columns are row, label, against (the other row of wins), metric ("mean_rank" for the challenge's rule),
    statistic, count (of seeds or comparisons), value, low and high.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "label", "against", "metric", "statistic", "count", "value", "low", "high"])
    writer.writerows(_numbers(results))
    return text.getvalue()


def _numbers(results: Results) -> Iterator[list[Any]]:
    ranks = results.ranks()
    for index, (row, label) in enumerate(zip(results.rows, results.labels, strict=True)):
        for metric, scores in zip(METRICS, results.scores[index].T, strict=True):
            by_seed = {seed: score for seed, score in zip(results.seeds, scores, strict=True) if np.isfinite(score)}
            yield from _measure([row, label, "", metric], by_seed, summarise(scores).named())
        named = ranks.named(index)
        if named:
            seeds = [results.seeds[seed] for seed in ranks.seeds]
            by_seed = dict(zip(seeds, ranks.by_seed[:, index], strict=True))
            yield from _measure([row, label, "", "mean_rank"], by_seed, named)
            yield [row, label, "", "mean_rank", "first", len(seeds), int(ranks.times_first[index]), "", ""]
    for pair in results.pairs():
        row, label, against = results.rows[pair.first], results.labels[pair.first], results.rows[pair.second]
        statistic = "paired wins" if pair.is_paired else "wins"
        for metric, wins, comparisons in zip(METRICS, pair.wins, pair.comparisons, strict=True):
            if comparisons:
                yield [row, label, against, metric, statistic, int(comparisons), float(wins), "", ""]


def _measure(start: list[Any], by_seed: dict[int, float], named: Named) -> Iterator[list[Any]]:
    for seed, value in by_seed.items():
        yield [*start, f"seed {seed}", 1, float(value), "", ""]
    for name, part in named.items():
        if name != "values":
            yield [*start, name, len(by_seed), *(("", *part) if len(part) == 2 else (*part, "", ""))]


def main(flags: argparse.Namespace) -> None:
    for path in flags.export:
        check_export(path)
    if flags.plot is not None:
        check_suffix("--plot", flags.plot, [".png"])
    results = read_results(flags.results)
    console = console_of_tables()
    console.print(shown(results))
    for path in flags.export:
        export(results, path)
        print(f"table: {path}")
    if flags.plot is not None:
        with replacing(flags.plot) as temporary:
            plot(results).savefig(temporary, format="png", dpi=110)
        print(f"plot: {flags.plot}")


if __name__ == "__main__":
    parser = Parser(
        prog="python -m disentanglement_challenge.pages.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="the results.json of a sweep")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the scores into this file")
    add_export_flag(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
