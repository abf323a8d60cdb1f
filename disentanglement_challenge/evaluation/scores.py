"""The results of an evaluation: scores, the settings that they were computed with, and the matrices behind them."""

import html
import importlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disentanglement_challenge.checks import check_choice
from disentanglement_challenge.errors import ConfigError
from disentanglement_challenge.files import write_text
from disentanglement_challenge.metrics import RECORDS
from disentanglement_challenge.metrics.metric import Metric, find

# For a wide representation, a notebook shows this many latents: those with the largest entries.
_LATENTS_SHOWN = 16


@dataclass(frozen=True)
class Score:
    """One metric's score.

    Attributes:
        metric: the record of the metric.
        value: the score; None if there is none.
        reason: why there is none.
        results: all results of the metric, by disentanglement_lib's names.
        matrix: latents by factors, float64 [num_latent, num_factors]; None if the metric or the engine has none.
        engine: "fast" or "library".
        seconds: the time of the computation, without encoding.
    """

    metric: Metric
    value: float | None
    reason: str = ""
    results: dict[str, Any] = field(default_factory=dict)
    matrix: NDArray[np.float64] | None = None
    engine: str = "fast"
    seconds: float = 0.0


@dataclass(frozen=True)
class Scores(Mapping[str, "float | None"]):
    """The scores of one representation, by metric.

    A mapping from names, or aliases such as "sap", to numbers. A metric without a score has None, and
    `by_metric[name].reason` says why. A notebook shows the scores as a table with heat maps.

    Attributes:
        by_metric: everything about each metric's score, in the requested order.
        settings: the value of each setting, by gin name, and "evaluation.random_seed".
        engine: "fast" or "library".
        data: facts about the data: name, note, factor_names, factor_sizes, and, for codes and factors, rows.
        notes: caveats for readers of the scores, as sentences.
        encoding_seconds: the time to encode the images; 0 if each metric encodes its own, or nothing was encoded.

    Example:
        >>> scores = score(codes, factors)
        >>> scores["mig"], scores.as_dict(), scores.matrices["dci"]
        >>> scores.to_json("scores.json")
    """

    by_metric: dict[str, Score]
    settings: dict[str, Any]
    engine: str
    data: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    encoding_seconds: float = 0.0

    def __getitem__(self, name: str) -> float | None:
        """Return the score of a metric; raise KeyError if it was not computed."""
        if name in self.by_metric:
            return self.by_metric[name].value
        for score in self.by_metric.values():
            if name in score.metric.aliases:
                return score.value
        raise KeyError(f"{name!r} was not computed; the computed metrics are {', '.join(self.by_metric)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_metric)

    def __len__(self) -> int:
        return len(self.by_metric)

    @property
    def matrices(self) -> dict[str, NDArray[np.float64]]:
        """The matrices behind the scores, latents by factors, float64 [num_latent, num_factors], by metric."""
        return {name: score.matrix for name, score in self.by_metric.items() if score.matrix is not None}

    @property
    def unofficial(self) -> dict[str, Any]:
        """The unofficial settings by gin name; with them, scores are not comparable with published ones."""
        return unofficial(self.settings, (score.metric for score in self.by_metric.values()))

    @property
    def warnings(self) -> list[str]:
        """The notes, and a note about unofficial settings if there are any."""
        return [*self.notes, *([unofficial_note(written(self.unofficial))] if self.unofficial else [])]

    def as_dict(self) -> dict[str, float | None]:
        """Return the scores by metric; None if there is none."""
        return {name: score.value for name, score in self.by_metric.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; numbers that are not finite become None."""
        return {
            "scores": self.as_dict(),
            "engine": self.engine,
            "official": not self.unofficial,
            "unofficial_settings": self.unofficial,
            "settings": self.settings,
            "data": self.data,
            "notes": self.notes,
            "encoding_seconds": self.encoding_seconds,
            "metrics": {
                name: {
                    "label": score.metric.label,
                    "explanation": score.metric.explanation,
                    "matrix_label": score.metric.matrix_label,
                    "beside": {
                        label: plain(score.results[key])
                        for key, label in score.metric.beside.items()
                        if key in score.results
                    },
                    "key": score.metric.key,
                    "value": score.value,
                    "reason": score.reason,
                    "bounds": list(score.metric.bounds),
                    "higher_is_better": score.metric.higher_is_better,
                    "is_count": score.metric.is_count,
                    "engine": score.engine,
                    "seconds": score.seconds,
                    "results": plain(score.results),
                }
                for name, score in self.by_metric.items()
            },
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write everything, including the matrices, to a JSON file.

        Raises:
            OutputError: the file cannot be written.
        """
        content = {**self.to_dict(), "matrices": {name: plain(matrix) for name, matrix in self.matrices.items()}}
        write_text(Path(path), json.dumps(plain(content), indent=2, allow_nan=False) + "\n")

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(score.metric.label)}</td><td style='text-align:right'>{shown(score)}</td>"
            f"<td style='text-align:left'>{html.escape(score.reason)}</td></tr>"
            for score in self.by_metric.values()
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.warnings)
        maps = "".join(
            f"<details><summary>{html.escape(score.metric.label)}: {html.escape(score.metric.explanation)}</summary>"
            f"{_heat_map(score.matrix, self.data['factor_names'], score.metric.is_count)}</details>"
            for score in self.by_metric.values()
            if score.matrix is not None
        )
        return f"<table><tr><th>metric</th><th>score</th><th></th></tr>{rows}</table>{notes}{maps}"


def unofficial(settings: Mapping[str, Any], metrics: Any) -> dict[str, Any]:
    """Return those settings of these metrics that differ from the official ones."""
    official: dict[str, Any] = {"evaluation.random_seed": 0}
    for metric in metrics:
        official.update(metric.official())
    return {name: value for name, value in settings.items() if name in official and value != official[name]}


def written(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of settings in gin's notation."""
    return {name: value if str(value).startswith("@") else repr(value) for name, value in settings.items()}


def unofficial_note(settings: Mapping[str, str]) -> str:
    """Return the note that lists unofficial settings, given in gin's notation."""
    listed = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return f"The settings are not official, so the scores are not comparable with published ones: {listed}."


def plain(value: Any) -> Any:
    """Convert a value for JSON: to lists and Python's own numbers, and None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def metric_of(name: object) -> Metric:
    """Return the record of a metric.

    Args:
        name: the metric's name or an alias; or "module:RECORD", for a record in an importable module.

    Raises:
        ConfigError: there is no such metric; the message has the nearest name.
    """
    module, colon, attribute = str(name).partition(":")
    if not colon:
        return find(name, RECORDS)
    sys.path.insert(0, "")  # the current folder, which is not on an installed command's path
    try:
        record = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # the module is the user's own code
        raise ConfigError(f"cannot import metric {name!r} ({error}); expected module:RECORD") from error
    finally:
        sys.path.remove("")
    if not isinstance(record, Metric):
        raise ConfigError(f"metric {name!r} is {type(record).__name__}; it must be a disentanglement_challenge Metric")
    return record


def check_engine(name: str, engine: object) -> None:
    """Raise ConfigError if the value is not the name of an engine."""
    if engine == "exact":
        raise ConfigError(f"{name} is 'exact', a former name; it must be 'fast' now")
    check_choice(name, engine, ("fast", "library"))


def print_scores(scores: Scores) -> None:
    """Print the scores as a table, with further results and notes."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"{scores.data['name'] or 'codes and factors'}, {scores.engine} engine"
    table = Table(
        title=escape(title), caption=escape(scores.data["note"]), title_justify="left", caption_justify="left"
    )
    for column in ("metric", "score", "seconds"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    if scores.encoding_seconds:
        table.add_row("(encoding, for all)", "", f"{scores.encoding_seconds:.1f}")
    for name, score in scores.by_metric.items():
        table.add_row(escape(name), shown(score), f"{score.seconds:.1f}")
        for key, label in score.metric.beside.items():
            if key in score.results:
                table.add_row(f"  {escape(label)}", f"{score.results[key]:.4f}", "")
    console = Console(soft_wrap=True)
    console.print(table)
    for name, score in scores.by_metric.items():
        if score.value is None:
            print(f"no score of {name}: {score.reason}")
    for note in scores.warnings:
        print(note)


def shown(score: Score) -> str:
    """Format a score for tables: a count without decimals, "-" for none."""
    if score.value is None:
        return "-"
    return f"{score.value:.0f}" if isinstance(score.results.get(score.metric.key), int) else f"{score.value:.4f}"


def _heat_map(matrix: NDArray[np.float64], factor_names: list[str], is_count: bool) -> str:
    """Return a matrix as an HTML table, one row per latent; larger values are darker."""
    known = np.where(np.isfinite(matrix), matrix, -np.inf)
    shown = np.sort(np.argsort(-known.max(axis=1), kind="stable")[:_LATENTS_SHOWN])
    largest = max(float(known.max()), 1e-300)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in factor_names)
    body = ""
    for latent in shown:
        cells = ""
        for value in matrix[latent]:
            if np.isfinite(value):
                share = min(max(value / largest, 0.0), 1.0)
                ink = "#fff" if share > 0.55 else "#000"
                text = f"{value:.0f}" if is_count else f"{value:.2f}"
                cells += f"<td style='background:rgba(8,48,107,{share:.2f});color:{ink}'>{text}</td>"
            else:
                cells += "<td>-</td>"
        body += f"<tr><th>latent {latent}</th>{cells}</tr>"
    rest = f"<caption>{len(shown)} of {len(matrix)} latents</caption>" if len(shown) < len(matrix) else ""
    return f"<table>{rest}<tr><th></th>{head}</tr>{body}</table>"
