"""Draw the embedded data set on one page: a row for each factor, a picture for each of its values.

    python -m disentanglement_challenge.pages.contact_sheet [FILE]

writes docs/contact_sheet.png, or FILE. The pictures are rendered for the page, with the values of
`mpi3d_embedded_full` and six positions of each 40-step axis.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from disentanglement_challenge.cli import Parser, run_script
from disentanglement_challenge.data import scene
from disentanglement_challenge.data.embedded import FACTOR_NAMES, SIZES
from disentanglement_challenge.errors import OutputError

_TABLES = (scene.COLORS, scene.SHAPES, scene.SIZES, scene.CAMERAS, scene.BACKGROUNDS)
# The values of the other factors while one changes: a large red cube on purple, seen from the centre.
_REST = [2, 1, 1, 1, 0, 33, 22]
_COLUMNS = 6

_TILE, _GAP, _LABEL_WIDTH, _CAPTION, _TITLE = 136, 8, 160, 20, 34
_PAPER, _INK = (255, 255, 255), (30, 30, 34)


def draw_contact_sheet() -> Image.Image:
    """Return the page, about 1000 pixels wide."""
    sizes = SIZES["mpi3d_embedded_full"]
    width = _LABEL_WIDTH + _COLUMNS * (_TILE + _GAP)
    height = _TITLE + len(FACTOR_NAMES) * (_TILE + _CAPTION + _GAP)
    page = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(page)
    title, label, caption = (ImageFont.load_default(size) for size in (17, 16, 14))
    draw.text((_GAP, 8), "mpi3d_embedded_full: a rendered stand-in for MPI3D", _INK, title)
    for row, name in enumerate(FACTOR_NAMES):
        top = _TITLE + row * (_TILE + _CAPTION + _GAP)
        draw.text((_GAP, top + _TILE // 2 - 20), f"{name}\n{sizes[row]} values", _INK, label)
        positions = np.linspace(0, sizes[row] - 1, min(sizes[row], _COLUMNS)).round().astype(int)
        factors = np.tile(_REST, (len(positions), 1))
        factors[:, row] = positions
        images = scene.render(factors[:, :5], factors[:, 5:] / (np.array(sizes[5:]) - 1))
        for column, (position, image) in enumerate(zip(positions, images, strict=True)):
            left = _LABEL_WIDTH + column * (_TILE + _GAP)
            page.paste(Image.fromarray(image).resize((_TILE, _TILE), Image.Resampling.LANCZOS), (left, top))
            value = list(_TABLES[row])[position] if row < len(_TABLES) else f"step {position}"
            draw.text((left + 2, top + _TILE + 2), value, _INK, caption)
    return page


def main() -> None:
    parser = Parser(description="Draw the contact sheet of the embedded data set.")
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/contact_sheet.png"), help="the PNG to write")
    path = parser.parse_args().file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_contact_sheet().save(path, optimize=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    print(path)


if __name__ == "__main__":
    run_script(main, debug=False)
