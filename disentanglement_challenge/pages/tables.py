"""The report's tables, as published and as run here: mean and spread over seeds, and ranks by the challenge's rule.

    python -m disentanglement_challenge.pages.tables docs/tables/table1.json [--plot FILE.png]

prints what a sweep wrote (its results.json) beside the published rows, and draws both.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy.stats import rankdata

from disentanglement_challenge.cli import run_script
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.files import replacing
from disentanglement_challenge.metrics import METRICS

PUBLISHED = Path(__file__).with_name("published_tables.json")
LABELS = {name: metric.label for name, metric in METRICS.items()}


@dataclass(frozen=True)
class Results:
    """What a sweep measured, beside what the report has.

    Attributes:
        table: such as "table1".
        rows: the rows' names, in the report's order where it has them.
        labels: what each row is called.
        seeds: of the runs.
        scores: float64 [num_rows, num_seeds, 5], metrics in the order of METRICS; NaN where a run is missing.
        published: float64 [num_rows, 5]; NaN where the report has no such row.
        steps: training steps of each row.
        dataset: that the runs were trained and scored on.
    """

    table: str
    rows: list[str]
    labels: list[str]
    seeds: list[int]
    scores: NDArray[np.float64]
    published: NDArray[np.float64]
    steps: list[int]
    dataset: str

    @property
    def means(self) -> NDArray[np.float64]:
        """Over the seeds that there are: [num_rows, 5]; NaN where there is none."""
        # Numpy's own mean and deviation warn about a score that no seed has, or one alone.
        count = np.isfinite(self.scores).sum(axis=1)
        return np.nansum(self.scores, axis=1) / np.where(count > 0, count, np.nan)

    @property
    def num_seeds(self) -> list[int]:
        """Of each row's runs."""
        return [int(count) for count in np.isfinite(self.scores).any(axis=2).sum(axis=1)]

    @property
    def spreads(self) -> NDArray[np.float64]:
        """Sample standard deviation over seeds: [num_rows, 5]; NaN where there is one seed."""
        count = np.isfinite(self.scores).sum(axis=1)
        squares = np.nansum((self.scores - self.means[:, None]) ** 2, axis=1)
        return np.sqrt(squares / np.where(count > 1, count - 1, np.nan))

    def ranks_by_seed(self) -> NDArray[np.float64]:
        """`average_ranks` of each seed that has all rows: [num_complete_seeds, num_rows]."""
        complete = np.isfinite(self.scores).all(axis=(0, 2))
        ranks = [average_ranks(self.scores[:, index]) for index in np.flatnonzero(complete)]
        return np.array(ranks).reshape(len(ranks), len(self.rows))


def average_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The challenge's rule: rows are ranked in each metric, the highest score first, and the ranks averaged.

    Args:
        scores: [num_rows, num_metrics].

    Returns:
        [num_rows]; equal scores share the average of their ranks. A row that lacks a score is not ranked, and has NaN.
    """
    complete = np.isfinite(scores).all(axis=1)
    ranks = np.full(len(scores), np.nan)
    # Equal scores may differ in their last digit, by the order in which they were summed.
    ranks[complete] = rankdata(-scores[complete].round(12), axis=0).mean(axis=1)
    return ranks


def natural_order(name: str) -> list[str | int]:
    """A key to sort rows and runs by, numbers in them by their values: 30k before 1000k, seed_2 before seed_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def published_tables() -> dict[str, Any]:
    """The report's tables by name, each with its title, notes and rows."""
    return json.loads(PUBLISHED.read_text())["tables"]


def _published_rows(table: str) -> dict[str, Any]:
    """The report's rows of a table by name; none of a table that is not the report's."""
    return published_tables().get(table, {"rows": {}})["rows"]


def read_results(path: Path) -> Results:
    """Reads a sweep's results.json.

    Raises:
        DataError: there is no such file, or it is something else.
    """
    try:
        content = json.loads(path.read_text())
        runs = content["runs"]
        scores = {(run["row"], run["seed"]): [run["scores"][metric] for metric in METRICS] for run in runs}
        steps = {run["row"]: run["training_steps"] for run in runs}
        datasets = sorted({run["dataset"] for run in runs})
        table = content["table"]
        published = _published_rows(table)
        present = list(dict.fromkeys(row for row, _ in scores))
        rows = [row for row in published if row in present] + [row for row in present if row not in published]
        seeds = sorted({seed for _, seed in scores})
        nothing = [np.nan] * len(METRICS)
        values = np.array([[scores.get((row, seed), nothing) for seed in seeds] for row in rows], dtype=np.float64)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; a sweep writes it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not what a sweep writes ({type(error).__name__}: {error})") from error
    if not scores:
        raise DataError(f"{path} has no finished run")
    return Results(
        table,
        rows,
        labels=[published[row]["label"] if row in published else row for row in rows],
        seeds=seeds,
        scores=values,
        published=np.array(
            [[published[row]["scores"][metric] for metric in METRICS] if row in published else nothing for row in rows]
        ),
        steps=[steps[row] for row in rows],
        dataset=", ".join(datasets),
    )


def table_of(results: Results) -> Table:
    """The table as a terminal shows it: each row's mean and spread over seeds, and below them what the report has."""
    here, published = average_ranks(results.means), _published_ranks(results)
    table = Table(
        title=escape(_title(results)),
        caption=escape("\n".join(_captions(results))),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for heading in (*LABELS.values(), "mean rank"):
        table.add_column(heading, justify="right")
    for index, (row, label) in enumerate(zip(results.rows, results.labels, strict=True)):
        count, rank = results.num_seeds[index], here[index]
        short = f" ({count} of {len(results.seeds)} seeds)" if count < len(results.seeds) else ""
        is_first = rank == np.fmin.reduce(here)
        table.add_row(
            escape(label + short),
            *_scores(results.means[index]),
            _rank(rank, is_first),
            style="bold" if is_first else None,
        )
        if np.isfinite(results.spreads[index]).any():
            table.add_row("  ±", *_scores(results.spreads[index]))
        if row in published:
            rank = published[row]
            is_first = rank == min(published.values())
            table.add_row("  published", *_scores(results.published[index]), _rank(rank, is_first), style="dim")
        table.add_section()
    return table


def _published_ranks(results: Results) -> dict[str, float]:
    """Of all the report's rows of this table, as a rank among those that were run here would not be the report's."""
    rows = _published_rows(results.table)
    scores = np.array([[row["scores"][metric] for metric in METRICS] for row in rows.values()]).reshape(
        -1, len(METRICS)
    )
    return dict(zip(rows, average_ranks(scores).tolist(), strict=True))


def _scores(values: NDArray[np.float64]) -> list[str]:
    return [f"{value:.4f}" if np.isfinite(value) else "-" for value in values]


def _rank(rank: float, is_first: bool) -> str:
    return f"{rank:.1f} {'*' if is_first else ' '}" if np.isfinite(rank) else "-  "


def _title(results: Results) -> str:
    title = published_tables().get(results.table, {"title": results.table})["title"]
    steps = ", ".join(str(step) for step in dict.fromkeys(results.steps))
    spread = f"mean ± standard deviation of {len(results.seeds)} seeds" if len(results.seeds) > 1 else "one seed"
    return f"{title}\nhere: {results.dataset}, {steps} training steps, {spread}"


def _captions(results: Results) -> list[str]:
    lines = ["mean rank: rank in each metric, averaged over the five (the challenge's rule); * comes first"]
    if not _published_rows(results.table).keys() <= set(results.rows):
        lines.append("published mean ranks are among all of the report's rows")
    by_seed = results.ranks_by_seed()
    if len(by_seed) > 1:
        counts = {
            label: int((by_seed[:, index] == by_seed.min(axis=1)).sum()) for index, label in enumerate(results.labels)
        }
        firsts = [f"{label} in {count}" for label, count in counts.items() if count]
        lines.append(f"first by this rule, seed by seed (a tie counts for each): {', '.join(firsts)} of {len(by_seed)}")
    elif len(results.seeds) > 1:
        lines.append(f"scores are missing: {len(by_seed)} of {len(results.seeds)} seeds have every row's")
    else:
        lines.append("one seed: without a spread over seeds this is not a result")
    return lines + published_tables().get(results.table, {"notes": []})["notes"]


def plot(results: Results) -> Figure:
    """Each metric in a panel, each row a place on its axis: every seed, their mean, and the published score."""
    figure = Figure(figsize=(15, 3.4), layout="constrained")
    places = np.arange(len(results.rows))
    # Rows that are numbers of something lie on a line, and others do not.
    line = "-" if all(row[0].isdigit() for row in results.rows) else ""
    for index, (panel, metric) in enumerate(zip(figure.subplots(1, len(METRICS)), METRICS, strict=True)):
        scores = results.scores[:, :, index]
        # Beside one another, so that seeds with the same score are told apart.
        offsets = np.linspace(-0.12, 0.12, len(results.seeds)) if len(results.seeds) > 1 else [0.0]
        for offset, of_seed in zip(offsets, scores.T, strict=True):
            panel.plot(places + offset, of_seed, "o", color="#1f77b4", alpha=0.45, markersize=5, label="a seed")
        panel.plot(places, results.means[:, index], f"_{line}", color="#1f77b4", markersize=14, label="their mean")
        panel.plot(places, results.published[:, index], f"x{line}", color="#b5651d", linewidth=1, label="as published")
        panel.set_title(LABELS[metric])
        panel.set_xticks(places, results.labels, rotation=40, ha="right", fontsize=8)
        panel.set_ylim(bottom=0)
        panel.grid(axis="y", alpha=0.3)
    handles, labels = panel.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.suptitle(_title(results).replace("\n", "; "), fontsize=10)
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def main(flags: argparse.Namespace) -> None:
    results = read_results(flags.results)
    Console().print(table_of(results))
    if flags.plot is not None:
        with replacing(flags.plot) as temporary:
            plot(results).savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results.json of a sweep")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="where to draw it")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parsed = parser.parse_args()
    run_script(lambda: main(parsed), parsed.debug)
