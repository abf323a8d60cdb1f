"""The page of several experiments: what is one configuration, their scores, spread and ranks."""

import argparse
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_experiment_page import Page

from disentanglement_challenge.errors import DataError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.__main__ import main
from disentanglement_challenge.pages.comparison_page import (
    Run,
    comparison_page,
    differences,
    group,
    pairs_of,
    rank,
    read_runs,
    write_comparison,
)
from disentanglement_challenge.pages.experiment_page import write_page
from disentanglement_challenge.pages.results import read_results

TABLE1 = ROOT / "docs" / "tables" / "table1.json"


def variant(experiment, path, scores=None, **bindings):
    """A copy of an experiment with other scores and other bindings in its configuration."""
    copy = Experiment(shutil.copytree(experiment.path, path))
    config = (copy.train / "config.gin").read_text()
    for name, value in bindings.items():
        name = name.replace("__", ".")
        config, found = re.subn(rf"^{re.escape(name)} = .*$", f"{name} = {value}", config, flags=re.MULTILINE)
        assert found, name
    (copy.train / "config.gin").write_text(config)
    if scores is not None:
        copy.scores.write_text(json.dumps(dict(zip(METRICS, scores, strict=True))))
    return copy


@pytest.fixture(scope="module")
def four(small_experiment, tmp_path_factory):
    """Two configurations, one of them under three seeds."""
    folder = tmp_path_factory.mktemp("four")
    return [
        variant(small_experiment, folder / "plain_s0", [0.125, 0.2, 0.3, 0.4, 0.5]),
        variant(small_experiment, folder / "plain_s1", [0.375, 0.2, 0.1, 0.0, 0.9], model__random_seed=1),
        variant(small_experiment, folder / "plain_s2", [0.25, 0.5, 0.2, 0.2, 0.1], model__random_seed=2),
        variant(small_experiment, folder / "strong", [0.25, 0.4, 0.1, 0.3, 0.4], factor_vae__gamma=50.0),
    ]


def test_runs_that_differ_by_the_seed_alone_are_one_configuration(four):
    groups = group(read_runs([experiment.path for experiment in four]))
    assert [one.label for one in groups] == ["plain", "strong"]
    assert [[run.seed for run in one.runs] for one in groups] == [["0", "1", "2"], ["0"]]
    scores = np.array([[0.125, 0.2, 0.3, 0.4, 0.5], [0.375, 0.2, 0.1, 0.0, 0.9], [0.25, 0.5, 0.2, 0.2, 0.1]])
    np.testing.assert_allclose([summary.mean for summary in groups[0].summaries()], scores.mean(axis=0))
    ranges = [summary.range for summary in groups[0].summaries()]
    np.testing.assert_allclose(ranges, np.stack([scores.min(axis=0), scores.max(axis=0)], axis=1))
    assert [summary.named() for summary in groups[1].summaries()] == [
        {"values": (score,)} for score in (0.25, 0.4, 0.1, 0.3, 0.4)
    ]
    # Only seed 0 has both: FactorVAE and SAP go to the second, the others to the first.
    assert rank(groups).by_seed.tolist() == [[1.4, 1.6]]
    assert differences(groups) == {"factor_vae.gamma": ["5.0", "50.0"]}


def test_what_only_watches_a_run_does_not_set_it_apart(small_experiment, tmp_path):
    watched = variant(
        small_experiment, tmp_path / "watched", pictures__every_steps=7, model__eval_steps=9, model__random_seed=1
    )
    assert len(group(read_runs([small_experiment.path, watched.path]))) == 1
    longer = variant(small_experiment, tmp_path / "longer", model__training_steps=999)
    assert len(group(read_runs([small_experiment.path, longer.path]))) == 2


def rescored(experiment, folder, **provenance):
    """The experiment under another seed, with other words on record of its scores."""
    other = variant(experiment, folder, model__random_seed=1)
    content = json.loads(other.metrics_provenance.read_text())
    assert provenance.keys() <= content.keys()
    other.metrics_provenance.write_text(json.dumps({**content, **provenance}))
    return other


def test_runs_that_were_scored_otherwise_are_another_configuration_and_are_not_ranked(small_experiment, tmp_path):
    earlier = json.loads(small_experiment.metrics_provenance.read_text())["unofficial_settings"]
    assert earlier["dci.num_train"] == 200
    other = rescored(small_experiment, tmp_path / "other", unofficial_settings={**earlier, "dci.num_train": 100})
    runs = read_runs([small_experiment.path, other.path])
    groups = group(runs)
    assert differences(groups) == {"dci.num_train": ["200", "100"]}
    assert not len(rank(groups).seeds)
    page = comparison_page(runs, tmp_path)
    assert "unequal settings (dci.num_train)" in page
    # An official setting is not on record: against it, too, there is no rank.
    del earlier["dci.num_train"]
    official = rescored(small_experiment, tmp_path / "official", unofficial_settings=earlier)
    groups = group(read_runs([small_experiment.path, official.path]))
    assert not len(rank(groups).seeds)


def test_runs_of_another_engine_are_another_configuration_and_are_ranked(small_experiment, tmp_path):
    other = rescored(small_experiment, tmp_path / "other", engine="library")
    groups = group(read_runs([small_experiment.path, other.path]))
    assert differences(groups) == {"evaluation.engine": ["'fast'", "'library'"]}
    assert rank(groups).means.tolist() == [1.5, 1.5]
    old = rescored(small_experiment, tmp_path / "old", engine="exact")
    assert len(group(read_runs([small_experiment.path, old.path]))) == 1


def test_scores_from_before_settings_were_on_record_are_read_by_their_gin_configuration(small_experiment, tmp_path):
    old = rescored(small_experiment, tmp_path / "old")
    content = json.loads(old.metrics_provenance.read_text())
    del content["unofficial_settings"], content["metrics"]
    old.metrics_provenance.write_text(json.dumps(content))
    assert len(group(read_runs([small_experiment.path, old.path]))) == 1


def run_called(name, seed, **bindings):
    bindings = {"model.random_seed": str(seed), **bindings}
    return Run(name, np.ones(5), bindings, dataset="d", source=Path("experiments", name))


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["class1", "class2"], "class"),
        (["losses0", "losses1"], "losses"),
        (["plain_s0", "plain_s1"], "plain"),
        (["big-seed-10", "big-seed-11"], "big"),
        (["seed_0", "seed_1"], "seed_0"),
        (["row/seed_0"], "row"),
    ],
)
def test_what_a_configuration_is_called(names, label):
    (one,) = group([run_called(name, seed) for seed, name in enumerate(names)])
    assert one.label == label


def test_the_same_row_of_two_sweeps_is_told_apart(tmp_path):
    for name, rate in (("slow", 0.001), ("fast", 0.01)):
        (tmp_path / name).mkdir()
        content = TABLE1.read_text().replace(
            "AdamOptimizer.learning_rate = 0.001", f"AdamOptimizer.learning_rate = {rate}"
        )
        (tmp_path / name / "results.json").write_text(content)
    groups = group(read_runs([tmp_path / "slow" / "results.json", tmp_path / "fast" / "results.json"]))
    labels = [one.label for one in groups]
    assert len(set(labels)) == 12
    assert {"beta_vae (slow/results.json)", "beta_vae (fast/results.json)"} <= set(labels)


@pytest.mark.filterwarnings("error")
def test_names_that_a_font_or_a_page_has_no_room_for_are_no_noise(tmp_path):
    runs = [run_called("日本", 0, a="1"), run_called("⟿" * 400, 0, a="2"), run_called("x" * 24, 0, a="3")]
    assert "日本" in comparison_page(runs, tmp_path)


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(tmp_path, capsys):
    odd = tmp_path / os.fsdecode(b"odd\xff")
    odd.mkdir()
    (odd / "scores.json").write_text(json.dumps(dict.fromkeys(METRICS, 0.5)))
    shutil.copytree(odd, tmp_path / "plain")
    main(argparse.Namespace(experiments=[str(odd)], output=None))
    main(argparse.Namespace(experiments=[str(odd), str(tmp_path / "plain")], output=None))
    assert capsys.readouterr().out == f"{tmp_path}/odd?/page.html\n{tmp_path}/comparison_odd?_plain.html\n"
    page = Page((tmp_path / os.fsdecode(b"comparison_odd\xff_plain.html")).read_text())
    assert "odd?" in page.text
    assert [link["href"] for link in page.all("a")] == ["odd%FF/page.html"]


def test_two_comparisons_do_not_overwrite_each_other(tmp_path):
    for name in ("a", "b", "c", *("x" * 60 + end for end in "yz")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.json").write_text(json.dumps(dict.fromkeys(METRICS, 0.5)))
    pairs = [("a", "b"), ("a", "c"), ("a", "b"), ("x" * 60 + "y", "a"), ("x" * 60 + "z", "a")]
    for pair in pairs:
        main(argparse.Namespace(experiments=[str(tmp_path / name) for name in pair], output=None))
    written = sorted(path.name for path in tmp_path.glob("comparison*"))
    assert len(written) == len(set(pairs)), written
    assert written[:2] == ["comparison_a_b.html", "comparison_a_c.html"]


def test_the_same_seed_again_is_no_spread(small_experiment, tmp_path):
    again = variant(small_experiment, tmp_path / "again")
    groups = group(read_runs([small_experiment.path, again.path]))
    assert [[run.name for run in one.runs] for one in groups] == [["small"], ["again"]]


def test_the_page_shows_them(four, tmp_path):
    page = Page(comparison_page(read_runs([experiment.path for experiment in four]), tmp_path))
    assert page.headings[0] == (1, "2 configurations, 4 runs")
    assert "range of 3 seeds" in page.text
    assert "0.125 to 0.375" in page.text
    assert "±" not in page.text
    assert "first in 1 of 1" in page.text  # of the seeds that both have
    assert "factor_vae.gamma" in page.text
    expected = "plain 0.2500 (range of 3 seeds 0.125 to 0.375); strong 0.2500."
    assert any(expected in text for text in page.descriptions)
    assert (2, "Wins") not in page.headings  # the second has one seed
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))


def test_links_go_to_the_reports_that_are_there(four, tmp_path):
    write_page(four[0], four[0].page)
    path = write_comparison(read_runs([experiment.path for experiment in four]), four[0].path.parent / "all.html")
    assert [link["href"] for link in Page(path.read_text()).all("a")] == ["plain_s0/page.html"]


def test_a_run_without_scores_stands_beside_the_others_unranked(four, small_experiment, tmp_path):
    unscored = variant(small_experiment, tmp_path / "unscored", model__training_steps=7)
    shutil.rmtree(unscored.metrics)
    unscored.scores.unlink()
    runs = read_runs([four[0].path, four[3].path, unscored.path])
    assert np.isnan(rank(group(runs)).means).tolist() == [False, False, True]
    assert "The scores of unscored" in Page(comparison_page(runs, tmp_path)).text


def test_a_run_that_was_only_trained_is_on_the_data_set_that_it_was_trained_on(small_experiment, tmp_path):
    """Gin's `auto` is no data set; the run's record has the name."""
    trained = variant(small_experiment, tmp_path / "trained")
    shutil.rmtree(trained.metrics)
    trained.scores.unlink()
    config = trained.train / "config.gin"
    config.write_text(re.sub(r"dataset.name = .*", "dataset.name = 'auto'", config.read_text()))
    assert "different data sets" not in comparison_page(read_runs([small_experiment.path, trained.path]), tmp_path)


def test_models_that_were_not_trained_here_are_never_taken_together(small_experiment, tmp_path):
    copies = [Experiment(shutil.copytree(small_experiment.path, tmp_path / name)) for name in ("theirs", "ours")]
    for copy in copies:
        shutil.rmtree(copy.train)
    assert [one.label for one in group(read_runs([copy.path for copy in copies]))] == ["theirs", "ours"]


def wins_between(rows, pairs):
    """The wins of the row whose name comes first, by both names."""
    found = {}
    for pair in pairs:
        names = rows[pair.first], rows[pair.second]
        wins = pair.wins if names == tuple(sorted(names)) else pair.comparisons - pair.wins
        found[tuple(sorted(names))] = (wins.tolist(), pair.is_paired)
    return found


def test_a_sweeps_results_get_the_statistics_of_their_table(tmp_path):
    runs, results = read_runs([TABLE1]), read_results(TABLE1)
    groups = {one.label: one for one in group(runs)}
    assert len(runs) == 18
    assert groups.keys() == set(results.rows)
    ranks, order = rank(list(groups.values())), [list(groups).index(row) for row in results.rows]
    np.testing.assert_allclose(ranks.by_seed[:, order], results.ranks().by_seed)
    for index, row in enumerate(results.rows):
        for here, there in zip(groups[row].summaries(), results.summaries(index), strict=True):
            assert here.named() == there.named()
    wins = wins_between(results.rows, results.pairs())
    assert len(wins) == 15
    assert wins_between(list(groups), pairs_of(list(groups.values()))) == wins
    page = Page(comparison_page(runs, tmp_path))
    assert (2, "Wins") in page.headings
    assert "9 of 9" in page.text
    assert Page(comparison_page(runs, tmp_path)).headings[0] == (1, "6 configurations, 18 runs")


def test_rows_and_seeds_come_in_the_order_of_their_numbers(tmp_path):
    content = json.loads(TABLE1.with_name("table2.json").read_text())
    content["runs"] += [{**run, "seed": 10} for run in content["runs"] if run["seed"] == 0]
    (tmp_path / "results.json").write_text(json.dumps(content))
    names = [run.name for run in read_runs([tmp_path / "results.json"])]
    assert names == [f"{row}/seed_{seed}" for row in ("30k", "500k", "1000k") for seed in (0, 1, 2, 10)]


def test_a_sweeps_folder_stands_for_its_finished_runs(small_experiment, tmp_path):
    sweep = tmp_path / "table9"
    for seed in range(2):
        run = variant(small_experiment, sweep / "a" / f"seed_{seed}", model__random_seed=seed)
        (run.path / "run.json").write_text("{}")
    variant(small_experiment, sweep / "a" / "seed_2", model__random_seed=2)  # has no record, so it is not finished
    (sweep / "table.json").write_text('{"table": "table9"}')
    (one,) = group(read_runs([sweep]))
    assert (one.label, [run.name for run in one.runs]) == ("a", ["a/seed_0", "a/seed_1"])


def test_a_sweeps_folder_whose_experiments_lie_elsewhere_has_their_records(tmp_path):
    for record in json.loads(TABLE1.read_text())["runs"]:
        folder = tmp_path / record["row"] / f"seed_{record['seed']}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record))
    (tmp_path / "table.json").write_text('{"table": "table1"}')
    here, there = ({one.label: one for one in group(read_runs([path]))} for path in (tmp_path, TABLE1))
    assert here.keys() == there.keys()
    for label, one in here.items():
        np.testing.assert_array_equal(one.scores, there[label].scores)


def recorded(**changed):
    record = json.loads(TABLE1.read_text())["runs"][0]
    return json.dumps({"table": "table1", "runs": [{**record, **changed}]})


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"runs": []}',
        '{"runs": {}}',
        '{"runs": [{"row": "a"}]}',
        '{"runs": [3]}',
        recorded(training_steps="many"),
        recorded(num_latent=float("inf")),
        recorded(losses={"seconds": "long"}),
    ],
)
def test_a_file_that_is_no_sweeps(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    message = r"results\.json (is damaged or not JSON|is not a sweep's results|contains no finished run)"
    with pytest.raises(DataError, match=message):
        read_runs([tmp_path / "results.json"])


def test_an_experiment_that_is_given_twice_is_one_run(small_experiment):
    assert len(read_runs([small_experiment.path, small_experiment.path])) == 1


def test_a_link_is_a_path_whatever_the_experiment_is_called(small_experiment, tmp_path):
    odd = Experiment(shutil.copytree(small_experiment.path, tmp_path / "javascript:alert(1)#?"))
    odd.page.write_text("")
    page = Page(comparison_page(read_runs([small_experiment.path, odd.path]), tmp_path))
    assert [link["href"] for link in page.all("a")] == ["javascript%3Aalert%281%29%23%3F/page.html"]


def test_one_experiment_is_no_comparison(small_experiment):
    assert read_runs([small_experiment.path]) is None


def test_rows_that_are_one_training_are_called_so_on_the_page(tmp_path):
    runs = read_runs([TABLE1.with_name("table2.json")])
    assert [pair.is_paired for pair in pairs_of(group(runs))] == [True, True, True]
    page = Page(comparison_page(runs, tmp_path))
    assert "30k over 500k (paired, dependent)" in page.text
    assert "0 of 3" in page.text


def test_single_runs_are_ranked_whatever_their_seeds_are(tmp_path):
    runs = [run_called("one", 3, a="1"), run_called("other", 4, a="2")]
    assert rank(group(runs)).means.tolist() == [1.5, 1.5]
    # As soon as one has several seeds, only those that both have count.
    assert not len(rank(group([*runs, run_called("one", 5, a="1")])).seeds)
