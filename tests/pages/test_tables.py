import argparse
import json
from pathlib import Path

import gin
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import disentanglement_challenge.training.run  # noqa: F401 (what the gin files configure)
from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.environment import GIN_FOLDER
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.tables import (
    average_ranks,
    main,
    plot,
    published_tables,
    read_results,
    table_of,
)

RUN = {"row": "a", "seed": 0, "training_steps": 7, "dataset": "d"}


def write_results(path, table, scores):
    """results.json of runs given as {(row, seed): five scores}."""
    runs = [
        {**RUN, "row": row, "seed": seed, "scores": dict(zip(METRICS, values, strict=True))}
        for (row, seed), values in scores.items()
    ]
    path.write_text(json.dumps({"table": table, "runs": runs}))
    return path


def printed(results):
    console = Console(width=100, record=True)
    console.print(table_of(results))
    return console.export_text()


def test_average_ranks_by_hand():
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.3, 0.5], [0.7, 0.2, 0.1]])
    # First metric 1 2 3, second 3 1 2, third 1.5 1.5 3.
    np.testing.assert_allclose(average_ranks(scores), [5.5 / 3, 4.5 / 3, 8 / 3])


def test_scores_that_rounding_alone_sets_apart_share_their_rank():
    assert average_ranks(np.array([[0.1 + 0.2], [0.3], [0.1]])).tolist() == [1.5, 1.5, 3.0]


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


def test_mean_and_spread_over_seeds(tmp_path):
    first, second = [0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.2, 0.1, 0.0, 0.9]
    results = read_results(
        write_results(
            tmp_path / "r.json", "mine", {("a", 0): first, ("a", 1): second, ("b", 0): second, ("b", 1): first}
        )
    )
    assert (results.rows, results.seeds, results.steps) == (["a", "b"], [0, 1], [7, 7])
    np.testing.assert_allclose(results.means, [np.mean([first, second], axis=0)] * 2)
    np.testing.assert_allclose(results.spreads, [np.std([first, second], axis=0, ddof=1)] * 2)
    # a is first in metrics 3 and 4 under seed 0, b in 1 and 5; under seed 1 it is the other way round.
    np.testing.assert_allclose(results.ranks_by_seed(), [[1.5, 1.5], [1.5, 1.5]])


def test_a_missing_run_leaves_the_rest(tmp_path):
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    results = read_results(
        write_results(tmp_path / "r.json", "mine", {("a", 0): values, ("a", 1): values, ("b", 1): values})
    )
    np.testing.assert_allclose(results.means, [values] * 2)
    assert np.isnan(results.spreads[1]).all()
    assert len(results.ranks_by_seed()) == 1


def test_the_table_says_which_row_comes_first_and_how_surely(tmp_path):
    low, high = [0.1] * 5, [0.2] * 5
    scores = {("512", 0): high, ("512", 1): high, ("512", 2): low, ("256", 0): low, ("256", 1): low, ("256", 2): high}
    text = printed(read_results(write_results(tmp_path / "r.json", "table3", scores)))
    assert "256 latents in 1, 512 latents in 2 of 3" in " ".join(text.split())
    assert "0.4458" in text  # published
    starred = [line for line in text.splitlines() if "*" in line and "latents" in line]
    assert len(starred) == 1
    assert "512" in starred[0]


def test_one_seed_is_not_a_result(tmp_path):
    text = printed(read_results(write_results(tmp_path / "r.json", "table2", {("30k", 0): [0.1] * 5})))
    assert "without a spread over seeds this is not a result" in text


def test_published_ranks_are_among_all_of_the_reports_rows(tmp_path):
    rows = published_tables()["table3"]["rows"]
    ranks = average_ranks(np.array([list(row["scores"].values()) for row in rows.values()]))
    text = printed(read_results(write_results(tmp_path / "r.json", "table3", {("256", 0): [0.2] * 5})))
    (line,) = [line for line in text.splitlines() if "published " in line and "│" in line]
    assert line.split("│")[-2].strip() == f"{ranks[list(rows).index('256')]:.1f}"  # and no star


@pytest.mark.filterwarnings("error")
def test_what_is_missing_is_said_and_only_whole_rows_are_ranked(tmp_path):
    high, low = [0.3] * 5, [0.2] * 5
    no_mig = [float("nan") if metric == "mig" else 0.4 for metric in METRICS]
    scores = {("a", 0): high, ("b", 0): low, ("b", 1): low, ("c", 0): no_mig, ("c", 1): no_mig}
    text = printed(read_results(write_results(tmp_path / "r.json", "mine", scores)))
    cells = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in text.splitlines()
        if "│" in line
    }
    assert cells["a (1 of 2 seeds)"][-1] == "1.0 *"
    assert cells["b"][-1] == "2.0"
    assert cells["c"] == ["0.4000", "0.4000", "0.4000", "0.4000", "-", "-"]
    assert "nan" not in text
    assert "scores are missing: 0 of 2 seeds have every row's" in text
    assert "one seed" not in text


def test_names_are_text_and_never_markup(tmp_path, capsys):
    path = write_results(tmp_path / "r.json", "[/t]", {("[alpha] x[/red]", 0): [0.1] * 5, ("[b]", 0): [0.2] * 5})
    main(argparse.Namespace(results=path, plot=None))
    text = capsys.readouterr().out
    assert "[/t]" in text
    assert "[alpha] x[/red]" in text


def test_the_plot_is_a_picture_of_every_score(tmp_path):
    scores = {(row, seed): [0.1 * (seed + 1)] * 5 for row in ("256", "512") for seed in (0, 1)}
    figure = plot(read_results(write_results(tmp_path / "r.json", "table3", scores)))
    assert len(figure.axes) == 5
    for panel in figure.axes:
        drawn = np.concatenate([line.get_ydata() for line in panel.lines])
        assert {0.1, 0.2} <= set(np.round(drawn, 6))
    figure.savefig(tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size[0] > 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not what a sweep writes"),
        ("[]", "not what a sweep writes"),
        ('{"table": "table1", "runs": [{"row": "a"}]}', "not what a sweep writes"),
        ('{"table": "table1", "runs": []}', "no finished run"),
        (json.dumps({"table": ["t"], "runs": []}), "not what a sweep writes"),
        (
            json.dumps({"table": "t", "runs": [{**RUN, "scores": dict.fromkeys(METRICS, "text")}]}),
            "not what a sweep writes",
        ),
    ],
)
def test_something_else_in_the_results_place(tmp_path, content, message):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_results(tmp_path / "r.json")


def test_no_results():
    with pytest.raises(DataError, match=r"cannot read nowhere\.json"):
        read_results(Path("nowhere.json"))
