"""The tables in the documents are those of the sweeps in docs/tables."""

import json

import pytest
from conftest import ROOT

from benchmarks.precision import differences
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.results import read_results
from disentanglement_challenge.pages.tables import export, tables_of
from disentanglement_challenge.pages.text_table import as_markdown

TABLES = ROOT / "docs" / "tables"
RESULTS_PAGE = (ROOT / "docs" / "results.md").read_text()
PRECISION = read_results(TABLES / "precision.json")


def rows_of(table):
    """Return the lines of a table in Markdown, without its title and notes."""
    return "\n".join(line for line in as_markdown(table).splitlines() if line.startswith("|"))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_documented_tables_are_exports(tmp_path, number):
    results = read_results(TABLES / f"table{number}.json")
    export(results, tmp_path / "table.md")
    assert (TABLES / f"table{number}.md").read_text() == (tmp_path / "table.md").read_text()
    scores, _, published = tables_of(results)
    for table in (scores, published):
        assert rows_of(table) in RESULTS_PAGE


def test_the_expected_scores_in_the_readme_are_the_measured_ones():
    readme = (ROOT / "README.md").read_text()
    of_float32 = PRECISION.rows.index("float32")
    for seed, scores in zip(PRECISION.seeds, PRECISION.scores[of_float32], strict=True):
        assert f"| {seed} | {' | '.join(f'{score:.4f}' for score in scores)} |" in readme
    summaries = PRECISION.summaries(of_float32)
    assert f"| mean | {' | '.join(f'{summary.mean:.4f}' for summary in summaries)} |" in readme
    intervals = [summary.named()["95% t interval"] for summary in summaries]
    assert f"| its 95% t interval | {' | '.join(f'{low:.3f} to {high:.3f}' for low, high in intervals)} |" in readme


def test_the_differences_between_precisions_are_the_measured_ones():
    assert rows_of(tables_of(PRECISION)[0]) in RESULTS_PAGE
    assert rows_of(differences(PRECISION)) in RESULTS_PAGE


def test_the_scores_of_the_stage_1_winner_are_the_measured_ones():
    for steps, scores in json.loads((TABLES / "stage1.json").read_text())["scores"].items():
        assert f"| {int(steps):,} | {' | '.join(f'{scores[metric]:.4f}' for metric in METRICS)} |" in RESULTS_PAGE


def test_the_scores_after_one_step_are_the_measured_ones():
    for num_latent, scores in json.loads((TABLES / "untrained.json").read_text())["scores"].items():
        assert f"| {num_latent} latents | {' | '.join(f'{scores[metric]:.4f}' for metric in METRICS)} |" in RESULTS_PAGE
