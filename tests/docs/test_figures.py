"""The figures of the default run in the documents are those of the sweep that they name."""

from conftest import ROOT

from benchmarks.precision import differences
from disentanglement_challenge.pages.results import read_results
from disentanglement_challenge.pages.tables import tables_of
from disentanglement_challenge.pages.text_table import as_markdown

RESULTS = read_results(ROOT / "docs" / "tables" / "precision.json")


def rows_of(table):
    """Return the lines of a table in Markdown, without its title and notes."""
    return "\n".join(line for line in as_markdown(table).splitlines() if line.startswith("|"))


def test_the_expected_scores_in_the_readme_are_the_measured_ones():
    readme = (ROOT / "README.md").read_text()
    of_float32 = RESULTS.rows.index("float32")
    for seed, scores in zip(RESULTS.seeds, RESULTS.scores[of_float32], strict=True):
        assert f"| {seed} | {' | '.join(f'{score:.4f}' for score in scores)} |" in readme
    summaries = RESULTS.summaries(of_float32)
    assert f"| mean | {' | '.join(f'{summary.mean:.4f}' for summary in summaries)} |" in readme
    intervals = [summary.named()["95% t interval"] for summary in summaries]
    assert f"| its 95% t interval | {' | '.join(f'{low:.3f} to {high:.3f}' for low, high in intervals)} |" in readme


def test_the_differences_between_precisions_are_the_measured_ones():
    page = (ROOT / "docs" / "results.md").read_text()
    assert rows_of(tables_of(RESULTS)[0]) in page
    assert rows_of(differences(RESULTS)) in page
