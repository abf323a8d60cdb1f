"""Encode pictures losslessly for embedding into a page."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image

# Perceptually uniform, and readable on light and dark.
COLOR_MAP = colormaps["viridis"]


@dataclass(frozen=True)
class Picture:
    """A picture embedded in a page.

    Attributes:
        source: a data URI.
        width, height: in pixels.
        alt: the text alternative for screen readers.
    """

    source: str
    width: int
    height: int
    alt: str


def picture(pixels: NDArray[np.uint8], alt: str) -> Picture:
    """Return pixels, uint8 [height, width, 1 or 3 channels], as a picture for a page."""
    height, width, channels = pixels.shape
    encoded = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).convert("RGB")
    image.save(encoded, "webp", lossless=True, quality=60, method=4)
    return Picture(f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}", width, height, alt)


def colors(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return the colour of each value between `low` and `high`, RGB in [0, 1], float64 [*shape, 3]; NaN is as `low`."""
    span = high - low
    return np.asarray(COLOR_MAP(np.nan_to_num((values - low) / (span if span > 0 else 1))))[..., :3]


def cell_style(value: float, low: float, high: float) -> str:
    """Return the CSS of a heat map's cell: its colour, with black or white text, whichever has more contrast."""
    if not np.isfinite(value):
        return ""
    color = colors(np.array(value), low, high)
    # Relative luminance (WCAG 2.2); black text has more contrast above 0.179.
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    ink = "#000" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "#fff"
    return f"background:{to_hex(tuple(color))};color:{ink}"


def overview(matrix: NDArray[np.float64], columns: int = 256, row_height: int = 14) -> NDArray[np.uint8]:
    """Draw a matrix [num_latent, num_factors] with a row for each factor and the latents from left to right.

    If there are more latents than columns, a column shows the maximum of several latents.

    Returns:
        uint8 [num_factors * row_height, at most `columns`, 3].
    """
    known = np.where(np.isfinite(matrix), matrix, -np.inf)
    edges = np.linspace(0, len(matrix), min(columns, len(matrix)) + 1).astype(int)
    pooled = np.maximum.reduceat(known, edges[:-1], axis=0)
    finite = matrix[np.isfinite(matrix)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    drawn = (255 * colors(np.where(np.isfinite(pooled), pooled, low), low, high)).round().astype(np.uint8)
    return drawn.transpose(1, 0, 2).repeat(row_height, axis=0)
