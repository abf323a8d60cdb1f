"""Draw a sweep's table beside the report's."""

import numpy as np
from matplotlib.figure import Figure

from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.results import LABELS, Results


def plot(results: Results) -> Figure:
    """Draw a panel for each metric, with the rows along its axis; panels below them show the published scores.

    Every seed is a point. The mean is drawn from three seeds, its t interval from five.
    """
    is_published = bool(np.isfinite(results.published).any())
    figure = Figure(figsize=(15, 5.8 if is_published else 3.4), layout="constrained")
    panels = figure.subplots(1 + is_published, len(METRICS), sharex=True, squeeze=False)
    places = np.arange(len(results.rows))
    # A line connects rows only if their names begin with a number.
    line = "-" if all(row[0].isdigit() for row in results.rows) else ""
    summaries = [results.summaries(row) for row in range(len(results.rows))]
    for index, (panel, metric) in enumerate(zip(panels[0], METRICS, strict=True)):
        scores = results.scores[:, :, index]
        # Draw seeds beside one another, so that equal scores remain distinguishable.
        offsets = np.linspace(-0.12, 0.12, len(results.seeds)) if len(results.seeds) > 1 else [0.0]
        for offset, of_seed in zip(offsets, scores.T, strict=True):
            panel.plot(places + offset, of_seed, "o", color="#1f77b4", alpha=0.45, markersize=5, label="a seed")
        of_metric = [of_row[index] for of_row in summaries]
        means = [np.nan if summary.mean is None else summary.mean for summary in of_metric]
        if np.isfinite(means).any():
            panel.plot(places, means, f"_{line}", color="#1f77b4", markersize=14, label="their mean")
        intervals = [(place, *summary.interval) for place, summary in enumerate(of_metric) if summary.interval]
        if intervals:
            panel.vlines(*np.transpose(intervals), color="#1f77b4", label="its 95% t interval")
        panel.set_title(LABELS[metric])
        if is_published:
            published = results.published[:, index]
            panels[1, index].plot(places, published, f"x{line}", color="#b5651d", linewidth=1, label="as published")
    for panel in panels.flat:
        highest = panel.dataLim.y1
        panel.set_ylim(0, 1.1 * highest if highest > 0 else None)  # by the height, as few scores lie close together
        panel.grid(axis="y", alpha=0.3)
    for panel in panels[-1]:
        panel.set_xticks(places, results.labels, rotation=40, ha="right", fontsize=8)
    # Collect the legend from all panels, as each may lack an entry.
    named = [panel.get_legend_handles_labels() for panel in figure.axes]
    entries = {label: handle for handles, labels in named for handle, label in zip(handles, labels, strict=True)}
    figure.suptitle(". ".join(results.title), fontsize=10)
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure
