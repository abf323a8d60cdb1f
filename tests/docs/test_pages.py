"""The README and the pages in docs/: their code runs, their links lead somewhere, and what they list is complete."""

import re
import shlex
from contextlib import closing
from importlib import import_module

import pytest
from blocks import LANGUAGES, NOT_CODE, PAGES, blocks, prose
from conftest import ROOT
from pages import NOT_RUN, NUM_NOT_RUN, Runner, not_run, sections

from disentanglement_challenge.gin_checks import check_names
from disentanglement_challenge.gin_text import read_statements
from disentanglement_challenge.metrics import RECORDS
from disentanglement_challenge.sweep.selection import parse as parse_selection

README = ROOT / "README.md"
OTHERS = [path for path in PAGES if path.name != "extending.md"]
CODE = [(str(path.relative_to(ROOT)), section) for path in OTHERS for section in sections(str(path.relative_to(ROOT)))]


@pytest.fixture(scope="module")
def runner(embedded_data_path):
    with closing(Runner(embedded_data_path)) as runner:
        yield runner


@pytest.mark.processes
@pytest.mark.parametrize(("page", "section"), CODE)
def test_the_code_runs(runner, page, section, tmp_path):
    runner.run(page, section, tmp_path)


def test_every_block_is_of_a_language_that_is_tested():
    assert {block.language for block in blocks()} <= {*LANGUAGES, *NOT_CODE}


def test_what_is_not_run_is_counted_and_there():
    assert sorted(key for block in blocks() for key in not_run(block)) == sorted(NOT_RUN), "one block for each"
    assert len(NOT_RUN) == NUM_NOT_RUN


def lines_not_run():
    for block in blocks():
        if not_run(block):
            yield from block.text.replace("\\\n", " ").split("\n")


def commands_not_run():
    """Their words, without variables in front."""
    for line in lines_not_run():
        words = shlex.split(line, comments=True)
        while words and "=" in words[0]:
            del words[0]
        if words[:1] == ["python"]:
            yield words


@pytest.mark.parametrize("words", list(commands_not_run()), ids=" ".join)
def test_flags_of_what_is_not_run_are_known(words, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from run import make_parser

    monkeypatch.chdir(tmp_path)
    for block in blocks():
        if block.file and block.language == "gin":
            (tmp_path / block.file).write_text(block.text)
    match words[1:]:
        case ["run.py", *flags]:
            parsed = make_parser().parse_args(flags)
        case ["-m", "disentanglement_challenge.sweep", "select", *flags]:
            parsed = parse_selection(flags)
        case ["-m", module, *flags]:
            parsed = import_module(f"{module}.__main__").parse(flags)
            assert all(list((ROOT / table).glob("*.gin")) for table in getattr(parsed, "tables", ()))
    files, bindings = (getattr(parsed, name, None) or [] for name in ("gin_config", "gin_bindings"))
    check_names(read_statements(files, bindings))


def anchors(path):
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "path", [*PAGES, ROOT / "benchmarks" / "README.md", ROOT / "CHANGELOG.md"], ids=lambda p: p.name
)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_the_readme_is_short():
    words = [line for line in prose(README).split("\n") if not line.startswith("|")]
    assert len(" ".join(words).split()) <= 1100


def test_every_page_is_linked_from_the_readme():
    for path in PAGES[1:]:
        assert f"({path.relative_to(ROOT)})" in README.read_text()


def test_every_metric_is_listed():
    page = (ROOT / "docs" / "scores-and-speed.md").read_text()
    table = page[page.index("## The metrics") : page.index("## Rows that")]
    listed = {
        name for row in re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert listed == set(RECORDS)
    assert f"{len(RECORDS)} metrics" in README.read_text()


def test_the_tree_names_what_is_there():
    (tree,) = [block.text for block in blocks() if block.page == "README.md" and block.language == "text"]
    named = set(re.findall(r"[\w.*-]+/?(?=[,\s])", tree))
    for path in [*ROOT.glob("*.py"), *ROOT.glob("*.sh"), *(ROOT / "disentanglement_challenge").glob("*/__init__.py")]:
        name = f"{path.parent.name}/" if path.name == "__init__.py" else path.name
        assert name in named, name


def test_no_page_has_words_that_are_gone():
    for path in PAGES:
        assert not re.search(r"\bengine `?\"?'?exact|gin/metrics|report/|exact engine", path.read_text()), path
