"""Draw plots as SVG; lines and text use the page's colours and fonts, so they suit a light and a dark page."""

import io
import re
import warnings
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from disentanglement_challenge.pages.results import LABELS
from disentanglement_challenge.pages.statistics import summarise
from disentanglement_challenge.pages.templates import encodable

# Placeholder colours for matplotlib; `svg` replaces each with a variable of the style sheet.
INK, MUTED, LINE, ACCENT, SECOND = "#010203", "#020304", "#030405", "#040506", "#050607"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", ACCENT: "--accent", SECOND: "--second"}
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",
    "text.parse_math": False,  # names come from users
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "lines.linewidth": 1.4,
}


def svg(figure: Figure, name: str, description: str) -> str:
    """Return the figure as an <svg> element for a page.

    Args:
        figure: a figure drawn under `_STYLE`.
        name: the prefix of the identifiers, unique on the page.
        description: the text alternative for screen readers.
    """
    drawn = io.StringIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        # The browser supplies the fonts, so matplotlib's may lack glyphs; a lack of room is visible in the picture.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    # Drop the size in points: the style sheet sets the size.
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert size is not None
    opening = f'<svg role="img" aria-label="{escape(description)}" viewBox="{size.group()[9:-1]}" class="plot">'
    return opening + text[text.index(">") + 1 :]


def loss_curve(name: str, steps: NDArray[np.int64], values: NDArray[np.float64]) -> Figure:
    """Draw one loss over the training steps."""
    with rc_context(_STYLE):
        figure, axes = _panel(3.4, 1.9)
        axes.plot(steps, values, color=ACCENT, marker="o" if len(steps) < 3 else None, markersize=3)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y")
    return figure


def latent_activity(
    variance: NDArray[np.float64],
    kl: NDArray[np.float64] | None,
    order: NDArray[np.int64],
    ordered_by: str,
    threshold: float,
) -> Figure:
    """Draw each latent's variance, and its KL if known, in the given order, on a logarithmic axis."""
    with rc_context(_STYLE):
        figure, axes = _panel(4.6, 2.4)
        places = np.arange(1, len(order) + 1)
        # A logarithmic axis has no zero: draw a latent without variance at the lower edge.
        floor = 1e-8
        # Lines between hundreds of latents would hide the points.
        few = len(order) <= 64
        style: dict[str, Any] = {"marker": "o", "markersize": 4 if few else 1.6, "linewidth": 0.8 if few else 0}
        if kl is not None:
            axes.plot(places, np.maximum(kl[order], floor), color=SECOND, label="KL (nats)", **style)
        axes.plot(places, np.maximum(variance[order], floor), color=ACCENT, label="variance of the mean", **style)
        axes.axhline(threshold, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(
            0.01,
            threshold * 0.85,
            f"active above {threshold:g}",
            va="top",
            color=MUTED,
            transform=axes.get_yaxis_transform(),
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlabel(f"latents by {ordered_by}, the largest first")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.grid(axis="y")
        axes.legend(
            frameon=False,
            fontsize=8,
            labelcolor=MUTED,
            markerscale=1 if few else 3,
            loc="upper right",
            bbox_to_anchor=(1, 1.12),
            ncols=2,
        )
    return figure


def scores_of_groups(labels: Sequence[str], scores: Sequence[NDArray[np.float64]], metric: str) -> Figure:
    """Draw one metric: a row for each configuration, a dot for each run, a bar at the mean, a line for its t interval.

    Args:
        labels: the names of the configurations.
        scores: the scores of each configuration's runs in this metric, float64 [num_runs].
        metric: one of METRICS.
    """
    with rc_context(_STYLE):
        figure, axes = _panel(3.4, 0.75 + 0.26 * len(labels))
        for row, summary in enumerate(map(summarise, scores)):
            known = summary.values
            axes.plot(known, np.full(len(known), row), "o", color=ACCENT, alpha=0.55, markersize=5, markeredgewidth=0)
            if summary.mean is not None:
                axes.plot([summary.mean], [row], "|", color=INK, markersize=11, markeredgewidth=1.6)
            if summary.interval is not None:
                axes.hlines(row, *summary.interval, color=INK, linewidth=1)
        shown = [encodable(label if len(label) <= 24 else f"{label[:23]}…") for label in labels]
        axes.set_yticks(range(len(labels)), shown)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_title(LABELS[metric])
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x")
        axes.set_xlim(left=0)
    return figure


def _panel(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
