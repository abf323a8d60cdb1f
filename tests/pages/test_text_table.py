"""A table's text, read back by Markdown's own parser, and as a LaTeX source must be."""

import re
from itertools import pairwise

from markdown_it import MarkdownIt
from rich.console import Console

from disentanglement_challenge.pages.text_table import Line, TextTable, as_latex, as_markdown, as_rich

ODD = r"a|b_c*d\e`f<g>[h](i) & 50% $x^2$ #1 ~{j}"
TABLE = TextTable(
    title=[f"Title of {ODD}", "second sentence."],
    columns=["", "first", "sec_ond"],
    lines=[
        Line(["row", "1.0", ODD], is_best=True),
        Line(["range of 3 seeds", "0.1 to 0.2", ""], is_detail=True),
        Line([ODD, "-", "2.0 *"]),
    ],
    notes=[f"note on {ODD}", "another"],
)
CELLS = [["", "first", "sec_ond"], ["row", "1.0", ODD], ["range of 3 seeds", "0.1 to 0.2", ""], [ODD, "-", "2.0 *"]]


def text_of(token):
    """What a reader sees of a piece of Markdown."""
    return "".join(child.content for child in token.children if child.type in ("text", "code_inline", "text_special"))


def test_markdown_says_what_the_table_does():
    tokens = MarkdownIt("commonmark").enable("table").parse(as_markdown(TABLE))
    rows, seen = [], []
    for before, token in pairwise(tokens):
        if before.type == "tr_open":
            rows.append([])
        if token.type == "inline":
            (rows[-1] if before.type in ("th_open", "td_open") else seen).append(text_of(token))
    assert rows == CELLS
    assert seen == [f"Title of {ODD}.second sentence.", f"note on {ODD}", "another"]
    strong = [token for token in tokens if token.type == "inline" and "strong_open" in {c.type for c in token.children}]
    assert [text_of(token) for token in strong] == ["row"]


def unescaped(latex):
    """The text that LaTeX sets: its commands for characters undone."""
    for command, character in {
        r"\textbackslash{}": "\0", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
        r"\textgreater{}": ">",
    }.items():  # fmt: skip
        latex = latex.replace(command, character)
    return re.sub(r"\\([&%$#_{}])", r"\1", latex).replace("\0", "\\")


def test_latex_says_what_the_table_does():
    text = as_latex(TABLE)
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == (r"\begin{table}", r"\end{table}")
    assert r"\begin{tabular}{lrr}" in lines
    rows = [line.removesuffix(r" \\") for line in lines if line.endswith(r" \\")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)&", row)] for row in rows]
    assert cells[1][:2] == [r"\textbf{row}", "1.0"]
    assert [unescaped(cell) for cell in cells[3]] == CELLS[3]
    assert unescaped(cells[1][2]) == ODD
    assert cells[2] == [r"\quad range of 3 seeds", "0.1 to 0.2", ""]
    # No character that would end the line, a cell or the paragraph is left as it is.
    body = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}", "", " ".join(cells[3]))
    assert not set(body) & set("&%$#_{}~^\\")
    for opening in re.findall(r"\\begin\{(\w+)\}", text):
        assert rf"\end{{{opening}}}" in text
    assert unescaped(text).count(ODD) == 4


def test_a_terminal_shows_it_and_obeys_nothing_in_it():
    console = Console(width=200, record=True)
    odd = TextTable(["[red]title[/red]"], ["", "n"], [Line(["[bold]x", "[/nothing]"])], ["[/note]"])
    console.print(as_rich(odd))
    text = console.export_text()
    for said in ("[red]title[/red]", "[bold]x", "[/nothing]", "[/note]"):
        assert said in text


def test_only_a_table_with_details_has_rules_between_its_rows():
    plain = TextTable(["t"], ["", "n"], [Line(["a", "1"]), Line(["b", "2"])])
    assert as_latex(plain).count(r"\hline") == 3
    assert as_latex(TABLE).count(r"\hline") == 4
