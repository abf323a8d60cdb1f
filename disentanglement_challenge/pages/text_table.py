"""Format a table for a terminal, as LaTeX, or as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.markup import escape
from rich.table import Table

# https://ctan.org/pkg/comprehensive, "LaTeX special characters".
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
# Characters that end a cell, or begin a code span, HTML, emphasis or a link.
_MARKDOWN = {character: f"\\{character}" for character in "\\|`<*_[]"}


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        cells: the text of each column; the first is the name of the line.
        is_detail: whether the line gives details of the one above it.
        is_best: whether the line is highlighted.
    """

    cells: Sequence[str]
    is_detail: bool = False
    is_best: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes:
        title: one or more sentences, each on its own line.
        columns: the headings; the first column holds names, the others numbers.
        lines: the lines from top to bottom.
        notes: sentences below the table.
    """

    title: Sequence[str]
    columns: Sequence[str]
    lines: Sequence[Line]
    notes: Sequence[str] = field(default_factory=list)

    @property
    def has_details(self) -> bool:
        """Return whether any line is a detail; then rules separate the main lines."""
        return any(line.is_detail for line in self.lines)


def as_rich(table: TextTable) -> Table:
    """Return the table for a rich console."""
    shown = Table(
        title=escape("\n".join(table.title)),
        caption=escape("\n".join(table.notes)),
        title_justify="left",
        caption_justify="left",
    )
    for number, heading in enumerate(table.columns):
        shown.add_column(escape(heading), justify="right" if number else "left")
    for line in table.lines:
        if table.has_details and not line.is_detail:
            shown.add_section()
        name, *numbers = line.cells
        shown.add_row(
            escape(f"  {name}" if line.is_detail else name),
            *map(escape, numbers),
            style="bold" if line.is_best else None,
        )
    return shown


def as_latex(table: TextTable) -> str:
    """Return a table environment of plain LaTeX, which needs no package."""
    caption = " ".join(f"{_latex(sentence).rstrip('.')}." for sentence in (*table.title, *table.notes))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\hline",
        rf"{' & '.join(map(_latex, table.columns))} \\",
        *([] if table.has_details else [r"\hline"]),
    ]
    for line in table.lines:
        cells = [_latex(cell) for cell in line.cells]
        if line.is_best:  # only the name: a bold number would look like the best of its column
            cells[0] = rf"\textbf{{{cells[0]}}}"
        if line.is_detail:
            cells[0] = rf"\quad {cells[0]}"
        elif table.has_details:
            lines.append(r"\hline")
        lines.append(rf"{' & '.join(cells)} \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", r"\end{table}"]) + "\n"


def as_markdown(table: TextTable) -> str:
    """Return a table in GitHub's Markdown (https://github.github.com/gfm/#tables-extension-)."""
    lines = [
        _markdown_line(map(_markdown, table.columns)),
        _markdown_line(["---", *["---:"] * (len(table.columns) - 1)]),
    ]
    for line in table.lines:
        cells = [_markdown(cell) for cell in line.cells]
        if line.is_best:
            cells[0] = f"**{cells[0]}**"
        if line.is_detail:
            cells[0] = f"*{cells[0]}*"
        lines.append(_markdown_line(cells))
    title = "\n".join(f"{_markdown(sentence).rstrip('.')}." for sentence in table.title)
    notes = "\n".join(f"- {_markdown(sentence)}" for sentence in table.notes)
    return "\n\n".join(filter(None, [title, "\n".join(lines), notes])) + "\n"


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _markdown(text: str) -> str:
    return "".join(_MARKDOWN.get(character, character) for character in text)
