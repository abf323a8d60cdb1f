import argparse
import csv
import io
import json
from pathlib import Path

import gin
import numpy as np
import pytest
from conftest import ROOT
from messages import facts
from PIL import Image
from rich.console import Console

import disentanglement_challenge.training.run  # noqa: F401 (what the gin files configure)
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.environment import GIN_FOLDER
from disentanglement_challenge.errors import ConfigError, DataError
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.results import published_tables, read_results
from disentanglement_challenge.pages.statistics import average_ranks
from disentanglement_challenge.pages.table_plot import plot
from disentanglement_challenge.pages.tables import main, shown

RUN = {"row": "a", "seed": 0, "training_steps": 7, "dataset": "d", "config": ""}


def write_results(path, table, scores):
    """results.json of runs given as {(row, seed): five scores}."""
    runs = [
        {
            **RUN,
            "row": row,
            "seed": seed,
            "config": f"encoder.name = {row!r}",
            "scores": dict(zip(METRICS, values, strict=True)),
        }
        for (row, seed), values in scores.items()
    ]
    path.write_text(json.dumps({"table": table, "runs": runs}))
    return path


def printed(results):
    console = Console(width=200, record=True)
    console.print(shown(results))
    return console.export_text()


def test_the_published_winner_of_stage_2_is_the_gin_file_s():
    rows = published_tables()["table3"]["rows"]
    scores = np.array([list(row["scores"].values()) for row in rows.values()])
    winner = list(rows)[average_ranks(scores).argmin()]
    with gin_configuration(["stage2.gin"]):
        assert str(gin.query_parameter("encoder.num_latent")) == winner == "512"


def test_every_published_row_has_its_gin_file_and_the_reverse():
    for table, content in published_tables().items():
        assert {file.stem for file in (GIN_FOLDER / table).glob("*.gin")} == set(content["rows"])
        for row in content["rows"].values():
            assert list(row["scores"]) == list(METRICS)


def test_the_rows_that_the_report_gets_wrong_are_kept_and_remarked_upon():
    table = published_tables()["table1"]
    rows = {name: list(row["scores"].values()) for name, row in table["rows"].items()}
    assert rows["annealed_vae"] == rows["beta_vae"]
    for row in ("dip_vae", "beta_tc_vae"):
        assert rows[row][0] == rows[row][3]
    assert "misaligned" in table["notes"][0]


def test_scores_ranks_and_trainings_are_read(tmp_path):
    first, second = [0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.2, 0.1, 0.0, 0.9]
    results = read_results(
        write_results(
            tmp_path / "r.json", "mine", {("a", 0): first, ("a", 1): second, ("b", 0): second, ("b", 1): first}
        )
    )
    assert (results.rows, results.seeds, results.steps) == (["a", "b"], [0, 1], [7, 7])
    np.testing.assert_array_equal(results.scores, [[first, second], [second, first]])
    wide = {(row, 0): first for row in ("1024", "256", "512")}  # sorted as text, as a sweep's records are
    assert read_results(write_results(tmp_path / "wide.json", "mine", wide)).rows == ["256", "512", "1024"]
    # a is first in metrics 3 and 4 under seed 0, b in 1 and 5; under seed 1 it is the other way round.
    np.testing.assert_allclose(results.ranks().by_seed, [[1.5, 1.5], [1.5, 1.5]])


def cells_of(text):
    """The cells of each line of the tables that a terminal shows, by the line's name."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    return {name: cells for name, *cells in lines}


@pytest.mark.parametrize(
    ("num_seeds", "headline", "detail", "note"),
    [
        (1, "0.1000", None, "One seed: without a spread over seeds this is not a result"),
        (2, "0.1000, 0.2000", None, "Two seeds: their values"),
        (3, "0.2000", ("range of 3 seeds", "0.100 to 0.300"), "not a confidence interval"),
        (5, "0.3000", ("95% t interval", "0.104 to 0.496"), "its 95% t interval"),
        (8, "0.4500", ("interquartile mean", "0.4500"), "its 95% t interval"),
        (10, "0.5500", ("its 95% bootstrap interval", "0.350 to 0.750"), "the interquartile mean's by the bootstrap"),
    ],
)
def test_the_table_says_what_so_many_seeds_can_bear(tmp_path, num_seeds, headline, detail, note):
    scores = {("a", seed): [0.1 * (seed + 1)] * 5 for seed in range(num_seeds)}
    text = printed(read_results(write_results(tmp_path / "r.json", "mine", scores)))
    cells = cells_of(text)
    assert cells["a"][:5] == [headline] * 5
    assert note in " ".join(text.split())
    assert "±" not in text
    if detail is None:
        assert not [name for name in cells if name not in ("", "a")]
    elif "bootstrap" in detail[0]:
        # Its ends depend on the draw.
        ends = [float(end) for end in cells[detail[0]][0].split(" to ")]
        assert ends == pytest.approx([float(end) for end in detail[1].split(" to ")], abs=0.05)
    else:
        assert cells[detail[0]][:5] == [detail[1]] * 5


def test_the_table_says_which_row_comes_first_and_how_surely(tmp_path):
    low, high = [0.1] * 5, [0.2] * 5
    scores = {("512", 0): high, ("512", 1): high, ("512", 2): low, ("256", 0): low, ("256", 1): low, ("256", 2): high}
    text = printed(read_results(write_results(tmp_path / "r.json", "table3", scores)))
    cells = cells_of(text.split("Wins of")[0])
    assert cells["512 latents"][-2:] == ["1.3 *", "2 of 3"]
    assert cells["256 latents"][-2:] == ["1.7", "1 of 3"]
    assert cells["range of 3 seeds"][-2] == "1.0 to 2.0"


def test_wins_are_of_all_pairs_of_seeds(tmp_path):
    scores = {("a", seed): [0.5 + seed] * 5 for seed in range(3)} | {("b", seed): [0.1] * 5 for seed in range(3)}
    text = printed(read_results(write_results(tmp_path / "r.json", "mine", scores)))
    assert cells_of(text)["a over b"] == ["9 of 9"] * 5
    assert (
        "5 are all or none, such as 9 of 9. This is not a significance test: if no two rows differed, about 0.5 of"
        in " ".join(text.split())
    )
    assert "significant" not in text


def test_rows_that_differ_in_steps_alone_are_paired(tmp_path):
    path = write_results(tmp_path / "r.json", "mine", {(row, seed): [0.1] * 5 for row in "abc" for seed in range(3)})
    content = json.loads(path.read_text())
    for run in content["runs"]:
        steps, gamma = {"a": (10, 6.0), "b": (20, 6.0), "c": (20, 7.0)}[run["row"]]
        run["config"] = (
            f"model.training_steps = {steps}\nmodel.random_seed = {run['seed']}\nfactor_vae.gamma = {gamma}\n"
            f"pictures.every_steps = {steps}\n"
        )
    path.write_text(json.dumps(content))
    cells = cells_of(printed(read_results(path)))
    assert cells["a over b (paired, dependent)"] == ["1.5 of 3"] * 5
    assert cells["a over c"] == cells["b over c"] == ["4.5 of 9"] * 5


def test_the_sweeps_own_table_2_is_one_training_and_table_1_is_not():
    folder = ROOT / "docs" / "tables"
    assert len(set(read_results(folder / "table2.json").trainings)) == 1
    assert len(set(read_results(folder / "table1.json").trainings)) == 6
    assert len(set(read_results(folder / "table3.json").trainings)) == 7


def test_what_is_published_stands_apart_with_its_source_and_its_own_ranks(tmp_path):
    rows = published_tables()["table3"]["rows"]
    ranks = average_ranks(np.array([list(row["scores"].values()) for row in rows.values()]))
    text = printed(read_results(write_results(tmp_path / "r.json", "table3", {("256", 0): [0.2] * 5})))
    here, published = text.split("As published, not run here")
    assert "0.4458" not in here
    assert "Disentanglement Challenge: From Regularization to Reconstruction" in " ".join(published.split())
    cells = cells_of(published)
    assert [cells[row["label"]][0] for row in rows.values()] == [
        f"{row['scores']['factor_vae_metric']:.4f}" for row in rows.values()
    ]
    assert cells["256 latents"][-1] == f"{ranks[list(rows).index('256')]:.1f}"
    assert cells["512 latents"][-1] == f"{ranks.min():.1f} *"


@pytest.mark.filterwarnings("error")
def test_what_is_missing_is_said_and_only_whole_rows_are_ranked(tmp_path):
    high, low = [0.3] * 5, [0.2] * 5
    no_mig = [float("nan") if metric == "mig" else 0.4 for metric in METRICS]
    scores = {("a", 0): high, ("b", 0): low, ("b", 1): low, ("c", 0): no_mig, ("c", 1): no_mig}
    text = printed(read_results(write_results(tmp_path / "r.json", "mine", scores)))
    cells = cells_of(text)
    assert cells["a (1 of 2 seeds)"][-2:] == ["1.0 *", "1 of 1"]
    assert cells["b"][-2:] == ["2.0", "0 of 1"]
    assert cells["c"] == ["0.4000, 0.4000"] * 4 + ["-", "-", "-"]
    assert "nan" not in text
    assert "Scores are missing: ranks are of 1 of 2 seeds" in text
    assert "One seed" not in text


@pytest.mark.filterwarnings("error")
def test_nothing_is_ranked_without_a_seed_that_all_rows_have(tmp_path):
    text = printed(read_results(write_results(tmp_path / "r.json", "mine", {("a", 0): [0.1] * 5, ("b", 1): [0.2] * 5})))
    assert "Nothing is ranked: no seed has all scores of every row" in text
    assert [cells[-2:] for name, cells in cells_of(text).items() if name[:1] in ("a", "b")] == [["-", "-"]] * 2


def exported(tmp_path, suffix, scores):
    path = write_results(tmp_path / "r.json", "table3", scores)
    main(argparse.Namespace(results=path, plot=None, export=[tmp_path / f"out{suffix}"]))
    return (tmp_path / f"out{suffix}").read_text()


SCORES = {(row, seed): [0.1 * seed + 0.01 * int(row) / 256] * 5 for row in ("256", "512") for seed in range(5)}


def test_latex_and_markdown_have_what_the_terminal_shows(tmp_path, capsys):
    shown = {}
    for suffix in (".tex", ".md"):
        shown[suffix] = exported(tmp_path, suffix, SCORES)
    for name, cells in cells_of(printed(read_results(tmp_path / "r.json"))).items():
        for cell in filter(None, (name, *cells)):
            assert cell.replace("%", r"\%") in shown[".tex"], cell
            assert cell.replace("*", r"\*") in shown[".md"], cell
    assert shown[".tex"].count(r"\begin{table}") == 3


def test_csv_has_every_number(tmp_path, capsys):
    lines = list(csv.DictReader(io.StringIO(exported(tmp_path, ".csv", SCORES))))
    assert not [line for line in lines if line["row"] not in ("256", "512")]
    values = {
        (line["row"], line["against"], line["metric"], line["statistic"]): [
            float(line[part]) for part in ("count", "value", "low", "high") if line[part]
        ]
        for line in lines
    }
    results = read_results(tmp_path / "r.json")
    for seed in range(5):
        assert values["512", "", "mig", f"seed {seed}"] == [1, SCORES["512", seed][4]]
    of_seeds = np.array([SCORES["512", seed][4] for seed in range(5)])
    assert values["512", "", "mig", "mean"] == [5, pytest.approx(of_seeds.mean())]
    assert values["512", "", "mig", "95% t interval"][1:] == pytest.approx(results.summaries(1)[4].interval)
    assert values["512", "", "mean_rank", "first"] == [5, 5]
    assert values["256", "", "mean_rank", "range of 5 seeds"] == [5, 2, 2]
    assert values["256", "512", "mig", "wins"] == [25, 10]


def test_a_format_that_there_is_not_is_refused_before_anything_is_printed(tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"ends in '\.docx'; it must end in \.tex or \.md or \.csv"):
        exported(tmp_path, ".docx", SCORES)
    assert capsys.readouterr().out == ""


def test_a_plot_is_a_png_and_nothing_else_is_overwritten(tmp_path):
    path = write_results(tmp_path / "r.json", "table3", SCORES)
    before = path.read_text()
    with pytest.raises(ConfigError, match=r"--plot .*r\.json ends in '\.json'; it must end in \.png"):
        main(argparse.Namespace(results=path, plot=path, export=[]))
    assert path.read_text() == before


def test_a_table_that_goes_into_a_file_is_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    main(argparse.Namespace(results=write_results(tmp_path / "r.json", "table3", SCORES), plot=None, export=[]))
    assert "\N{HORIZONTAL ELLIPSIS}" not in capsys.readouterr().out


def test_names_are_text_and_never_markup(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    path = write_results(tmp_path / "r.json", "[/t]", {("[alpha] x[/red]", 0): [0.1] * 5, ("[b]", 0): [0.2] * 5})
    main(argparse.Namespace(results=path, plot=None, export=[]))
    text = capsys.readouterr().out
    assert "[/t]" in text
    assert "[alpha] x[/red]" in text


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_the_plot_is_a_picture_of_every_score(tmp_path, num_seeds):
    scores = {(row, seed): [0.1 * (seed + 1)] * 5 for row in ("256", "512") for seed in range(num_seeds)}
    figure = plot(read_results(write_results(tmp_path / "r.json", "table3", scores)))
    here, published = figure.axes[:5], figure.axes[5:]
    for panel in here:
        drawn = np.concatenate([line.get_ydata() for line in panel.lines])
        assert {round(0.1 * (seed + 1), 6) for seed in range(num_seeds)} <= set(np.round(drawn, 6))
        assert ("their mean" in panel.get_legend_handles_labels()[1]) == (num_seeds >= 3)
        assert ("its 95% t interval" in panel.get_legend_handles_labels()[1]) == (num_seeds >= 5)
    rows = published_tables()["table3"]["rows"]
    for panel, metric in zip(published, METRICS, strict=True):
        (line,) = panel.lines
        assert line.get_ydata().tolist() == [rows[row]["scores"][metric] for row in ("256", "512")]
    figure.savefig(tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size[0] > 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a sweep's results.json"),
        ("[]", "not a sweep's results.json"),
        ('{"table": "table1", "runs": [{"row": "a"}]}', "not a sweep's results.json"),
        ('{"table": "table1", "runs": []}', "no finished run"),
        (json.dumps({"table": ["t"], "runs": []}), "not a sweep's results.json"),
        (
            json.dumps({"table": "t", "runs": [{**RUN, "scores": dict.fromkeys(METRICS, "text")}]}),
            "not a sweep's results.json",
        ),
    ],
)
def test_something_else_in_the_results_place(tmp_path, content, message):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=facts(tmp_path / "r.json", message)):
        read_results(tmp_path / "r.json")


def test_no_results():
    with pytest.raises(DataError, match=r"cannot read nowhere\.json"):
        read_results(Path("nowhere.json"))
