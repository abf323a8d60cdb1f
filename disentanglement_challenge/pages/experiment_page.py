"""Draw the page of one experiment: scores, pictures, latents and factors, losses, and provenance."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from disentanglement_challenge.evaluation.scores import Scores, unofficial_note, written
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import write_text
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.figures import latent_activity, loss_curve, svg
from disentanglement_challenge.pages.pictures import Picture, cell_style, overview, picture
from disentanglement_challenge.pages.record import Curve, Record, read_record
from disentanglement_challenge.pages.results import LABELS
from disentanglement_challenge.pages.standing import published_notes, standing
from disentanglement_challenge.pages.templates import render
from disentanglement_challenge.training.pictures import Pictures, tiled

# Rows of a heat map; its overview shows all latents.
SHOWN_LATENTS = 20


def write_page(experiment: Experiment, path: Path | None = None) -> Path:
    """Draw an experiment's page, write it into the experiment's folder or to `path`, and return its path.

    Raises:
        DataError: the folder is not an experiment, or a file in it is damaged.
        OutputError: the page cannot be written.
    """
    page = experiment_page(read_record(experiment.path))
    path = experiment.page if path is None else path
    write_text(path, page)
    return path


def write_score_page(scores: Scores, name: str, path: Path) -> Path:
    """Draw the page of scores that belong to no experiment, write it to `path`, and return `path`.

    Raises:
        OutputError: the page cannot be written.
    """
    content = scores.to_dict()
    record = Record(
        path=Path(name),
        scores={key: np.nan if value is None else value for key, value in scores.items() if key in METRICS},
        metrics=content["metrics"],
        unofficial=written(scores.unofficial),
        notes=scores.notes,
        evaluation={
            "ground_truth_data": scores.data,
            "engine": scores.engine,
            "seconds": {"encoding": scores.encoding_seconds, **{key: s.seconds for key, s in scores.by_metric.items()}},
        },
        matrices=scores.matrices,
        dataset=scores.data["name"],
    )
    write_text(path, experiment_page(record, kind="Scores"))
    return path


def experiment_page(record: Record, kind: str = "Experiment") -> str:
    """Return the page as self-contained HTML."""
    if record.log is not None and not record.curves:
        reason = "There are no loss curves: training was stopped before it logged any losses."
        record = replace(record, missing=(*record.missing, reason))
    scores, more = _scores(record), _more(record)
    return render(
        "experiment.html.jinja",
        record=record,
        title=record.name,
        kind=kind,
        facts=_facts(record),
        scores=scores,
        published_notes=published_notes() if any(map(_has_doubtful_neighbour, scores)) else [],
        more=more,
        more_explained=any(row["reason"] or row["explanation"] for row in more),
        unofficial=_unofficial(record, of_five=True),
        unofficial_more=_unofficial(record, of_five=False),
        notes=record.notes,
        note=record.evaluation.get("ground_truth_data", {}).get("note", ""),
        pictures=_pictures(record.pictures) if record.pictures is not None else None,
        traversals=_traversals(record, record.pictures) if record.pictures is not None else [],
        matrices=[_heat_map(record, metric) for metric in record.matrices],
        holders=_holders(record),
        activity=_activity(record),
        curves=[_curve(index, *curve) for index, curve in enumerate(record.curves.items())],
        made_with=_made_with(record),
        shown_latents=SHOWN_LATENTS,
    )


def duration(seconds: float) -> str:
    """Format seconds in seconds, minutes or hours."""
    if seconds < 100 or not np.isfinite(seconds):
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _facts(record: Record) -> list[tuple[str, str]]:
    """Return the names and values of the summary at the top."""
    facts = []
    if record.model:
        facts.append(("objective", record.model))
    if record.dataset:
        facts.append(("data set", record.dataset))
    if record.steps is not None:
        facts.append(("training steps", f"{record.steps:,}"))
    if record.num_latent is not None:
        active = "" if record.num_active is None else f", {record.num_active:,} active"
        facts.append(("latents", f"{record.num_latent:,}{active}"))
    if record.seed is not None:
        facts.append(("seed", str(record.seed)))
    if "seconds" in record.losses:
        facts.append(("training took", duration(record.losses["seconds"])))
    if seconds := record.evaluation.get("seconds"):
        facts.append(("scoring took", duration(sum(seconds.values()))))
    if date := record.evaluation.get("date") or record.training.get("date"):
        facts.append(("date", datetime.fromisoformat(date).strftime("%-d %B %Y")))
    return facts


def _scores(record: Record) -> list[dict[str, Any]]:
    seconds = record.evaluation.get("seconds", {})
    return [
        {
            "metric": metric,
            "label": LABELS[metric],
            "value": value,
            "standing": standing(metric, value) if np.isfinite(value) else None,
            "reason": record.metrics.get(metric, {}).get("reason", ""),
            "seconds": seconds.get(metric),
        }
        for metric, value in (record.scores or {}).items()
    ]


def _has_doubtful_neighbour(score: dict[str, Any]) -> bool:
    place = score["standing"]
    return place is not None and any(row is not None and row.is_doubtful for row in (place.above, place.below))


def _unofficial(record: Record, of_five: bool) -> str:
    """Return the note on unofficial settings, of the challenge's five metrics or of the others."""
    names = {"evaluation.random_seed", *(name for metric in METRICS.values() for name in metric.settings)}
    settings = {name: value for name, value in record.unofficial.items() if (name in names) == of_five}
    return unofficial_note(settings) if settings else ""


def _more(record: Record) -> list[dict[str, Any]]:
    """Return the scores beside the challenge's five, and additional values of each metric."""
    rows = []
    for name, metric in record.metrics.items():
        if name not in (record.scores or {}) and name != "activity":
            rows.append({key: metric.get(key) for key in ("label", "value", "reason", "explanation")})
        for label, value in metric.get("beside", {}).items():
            rows.append({"label": label, "value": value, "reason": "", "explanation": ""})
    return rows


def _pictures(pictures: Pictures) -> dict[str, Picture]:
    grids = pictures.grids()
    difference = _difference(pictures.originals, pictures.reconstructions)
    spread = pictures.samples.std(axis=0).mean() / 255
    return {
        "reconstructions": picture(
            grids["reconstructions"],
            f"{len(pictures.originals)} originals in the upper row, their reconstructions in the lower one. "
            f"Intensities, from 0 to 1, differ by {difference:.3f} on average.",
        ),
        "samples": picture(
            grids["samples"],
            f"{len(pictures.samples)} pictures decoded from codes drawn from the prior. Over the pictures, a pixel's "
            f"intensity, from 0 to 1, has a standard deviation of {spread:.3f} on average.",
        ),
    }


def _traversals(record: Record, pictures: Pictures) -> list[dict[str, Any]]:
    importance = record.matrices.get("dci")
    low, high = pictures.values[[0, -1]]
    rows = []
    for latent, frames in zip(pictures.traversed, pictures.traversals, strict=True):
        change = _difference(frames[0], frames[-1])
        holds = None
        if importance is not None and importance[latent].max() >= 0.005:
            factor = int(importance[latent].argmax())
            holds = (record.factor_names[factor], importance[latent, factor])
        alt = (
            f"Latent {latent} from {low:g} to {high:g} in {len(frames)} pictures; its KL is {pictures.kl[latent]:.3f} "
            f"nats. Intensities, from 0 to 1, change by {change:.3f} on average from end to end."
        )
        strip = picture(tiled(frames[None]), alt)
        rows.append(
            {"latent": latent, "kl": pictures.kl[latent], "holds": holds, "strip": strip, "frames": len(frames)}
        )
    return rows


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference of intensities in [0, 1]."""
    return float(np.abs(one.astype(np.float64) - other).mean() / 255)


def _heat_map(record: Record, metric: str) -> dict[str, Any]:
    matrix, order = record.matrices[metric], record.order
    assert order is not None
    described = record.metrics.get(metric, {})
    title, explanation = (
        described.get("matrix_label") or described.get("label") or metric,
        described.get("explanation", ""),
    )
    finite = matrix[np.isfinite(matrix)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    digits = 0 if described.get("is_count") else 2
    best = _best_latents(matrix)
    # Also show the best latent of each factor if it comes later in the order.
    first = order[:SHOWN_LATENTS]
    others = [latent for latent in order[SHOWN_LATENTS:] if latent in best]

    def row(latent: int) -> dict[str, Any]:
        cells = [
            {
                "text": _number(value, digits) if np.isfinite(value) else "-",
                "style": cell_style(value, low, high),
                "is_best": best[factor] == latent,
            }
            for factor, value in enumerate(matrix[latent])
        ]
        return {"latent": int(latent), "cells": cells}

    sentences = [
        f"{name}: latent {latent} ({_number(matrix[latent, factor], digits)})"
        for factor, (name, latent) in enumerate(zip(record.factor_names, best, strict=True))
        if latent >= 0
    ]
    alt = f"{title} of all {len(matrix):,} latents, by {record.ordered_by} from left to right. Best for each factor: "
    return {
        "metric": metric,
        "title": title,
        "explanation": explanation,
        "low": _number(low, digits),
        "high": _number(high, digits),
        "rows": [row(latent) for latent in first],
        "others": [row(latent) for latent in others],
        "overview": picture(overview(matrix[order]), alt + "; ".join(sentences) + ".")
        if len(matrix) > SHOWN_LATENTS
        else None,
    }


def _number(value: float, digits: int) -> str:
    """Format a number, and drop the sign of a negative number that rounds to zero."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}"


def _best_latents(matrix: NDArray[np.float64]) -> list[int]:
    """Return the latent with the largest value for each factor; -1 if no value is known."""
    known = np.isfinite(matrix)
    best = np.where(known, matrix, -np.inf).argmax(axis=0)
    return [int(latent) if known[:, factor].any() else -1 for factor, latent in enumerate(best)]


def _holders(record: Record) -> list[dict[str, Any]]:
    """Return the best latent, its value, and the second best value for each factor and matrix."""
    table = []
    for factor, name in enumerate(record.factor_names):
        cells = []
        for metric, matrix in record.matrices.items():
            latent = _best_latents(matrix)[factor]
            column = np.sort(matrix[np.isfinite(matrix[:, factor]), factor])
            second = column[-2] if len(column) > 1 else None
            is_count = record.metrics.get(metric, {}).get("is_count", False)
            cells.append(
                {"latent": latent, "value": column[-1], "second": second, "is_count": is_count} if latent >= 0 else None
            )
        table.append({"factor": name, "cells": cells})
    return table if record.matrices else []


def _activity(record: Record) -> dict[str, Any] | None:
    if record.variance is None or record.order is None:
        return None
    kl = record.pictures.kl.astype(np.float64) if record.pictures is not None else None
    total, active = len(record.variance), int(record.num_active or 0)
    largest = int(record.variance.argmax())
    description = (
        f"{active} of {total} latents are active: their mean has a variance over images above {record.threshold:g}. "
        f"The largest is {record.variance[largest]:.3g}, of latent {largest}; the median is "
        f"{np.median(record.variance):.3g}."
    )
    if kl is not None:
        description += f" KL adds up to {kl.sum():.3g} nats, at most {kl.max():.3g} in one latent, {kl.argmax()}."
    figure = latent_activity(record.variance, kl, record.order, record.ordered_by, record.threshold)
    return {
        "active": active,
        "collapsed": total - active,
        "total": total,
        "threshold": record.threshold,
        "kl": None if kl is None else float(kl.sum()),
        "num_images": record.pictures.num_images if record.pictures is not None else None,
        "plot": Markup(svg(figure, "activity", description)),
    }


def _curve(index: int, name: str, curve: Curve) -> Markup:
    steps, values = curve
    finite = values[np.isfinite(values)]
    lowest = f"; the lowest is {finite.min():.5g}" if finite.size else ""
    description = (
        f"{name.replace('_', ' ')}: {values[0]:.5g} at step {steps[0]}, {values[-1]:.5g} at step {steps[-1]}{lowest}."
    )
    return Markup(svg(loss_curve(name, steps, values), f"curve-{index}", description))


def _made_with(record: Record) -> list[dict[str, Any]]:
    """Return the rows of the table that sets training beside scoring."""
    columns = (record.training, record.evaluation)
    rows: list[tuple[str, list[Any]]] = [
        ("Date (UTC)", [column.get("date", "").replace("T", " ").removesuffix("+00:00") for column in columns]),
        ("Took", [_took(record.losses.get("seconds")), _took(sum(record.evaluation.get("seconds", {}).values()))]),
        ("Seed", [record.seed, "one for each metric, 0 in the official settings" if record.evaluation else None]),
        ("Engine", [None, record.evaluation.get("engine")]),
    ]
    machines = [column.get("machine", {}) for column in columns]
    rows += [
        ("Processor", [machine.get("processor") for machine in machines]),
        ("Cores / threads", [_pair(machine.get("cores"), machine.get("threads")) for machine in machines]),
        ("Memory", [_gibibytes(machine.get("memory_bytes")) for machine in machines]),
        ("GPU", [(machine.get("gpu") or "none") if machine else None for machine in machines]),
        ("System", [machine.get("system") for machine in machines]),
    ]
    names = dict.fromkeys(name for column in columns for name in column.get("versions", {}))
    rows += [(name, [column.get("versions", {}).get(name) for column in columns]) for name in names]
    return [{"name": name, "values": values} for name, values in rows if any(value for value in values)]


def _took(seconds: float | None) -> str | None:
    return duration(seconds) if seconds else None


def _pair(one: Any, other: Any) -> str | None:
    return None if one is None else f"{one} / {other}"


def _gibibytes(number: int | None) -> str | None:
    return None if number is None else f"{number / 2**30:.0f} GiB"
