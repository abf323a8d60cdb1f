"""The scores of a sweep, read from its results.json, and the report's tables."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.record import Training, config_bindings, training_of
from disentanglement_challenge.pages.statistics import Pair, Ranks, Summary, compare, rank_by_seed, summarise
from disentanglement_challenge.wording import counted

PUBLISHED = Path(__file__).with_name("published_tables.json")
LABELS = {name: metric.label for name, metric in METRICS.items()}


@dataclass(frozen=True)
class Results:
    """The scores of a sweep beside those of the report.

    Attributes:
        table: the table's name, such as "table1".
        rows: the rows' names; those of the report come first, in its order.
        labels: the display name of each row.
        seeds: the seeds of the runs.
        scores: float64 [num_rows, num_seeds, 5], metrics in the order of METRICS; NaN for a missing run.
        published: float64 [num_rows, 5]; NaN if the report has no such row.
        steps: the training steps of each row.
        dataset: the data set of training and scoring.
        trainings: a key for each row; rows that are one training at different steps have equal keys.
    """

    table: str
    rows: list[str]
    labels: list[str]
    seeds: list[int]
    scores: NDArray[np.float64]
    published: NDArray[np.float64]
    steps: list[int]
    dataset: str
    trainings: list[Training]

    @property
    def title(self) -> list[str]:
        """Return the table's title, and a sentence on what was run here."""
        title = published_tables().get(self.table, {"title": self.table})["title"]
        *others, last = dict.fromkeys(self.steps)
        steps = "".join(f"{step}, " for step in others) + counted(last, "training step")
        return [title, f"Here: {self.dataset}, {steps}, {counted(len(self.seeds), 'seed')}"]

    @property
    def num_seeds(self) -> list[int]:
        """Return the number of seeds of each row."""
        return [int(count) for count in np.isfinite(self.scores).any(axis=2).sum(axis=1)]

    def summaries(self, row: int) -> list[Summary]:
        """Summarise a row's scores over seeds, in the order of METRICS."""
        return [summarise(scores) for scores in self.scores[row].T]

    def ranks(self) -> Ranks:
        """Rank the rows, seed by seed."""
        return rank_by_seed(self.scores)

    def pairs(self) -> list[Pair]:
        """Compare every two rows with at least three seeds each."""
        return compare(self.scores, self.trainings)


def natural_order(name: str) -> list[str | int]:
    """Return a sort key that orders numbers by value: 30k before 1000k, seed_2 before seed_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def published_tables() -> dict[str, Any]:
    """Return the report's tables by name, each with its title, notes and rows."""
    return json.loads(PUBLISHED.read_text())["tables"]


def published_source() -> str:
    """Return the reference of the report."""
    return json.loads(PUBLISHED.read_text())["source"]


def published_rows(table: str) -> dict[str, Any]:
    """Return the report's rows of a table by name; empty for a table that is not in the report."""
    return published_tables().get(table, {"rows": {}})["rows"]


def read_results(path: Path) -> Results:
    """Read a sweep's results.json.

    Raises:
        DataError: the file cannot be read, or is not a sweep's.
    """
    try:
        content = json.loads(path.read_text())
        runs = content["runs"]
        scores = {(run["row"], run["seed"]): [run["scores"][metric] for metric in METRICS] for run in runs}
        steps = {run["row"]: run["training_steps"] for run in runs}
        trainings = {run["row"]: training_of(config_bindings(run["config"])) for run in runs}
        datasets = sorted({run["dataset"] for run in runs})
        table = content["table"]
        published = published_rows(table)
        present = sorted({row for row, _ in scores}, key=natural_order)
        rows = [row for row in published if row in present] + [row for row in present if row not in published]
        seeds = sorted({seed for _, seed in scores})
        nothing = [np.nan] * len(METRICS)
        values = np.array([[scores.get((row, seed), nothing) for seed in seeds] for row in rows], dtype=np.float64)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; name the results.json of a sweep") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a sweep's results.json ({type(error).__name__}: {error})") from error
    if not scores:
        raise DataError(f"{path} contains no finished run")
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
        trainings=[trainings[row] for row in rows],
    )
