"""Choosing a seed without labels: trained models in, an order out."""

import argparse
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from messages import facts
from numpy.random import RandomState
from scipy.stats import spearmanr
from squares import SMALL, squares

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_file import export_model, import_model
from disentanglement_challenge.export.representor import make_representor
from disentanglement_challenge.files import read_arrays, write_arrays
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.pages.comparison_page import Group, Run
from disentanglement_challenge.sweep.selection import agreement, kl_of, main, runs_below, udr_table
from disentanglement_challenge.sweep.udr import Udr, compute_udr
from disentanglement_challenge.training.run import train_and_export


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Three seeds trained on images without labels, and a fourth model that is alone with its configuration."""
    folder = tmp_path_factory.mktemp("unlabelled")
    images = folder / "images.npz"
    np.savez(images, images=squares().images)
    for name, seed, gamma in (("s0", 0, 5.0), ("s1", 1, 5.0), ("s2", 2, 5.0), ("other", 0, 9.0)):
        bindings = [
            *SMALL,
            "dataset.name = 'folder'",
            f"folder.path = {str(images)!r}",
            f"model.random_seed = {seed}",
            f"factor_vae.gamma = {gamma}",
            "vae/AdamOptimizer.learning_rate = 0.003",
        ]
        with gin_configuration(["shared.gin"], bindings):
            train_and_export(Experiment(folder / "runs" / name), overwrite=False)
    return folder / "runs"


def select(folder):
    main(argparse.Namespace(folder=str(folder)))


@pytest.fixture
def copied(unlabelled, tmp_path):
    return shutil.copytree(unlabelled, tmp_path / "runs")


def kl_divergence(folder, change):
    """Changes what training has kept of a model's KL divergence."""
    arrays = read_arrays(Experiment(folder).pictures)
    write_arrays(Experiment(folder).pictures, {**arrays, "kl": change(arrays["kl"])})


def order_in(text):
    return re.findall(r"^│ (s\d) ", text, re.MULTILINE)


def test_seeds_are_ranked_without_labels(unlabelled, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    select(unlabelled)
    text = capsys.readouterr().out
    assert "other has 1 seed; UDR needs 3" in text
    order = order_in(text)
    assert sorted(order) == ["s0", "s1", "s2"]
    assert f"to submit: {unlabelled / order[0] / 'representation' / 'pytorch_model.pt'}\n" in text
    assert "FactorVAE" not in text  # there are no scores


def test_it_encodes_one_sample_of_images_by_every_model(unlabelled, capsys):
    runs = [run for run in runs_below(unlabelled) if run.name != "other"]
    random = RandomState(0)
    drawn = np.concatenate([random.randint(32, size=min(64, 10_000 - start)) for start in range(0, 10_000, 64)])
    images = squares().images.astype(np.float32) / 255
    codes = [make_representor(import_model(Experiment(run.folder).model))(images) for run in runs]
    expected = compute_udr([model[drawn] for model in codes], [kl_of(run) for run in runs])
    select(unlabelled)
    text = capsys.readouterr().out
    assert order_in(text) == [runs[index].name for index in expected.order]
    for run, lasso, spearman in zip(runs, expected.lasso, expected.spearman, strict=True):
        assert re.search(rf"│ {run.name} +│ +{lasso:.4f} │ +{spearman:.4f} │", text)


def test_a_collapsed_model_comes_last(copied, capsys):
    kl_divergence(copied / "s1", np.zeros_like)
    select(copied)
    text = capsys.readouterr().out
    assert order_in(text)[-1] == "s1"
    assert re.search(r"│ s1 +│ +0\.0000 │ +0\.0000 │ +0 │", text)


def test_where_all_have_collapsed_there_is_nothing_to_submit(copied, capsys):
    for name in ("s0", "s1", "s2"):
        kl_divergence(copied / name, np.zeros_like)
    select(copied)
    text = capsys.readouterr().out
    assert "every seed has collapsed" in text
    assert "to submit" not in text


def test_a_model_without_its_kl_is_refused(copied):
    Experiment(copied / "s1").pictures.unlink()
    with pytest.raises(DataError, match=facts("s1 has no KL", "train/pictures.npz", copied, "train it again")):
        select(copied)


def test_a_folder_without_its_model_is_refused(copied):
    Experiment(copied / "s2").model.unlink()
    with pytest.raises(DataError, match=facts("s2 has no model", "pytorch_model.pt is missing", copied)):
        select(copied)


def test_another_model_in_the_place_of_the_trained_one_is_refused(copied):
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 4))
    export_model(other, Experiment(copied / "s2").model)
    with pytest.raises(DataError, match=facts("pytorch_model.pt has 4 latents", "KL divergences of 3", copied / "s2")):
        select(copied)


def test_two_seeds_are_too_few(copied):
    shutil.rmtree(copied / "s2")
    with pytest.raises(DataError, match=facts(copied, "no configuration with 3 seeds")):
        select(copied)


def test_records_whose_models_lie_elsewhere_are_refused(tmp_path):
    shutil.copy(ROOT / "docs" / "tables" / "table1.json", tmp_path / "results.json")
    with pytest.raises(DataError, match=facts("no KL divergences", tmp_path / "results.json", "UDR needs")):
        select(tmp_path / "results.json")


def test_what_holds_no_runs(tmp_path, unlabelled):
    for folder in (tmp_path, unlabelled / "s0"):
        with pytest.raises(DataError, match=facts(folder, "neither finished runs of a sweep nor two experiments")):
            select(folder)


def test_a_sweeps_folder(unlabelled, tmp_path, capsys):
    sweep = tmp_path / "mine"
    for seed in range(3):
        folder = shutil.copytree(unlabelled / f"s{seed}", sweep / "row" / f"seed_{seed}")
        (folder / "run.json").write_text("{}")
    (sweep / "table.json").write_text(json.dumps({"table": "mine"}))
    select(sweep)
    assert re.search(r"to submit: .*mine/row/seed_\d/representation/pytorch_model.pt\n", capsys.readouterr().out)


def seeds_with_scores(count):
    """A configuration whose UDR and first score rise together, while the second falls and the third is the same."""
    scores = [[0.1 * seed, -0.1 * seed, 0.5, (seed * 7 % 5) / 10, np.nan] for seed in range(count)]
    runs = [Run(f"row/seed_{seed}", np.array(s), {}, "d", source=ROOT) for seed, s in enumerate(scores)]
    rising = np.linspace(0.2, 0.6, count)
    return Group(runs, "row"), Udr(rising, rising[::-1].copy(), np.full(count, 3))


def test_agreement_with_scores_is_printed_from_five_seeds():
    table = udr_table(*seeds_with_scores(4))
    assert len(table.lines) == 4
    assert "from 5 seeds" in " ".join(table.notes)
    group, udr = seeds_with_scores(5)
    table = udr_table(group, udr)
    assert [line.cells[0] for line in table.lines[:5]] == [f"row/seed_{seed}" for seed in (4, 3, 2, 1, 0)]
    lasso, spearman = table.lines[5:]
    expected = spearmanr(udr.lasso, group.scores[:, 3]).statistic
    assert lasso.cells[4:] == ["+1.00", "-1.00", "-", f"{expected:+.2f}", "-"]
    assert spearman.cells[4:] == ["-1.00", "+1.00", "-", f"{-expected:+.2f}", "-"]
    assert len(table.columns) == len(lasso.cells) == 4 + len(METRICS)


def test_agreement_takes_an_order_and_five_seeds():
    rising = np.arange(6.0)
    assert agreement(rising, rising**3) == pytest.approx(1)
    assert agreement(rising, np.append(rising[:4], [np.nan, np.nan])) is None
    assert agreement(np.zeros(6), rising) is None


@pytest.mark.processes
def test_the_command(unlabelled):
    command = [sys.executable, "-m", "disentanglement_challenge.sweep", "select", str(unlabelled)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert "to submit: " in ended.stdout
