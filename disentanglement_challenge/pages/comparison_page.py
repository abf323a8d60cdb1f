"""Draw the page that compares several experiments: scores over seeds, ranks, and wins."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from disentanglement_challenge.errors import DataError
from disentanglement_challenge.evaluation.scores import unofficial_note, written
from disentanglement_challenge.files import read_json, write_text
from disentanglement_challenge.gin_text import config_bindings
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.experiment_page import duration
from disentanglement_challenge.pages.figures import scores_of_groups, svg
from disentanglement_challenge.pages.record import (
    SEED,
    Record,
    is_experiment,
    read_record,
    training_of,
)
from disentanglement_challenge.pages.results import LABELS, natural_order
from disentanglement_challenge.pages.statistics import Pair, Ranks, Summary, compare, rank_by_seed, summarise
from disentanglement_challenge.pages.tables import (
    RANK_NOTE,
    details_of,
    headline_of,
    pairing_of,
    text_of,
    win_notes,
    wins_of,
)
from disentanglement_challenge.pages.templates import render
from disentanglement_challenge.training.checkpoints import FREE
from disentanglement_challenge.wording import counted

Configuration = tuple[tuple[str, str], ...]

_NAME = "name"
# Bindings that runs of one configuration may differ in: those of FREE except the number of steps.
_IRRELEVANT = tuple(name for name in FREE if name != "model.training_steps")


@dataclass(frozen=True)
class Run:
    """One experiment in a comparison.

    Attributes:
        name: the experiment's name; row/seed_N in a sweep.
        scores: float64 [5], in the order of METRICS; NaN for a missing score.
        bindings: the bindings of training by name; empty if the model was not trained here.
        dataset: the data set of the scores, or else of training.
        source: the given path of an experiment or a sweep that contains the run.
        settings: the known settings of the metrics that are not among the bindings.
        steps, num_latent, num_active, seconds: None if unknown.
        folder: the experiment's folder, if it exists.
    """

    name: str
    scores: NDArray[np.float64]
    bindings: dict[str, str]
    dataset: str
    source: Path
    settings: dict[str, str] = field(default_factory=dict)
    steps: int | None = None
    num_latent: int | None = None
    num_active: int | None = None
    seconds: float | None = None
    folder: Path | None = None

    @property
    def seed(self) -> str:
        """Return the seed of training; "" if unknown."""
        return self.bindings.get(SEED, "")

    @property
    def configuration(self) -> Configuration:
        """Return a key that runs share if they differ only in the seed; a run without bindings has its own."""
        kept = {
            name: value
            for name, value in {**self.bindings, **self.settings}.items()
            if name != SEED and not name.startswith(_IRRELEVANT) and name != "dataset.name"
        }
        return (*sorted(kept.items()), ("data set", self.dataset), *(() if self.bindings else ((_NAME, self.name),)))


@dataclass
class Group:
    """The runs of one configuration."""

    runs: list[Run]
    label: str

    @property
    def scores(self) -> NDArray[np.float64]:
        """Return the scores of the runs, float64 [num_runs, 5]."""
        return np.stack([run.scores for run in self.runs])

    def summaries(self) -> list[Summary]:
        """Summarise each metric over the runs."""
        return [summarise(scores) for scores in self.scores.T]


def _label(runs: Sequence[Run]) -> str:
    """Return the row of a sweep, or else the runs' common name without the seed, or else the first run's name."""
    if len(runs) == 1 and "/" not in runs[0].name:
        return runs[0].name
    names = [re.sub(r"((^|[-_./ ]+)(seed|s))?[-_./ ]*\d+$", "", run.name) for run in runs]
    return names[0] if names[0] and len(set(names)) == 1 else runs[0].name


def read_runs(paths: Sequence[Path]) -> list[Run] | None:
    """Return the runs of these experiments and sweeps, or None if the paths are a single experiment.

    Raises:
        DataError: a path is neither an experiment nor a sweep, or a file is damaged.
    """
    runs: list[Run] = []
    is_one = len(paths) == 1
    for path in {path.resolve(): path for path in paths}.values():  # a path that is given twice counts once
        finished = list(path.glob("*/seed_*/run.json")) if (path / "table.json").is_file() else []
        finished.sort(key=lambda file: natural_order(f"{file.parent.parent.name}/{file.parent.name}"))
        if path.is_file():
            runs += _recorded_runs(path)
        elif finished and all(is_experiment(file.parent) for file in finished):
            runs += [_run(read_record(file.parent), path) for file in finished]
        elif finished:  # the experiments are on other machines; only their records are here
            runs += [_recorded_run(read_json(file), file, path) for file in finished]
        elif is_one:
            return None
        else:
            runs.append(_run(read_record(path), path))
    return runs


def write_comparison(runs: Sequence[Run], path: Path) -> Path:
    """Write the page and return its path. Raise OutputError if it cannot be written."""
    write_text(path, comparison_page(runs, path.parent))
    return path


def group(runs: Sequence[Run]) -> list[Group]:
    """Group runs by configuration, in their given order.

    A second run of the same configuration and seed says nothing about the spread over seeds, so it gets another group.
    """
    times: Counter[tuple[Configuration, str]] = Counter()
    by_configuration: dict[tuple[Configuration, int], list[Run]] = {}
    for run in runs:
        earlier = times[run.configuration, run.seed]
        times[run.configuration, run.seed] += 1
        by_configuration.setdefault((run.configuration, earlier), []).append(run)
    groups = [Group(members, _label(members)) for members in by_configuration.values()]
    labels = Counter(one.label for one in groups)
    sources = {run.source.resolve() for run in runs}
    for one in groups:
        if labels[one.label] > 1 and len(sources) > 1:  # rows of two sweeps of a table
            source = os.path.relpath(one.runs[0].source.resolve(), os.path.commonpath(sources))
            one.label = f"{one.label} ({source})"
    return groups


def scores_by_seed(groups: Sequence[Group]) -> NDArray[np.float64]:
    """Return the groups' scores, float64 [num_groups, num_seeds, 5]; NaN if a group has no run of a seed.

    If each group is one run, they are compared with each other under any seeds.
    """
    if all(len(one.runs) == 1 for one in groups):
        return np.stack([one.scores for one in groups])
    seeds = sorted({run.seed for one in groups for run in one.runs}, key=natural_order)
    scores = np.full((len(groups), len(seeds), len(METRICS)), np.nan)
    for row, one in zip(scores, groups, strict=True):
        for run in one.runs:
            row[seeds.index(run.seed)] = run.scores
    return scores


def rank(groups: Sequence[Group]) -> Ranks:
    """Rank the groups, seed by seed; rank none if their settings differ or fewer than two have all scores."""
    scores = scores_by_seed(groups)
    num_rivals = sum(bool(np.isfinite(one.scores).all(axis=1).any()) for one in groups)
    return rank_by_seed(scores if num_rivals > 1 and not unequal_settings(groups) else scores[:, :0])


def pairs_of(groups: Sequence[Group]) -> list[Pair]:
    """Compare every two groups with at least three seeds each; compare none if their settings differ."""
    if unequal_settings(groups):
        return []
    trainings = [training_of(one.runs[0].bindings) or one.runs[0].name for one in groups]
    return compare(scores_by_seed(groups), trainings)


def differences(groups: Sequence[Group]) -> dict[str, list[str | None]]:
    """Return each group's value, or None, of the settings that differ between groups, by name."""
    configurations = [dict(one.runs[0].configuration) for one in groups]
    names = sorted({name for configuration in configurations for name in configuration} - {_NAME})
    values = {name: [configuration.get(name) for configuration in configurations] for name in names}
    return {name: column for name, column in values.items() if len(set(column)) > 1}


def unequal_settings(groups: Sequence[Group]) -> list[str]:
    """Return the settings of metrics that differ between groups; with any, the scores cannot be ranked."""
    settings = [one.runs[0].settings for one in groups if np.isfinite(one.scores).any()]
    names = sorted({name for one in settings for name in one} - {"evaluation.engine"})
    return [name for name in names if len({one.get(name) for one in settings}) > 1]


def comparison_page(runs: Sequence[Run], folder: Path) -> str:
    """Return the page as HTML, with links relative to `folder`, where the page will be."""
    groups = group(runs)
    datasets = sorted({run.dataset for run in runs if run.dataset})
    ranks, pairs = rank(groups), pairs_of(groups)
    num_runs = counted(len(runs), "run")
    return render(
        "comparison.html.jinja",
        kind="Comparison",
        title=num_runs if len(groups) == len(runs) else f"{counted(len(groups), 'configuration')}, {num_runs}",
        groups=groups,
        lines=[_line(one, ranks, row) for row, one in enumerate(groups)],
        rank_note=RANK_NOTE,
        pairs=[
            (f"{groups[pair.first].label} over {groups[pair.second].label}{pairing_of(pair)}", wins_of(pair))
            for pair in pairs
        ],
        win_notes=win_notes(pairs),
        differing=differences(groups),
        unequal=unequal_settings(groups),
        unofficial={note: None for run in runs if (note := _unofficial(run))},
        runs=[_row(run, folder) for run in runs],
        labels=[LABELS[metric] for metric in METRICS],
        datasets=datasets,
        seeds=max(len(one.runs) for one in groups),
        plots=[_plot(groups, index, metric) for index, metric in enumerate(METRICS)],
        missing=[
            f"The scores of {run.name}, which are not computed yet."
            for run in runs
            if not np.isfinite(run.scores).any()
        ],
    )


def _unofficial(run: Run) -> str:
    settings = {name: value for name, value in run.settings.items() if name != "evaluation.engine"}
    return unofficial_note(settings) if settings else ""


def _plot(groups: Sequence[Group], index: int, metric: str) -> Markup:
    parts = []
    for one in groups:
        named = summarise(one.scores[:, index]).named()
        if named:
            details = [f"{name} {text_of(part)}" for name, part in named.items() if name not in ("values", "mean")]
            parts.append(f"{one.label} {headline_of(named)}" + (f" ({', '.join(details)})" if details else ""))
    figure = scores_of_groups([one.label for one in groups], [one.scores[:, index] for one in groups], metric)
    return Markup(svg(figure, f"scores-{metric}", f"{LABELS[metric]}: {'; '.join(parts)}."))


def _line(one: Group, ranks: Ranks, row: int) -> dict[str, Any]:
    """Return the line of one configuration in the table of configurations."""
    summaries, rank = one.summaries(), ranks.named(row)
    named = [summary.named() for summary in summaries]
    details = details_of(named, rank)
    columns = list(zip(*details.values(), strict=True)) or [()] * (len(METRICS) + 1)
    centers = [None if np.isnan(summary.center) else summary.center for summary in summaries]
    return {
        "label": one.label,
        "num_runs": len(one.runs),
        "names": list(details),
        "cells": list(zip(centers, map(headline_of, named), columns[:-1], strict=True)),
        "rank": (
            (
                float(ranks.means[row]),
                headline_of(rank, 1),
                (*columns[-1], f"first in {ranks.times_first[row]} of {len(ranks.seeds)}"),
            )
            if rank
            else (None, "", ())
        ),
        "is_best": bool(ranks.is_first[row]),
    }


def _row(run: Run, folder: Path) -> dict[str, Any]:
    report = run.folder / "page.html" if run.folder is not None else None
    return {
        "run": run,
        "scores": [float(score) if np.isfinite(score) else None for score in run.scores],
        "took": duration(run.seconds) if run.seconds is not None else None,
        "link": quote(os.fsencode(os.path.relpath(report, folder))) if report is not None and report.exists() else None,
    }


def _run(record: Record, source: Path) -> Run:
    scores = [record.scores[metric] if record.scores else np.nan for metric in METRICS]
    return Run(
        name=record.name,
        scores=np.array(scores, dtype=np.float64),
        bindings=record.bindings,
        dataset=record.dataset,
        source=source,
        settings=record.settings,
        steps=record.steps,
        num_latent=record.num_latent,
        num_active=record.num_active,
        seconds=record.losses.get("seconds"),
        folder=record.path,
    )


def _recorded_runs(path: Path) -> list[Run]:
    """Return the runs in a sweep's results.json; their experiments may be on other machines."""
    content = read_json(path)
    records = content.get("runs") if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise DataError(f"{path} is not a sweep's results.json; name that file, or the folder of an experiment")
    if not records:
        raise DataError(f"{path} contains no finished run")
    return sorted((_recorded_run(record, path, path) for record in records), key=lambda run: natural_order(run.name))


def _recorded_run(record: Any, path: Path, source: Path) -> Run:
    """Return a run from its record in a sweep's file."""
    try:
        return Run(
            name=f"{record['row']}/seed_{record['seed']}",
            scores=np.array([record["scores"][metric] for metric in METRICS], dtype=np.float64),
            bindings=config_bindings(record["config"]),
            dataset=str(record["dataset"]),
            source=source,
            settings=written(record.get("unofficial_settings", {})),
            steps=int(record["training_steps"]),
            num_latent=int(record["num_latent"]),
            seconds=float(record["losses"]["seconds"]) if "seconds" in record["losses"] else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path} is not a sweep's results.json ({type(error).__name__}: {error}); "
            "name that file, or the folder of an experiment"
        ) from error
