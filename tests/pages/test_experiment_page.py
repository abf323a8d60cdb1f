"""The page of one experiment against the files that it is drawn from."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import ROOT
from messages import assert_error_line, facts
from squares import squares

from disentanglement_challenge.errors import DataError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.experiment_page import duration, experiment_page, write_page
from disentanglement_challenge.pages.figures import loss_curve
from disentanglement_challenge.pages.pictures import cell_style, overview
from disentanglement_challenge.pages.record import find_experiment, read_record
from disentanglement_challenge.pages.results import published_tables
from disentanglement_challenge.pages.standing import standing
from disentanglement_challenge.training.log import TrainingLog


class Page(HTMLParser):
    """What the tests ask a page for."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.headings, self.texts, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._open and "script" not in self._open:
            self.texts.append(data.strip())
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            self.headings.append((int(self._open[-1][1]), data.strip()))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))

    @property
    def descriptions(self):
        """Alternative texts of all pictures and plots."""
        pictures = [attributes["alt"] for attributes in self.all("img")]
        return pictures + [attributes["aria-label"] for attributes in self.all("svg")]


@pytest.fixture(scope="session")
def page(small_experiment):
    return Page(experiment_page(read_record(small_experiment.path)))


def copy_of(experiment, tmp_path):
    return Experiment(shutil.copytree(experiment.path, tmp_path / "copy"))


def page_of(experiment):
    return Page(experiment_page(read_record(experiment.path)))


def test_the_five_scores_are_on_it_with_their_published_neighbours(page, small_experiment):
    scores = json.loads(small_experiment.scores.read_text())
    rows = [row["scores"] for table in published_tables().values() for row in table["rows"].values()]
    for metric, score in scores.items():
        assert f"{score:.4f}" in page.text
        above = [row[metric] for row in rows if row[metric] > score]
        below = [row[metric] for row in rows if row[metric] <= score]
        assert f"{len(above) + 1} of {len(rows) + 1}" in page.text
        for neighbour in ([min(above)] if above else []) + ([max(below)] if below else []):
            assert f"{neighbour:.4f}" in page.text
    assert "misaligned" in page.text


def test_a_standing_by_hand():
    between = standing("dci", 0.53)
    # Above it lie 256, 512, 1024 (0.5420), 1536, 2048 and 3072 latents; below it 1000k steps (0.5230).
    assert between.place == 7
    assert (between.above.label, between.above.table, between.above.value) == ("1024 latents", "Table 3", 0.542)
    assert (between.below.label, between.below.value, between.below.is_doubtful) == ("1000k steps", 0.523, False)
    assert standing("dci", 1.0).above is None
    assert standing("dci", 1.0).place == 1
    assert standing("dci", 0.0).below is None
    assert standing("mig", 0.9).above.is_doubtful


def test_descriptions_hold_the_numbers_of_the_files(page, small_experiment):
    with np.load(small_experiment.pictures) as saved:
        difference = np.abs(saved["originals"].astype(float) - saved["reconstructions"]).mean() / 255
        kl, frames, traversed = saved["kl"], saved["traversals"].astype(float), saved["traversed"]
    descriptions = "\n".join(page.descriptions)
    assert f"differ by {difference:.3f} on average" in descriptions
    for latent, pictures in zip(traversed, frames, strict=True):
        change = np.abs(pictures[0] - pictures[-1]).mean() / 255
        line = next(text for text in page.descriptions if text.startswith(f"Latent {latent} "))
        assert f"KL is {kl[latent]:.3f} nats" in line
        assert f"change by {change:.3f} " in line
    first, last = map(json.loads, small_experiment.log.read_text().splitlines())
    assert (first.pop("step"), last.pop("step")) == (100, 102)
    for name in first:
        values = [first[name], last[name]]
        line = f"{name.replace('_', ' ')}: {values[0]:.5g} at step 100, {values[-1]:.5g} at step 102"
        assert line in descriptions
    activity = json.loads((small_experiment.metrics / "activity/results/aggregate/evaluation.json").read_text())
    active = sum(variance > 0.01 for variance in activity["evaluation_results.activity"])
    assert f"{active} of 6 latents are active" in descriptions


def test_heat_maps_show_every_matrix_and_frame_each_factors_best_latent(small_experiment):
    text = experiment_page(read_record(small_experiment.path))
    tables = re.findall(r'<table class="heat">.*?</table>', text, re.DOTALL)
    with np.load(small_experiment.matrices) as matrices:
        order = np.argsort(-np.load(small_experiment.pictures)["kl"], kind="stable")
        assert set(matrices) == set(METRICS)
        for table, metric in zip(tables, METRICS, strict=True):
            matrix = matrices[metric]
            assert matrix.shape == (6, 3)
            rows = re.findall(r'<th scope="row">(\d+)</th>', table)
            assert [int(row) for row in rows] == list(order)
            cells = re.findall(r"<td[^>]*>([^<]+)</td>", table)
            expected = [f"{value:.{0 if metric == 'factor_vae_metric' else 2}f}" for value in matrix[order].ravel()]
            assert cells == [{"nan": "-", "-0.00": "0.00"}.get(value, value) for value in expected]
            assert len(re.findall('class="best"', table)) == 3
    assert "color" in text


def test_it_is_put_together_for_a_screen_reader(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all("alt" in image for image in page.all("img"))
    assert all(svg.get("role") == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {link["href"] for link in page.all("a")} <= {f"#{identifier}" for identifier in identifiers}


def test_nothing_on_it_is_from_elsewhere(small_experiment):
    text = experiment_page(read_record(small_experiment.path))
    addresses = re.findall(r"""(?:src|srcset|href|action|data)=["']([^"']*)|url\(([^)]*)\)|@import""", text)
    assert all((address or url).lstrip("\"'").startswith(("#", "data:")) for address, url in addresses)


def test_configuration_versions_seeds_time_and_machine(page, small_experiment):
    config = (small_experiment.train / "config.gin").read_text()
    assert re.sub(r"\s+", " ", config).strip() in page.text
    made = json.loads(small_experiment.train_provenance.read_text())
    assert made["versions"]["torch"] in page.text
    assert made["machine"]["processor"] in page.text
    assert made["date"][:10] in page.text
    scored = json.loads(small_experiment.metrics_provenance.read_text())
    assert scored["ground_truth_data"] == {
        "name": "squares",
        "note": "",
        "factor_names": ["color", "row", "column"],
        "factor_sizes": [2, 4, 4],
    }
    assert "seed 0" in page.text
    assert duration(json.loads(small_experiment.losses.read_text())["seconds"]) in page.text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (99.9, "99.9 s"), (119.7, "2 min 0 s"), (7265, "2 h 1 min")]
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


def test_somebody_elses_model(tmp_path, small_experiment):
    """Scored, not trained here: the page shows what is there and lists what is missing."""
    copy = copy_of(small_experiment, tmp_path)
    shutil.rmtree(copy.train)
    page = page_of(copy)
    assert "The model was not trained here" in page.text
    assert "Mutual information" in page.text
    assert "the largest variance first" in page.text
    assert "Latent traversals" not in page.text
    assert f"{json.loads(copy.scores.read_text())['dci']:.4f}" in page.text


def test_a_run_that_was_not_scored(tmp_path, small_experiment):
    copy = copy_of(small_experiment, tmp_path)
    shutil.rmtree(copy.metrics)
    copy.scores.unlink()
    page = page_of(copy)
    assert "There are no scores yet" in page.text
    assert "Latent traversals" in page.text
    assert "Active and collapsed latents" in page.text
    assert "Mutual information" not in page.text


def test_a_run_that_was_killed(tmp_path, small_experiment):
    """All that is left is unfinished/, with curves and no pictures."""
    unfinished = Experiment(tmp_path / "killed").unfinished
    shutil.copytree(small_experiment.train, unfinished.train)
    unfinished.losses.unlink()
    unfinished.pictures.unlink()
    page = page_of(Experiment(tmp_path / "killed"))
    for sentence in ("Training is not finished", "come at its end", "no scores yet"):
        assert sentence in page.text
    for sentence in ("stopped before its end", "with a larger model.training_steps"):  # it may be under way
        assert sentence not in page.text
    assert "Losses" in [text for _, text in page.headings]


def test_the_curves_of_a_run_that_was_killed_and_resumed_are_whole(tmp_path):
    """Steps before the kill, steps made twice and steps after it: each once, in order, and drawn from first to last."""

    def value_at(step, start):
        return 100 / step + start  # the two starts differ, to tell whose value is kept

    experiment = Experiment(tmp_path / "resumed")
    experiment.train.mkdir(parents=True)
    with TrainingLog(experiment, done=0, training_steps=12, every_steps=1) as log:
        for step in range(1, 9):
            log.losses({"loss": value_at(step, 0), "kl_loss": float(step)}, step)
    with experiment.log.open("a") as file:
        file.write('{"step": 9, "lo')
    with TrainingLog(experiment, done=5, training_steps=12, every_steps=1) as log:
        for step in range(6, 13):
            log.losses({"loss": value_at(step, 0.5), "kl_loss": float(step)}, step)

    steps, values = read_record(experiment.path).curves["loss"]
    assert steps.tolist() == list(range(1, 13))
    assert values.tolist() == [value_at(step, 0 if step <= 5 else 0.5) for step in range(1, 13)]
    (line,) = loss_curve("loss", steps, values).axes[0].lines
    np.testing.assert_array_equal(line.get_xydata(), np.stack([steps, values], axis=1))
    shown = Page(experiment_page(read_record(experiment.path))).descriptions
    assert any(text.startswith("kl loss: 1 at step 1, 12 at step 12;") for text in shown)


def test_an_earlier_versions_run(tmp_path, small_experiment):
    copy = copy_of(small_experiment, tmp_path)
    for file in (copy.pictures, copy.train_provenance, copy.metrics_provenance, copy.matrices):
        file.unlink()
    page = page_of(copy)
    for sentence in ("(pictures.npz)", "(train/provenance.json)", "(metrics/provenance.json)", "matrices behind"):
        assert sentence in page.text


def test_a_score_that_is_no_number_stands_nowhere(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps({**dict.fromkeys(METRICS, 0.5), "mig": float("nan")}))
    page = page_of(Experiment(tmp_path))
    assert re.search(r"MIG \S no number", page.text)
    assert "MIG \N{EN DASH} \N{EN DASH} \N{EN DASH} \N{EN DASH}" in page.text
    assert len(page.all("svg")) == 4


def test_the_library_engine_says_why_there_are_no_matrices(tmp_path, small_experiment):
    copy = copy_of(small_experiment, tmp_path)
    np.savez(copy.matrices)
    copy.metrics_provenance.write_text(json.dumps({"engine": "library"}))
    assert "matrices behind the scores are missing: disentanglement_lib's own code" in page_of(copy).text


@pytest.mark.parametrize(
    ("file", "content", "parts"),
    [
        ("scores.json", "{", ["scores.json is damaged"]),
        ("scores.json", "[]", ["scores.json is damaged", "list"]),
        ("scores.json", '{"dci": 1}', ["scores.json is damaged", f" dci, not {', '.join(METRICS)}"]),
        ("scores.json", '{"dci": "x"}', ["scores.json is damaged", "dci is 'x'", "number"]),
        ("train/log.jsonl", '{"step": 100}\nnothing\n', ["log.jsonl is damaged: line 2"]),
        ("train/losses.json", "null", ["losses.json is damaged", "NoneType", "names and values"]),
        ("train/pictures.npz", "no npz", ["pictures.npz: "]),
        ("train/provenance.json", '{"machine": []}', ["machine is []", "names and values"]),
        (
            "metrics/provenance.json",
            '{"date": "yesterday"}',
            ["metrics/provenance.json", "Invalid isoformat string: 'yesterday'"],
        ),
        (
            "metrics/provenance.json",
            '{"seconds": {"dci": "long"}}',
            ["provenance.json is damaged: unsupported operand"],
        ),
        ("metrics/provenance.json", "\x00", ["provenance.json is damaged"]),
        ("metrics/matrices.npz", "", ["matrices.npz: "]),
        ("metrics/activity/results/aggregate/evaluation.json", "{}", ["evaluation.json is damaged", "no variance"]),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, small_experiment, file, content, parts):
    copy = copy_of(small_experiment, tmp_path)
    (copy.path / file).write_text(content)
    with pytest.raises(DataError, match=facts(*parts)) as caught:
        write_page(copy)
    assert "\n" not in str(caught.value)
    assert not copy.page.exists()


def test_a_log_that_tells_nothing_is_named(tmp_path, small_experiment):
    copy = copy_of(small_experiment, tmp_path)
    copy.log.write_text("")
    assert "stopped before it logged any losses" in page_of(copy).text
    copy.log.unlink()
    assert "log.jsonl is missing" in page_of(copy).text


DRAW = """
import sys
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.pages.experiment_page import write_page
from pathlib import Path
write_page(Experiment(Path(sys.argv[1])))
print([name for name in sys.modules if name.startswith("tensor")])
"""


@pytest.mark.processes
def test_drawing_a_page_imports_neither_tensorflow_nor_tensorboard(tmp_path, small_experiment):
    copy = copy_of(small_experiment, tmp_path)
    drawn = subprocess.run(
        [sys.executable, "-c", DRAW, copy.path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert drawn.stdout == "[]\n"


def test_matrices_that_do_not_fit_are_one_line(tmp_path, small_experiment):
    copy = copy_of(small_experiment, tmp_path)
    with np.load(copy.matrices) as archive:
        matrices = dict(archive)
    for wrong in (np.zeros((6, 0)), matrices["dci"][:, :1]):
        np.savez(copy.matrices, **{**matrices, "dci": wrong})
        with pytest.raises(DataError, match=r"matrices\.npz is damaged"):
            write_page(copy)


def test_files_of_different_models_are_not_shown_as_one(tmp_path, small_experiment):
    copy = copy_of(small_experiment, tmp_path)
    with np.load(copy.matrices) as matrices:
        np.savez(copy.matrices, **{metric: matrix[:4] for metric, matrix in matrices.items()})
    with pytest.raises(DataError, match=facts(copy.path, "4, 6 latents")):
        read_record(copy.path)


@pytest.mark.processes
def test_the_command_writes_the_page_and_a_mistake_is_one_line(tmp_path, small_experiment):
    copy = copy_of(small_experiment, tmp_path)
    command = [sys.executable, "-m", "disentanglement_challenge.pages"]
    environment = {**os.environ, "AICROWD_OUTPUT_PATH": str(tmp_path)}
    written = subprocess.run([*command, "copy"], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert written.returncode == 0, written.stderr
    assert written.stdout == f"{copy.page}\n"
    assert written.stderr == ""
    assert copy.page.read_text() == experiment_page(read_record(copy.path))
    refused = subprocess.run([*command, "nowhere"], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode == 1
    assert_error_line(refused.stderr, "no experiment 'nowhere'", tmp_path / "nowhere")


def test_what_is_no_experiment(tmp_path, monkeypatch):
    monkeypatch.setenv("AICROWD_OUTPUT_PATH", str(tmp_path))
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=facts("photos", "no train, representation, metrics or scores")):
        read_record(find_experiment("photos"))
    (tmp_path / "photos" / "mine" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=facts("photos", "not an experiment", "such as mine")):
        read_record(find_experiment("photos"))
    with pytest.raises(DataError, match=facts(f"no experiment {'x' * 300!r}")):
        find_experiment("x" * 300)


def test_names_are_text_and_never_markup(tmp_path, small_experiment):
    name = "<script>alert(1)</script> & $x_1$"
    experiment = Experiment(shutil.copytree(small_experiment.path, tmp_path / name.replace("/", "")))
    content = json.loads(experiment.metrics_provenance.read_text())
    content["ground_truth_data"]["factor_names"] = ["<b>", '"onload="', "$y$"]
    content["ground_truth_data"]["note"] = "<i>note</i>"
    experiment.metrics_provenance.write_text(json.dumps(content))
    page = page_of(experiment)
    assert {"script", "b", "i"} & {tag for tag, attributes in page.elements if "class" not in attributes} == set()
    assert page.headings[0] == (1, "<script>alert(1)<script> & $x_1$")


def test_a_new_run_takes_the_old_page_away(tmp_path, small_experiment):
    copy = copy_of(small_experiment, tmp_path)
    write_page(copy)
    shutil.copytree(copy.metrics, copy.unfinished_scores.metrics)
    shutil.copy(copy.scores, copy.unfinished_scores.scores)
    copy.take_scores()
    assert not copy.page.exists()


def test_cells_are_readable_on_their_color():
    assert cell_style(0.0, 0.0, 1.0) == "background:#440154;color:#fff"
    assert cell_style(1.0, 0.0, 1.0) == "background:#fde725;color:#000"
    assert cell_style(float("nan"), 0.0, 1.0) == ""
    assert cell_style(0.3, 0.3, 0.3)  # one value alone has a colour too


def test_an_overview_keeps_the_largest_of_several_latents():
    matrix = np.zeros((3072, 2))
    matrix[1000, 1] = 1
    drawn = overview(matrix)
    assert drawn.shape == (28, 256, 3)
    bright = (drawn == [253, 231, 37]).all(axis=2)
    assert bright.sum() == 14  # one column, of the second factor's height
    assert bright[14:, 1000 * 256 // 3072].all()
    assert overview(squares().index_to_factors(np.arange(32)).astype(float)).shape == (42, 32, 3)
