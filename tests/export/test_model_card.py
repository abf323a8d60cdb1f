"""The model card: what huggingface_hub reads in it, and what a person does."""

import json
import re

import numpy as np
import pytest
from conftest import extra
from squares import SMALL, squares, train_and_score

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.evaluation.harness import evaluate
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.model_card import MARK, model_card, write_card
from disentanglement_challenge.files import read_json, remove, write_json, write_text
from disentanglement_challenge.metrics import METRICS
from disentanglement_challenge.training.run import train_and_export


def section(card, title):
    return re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL).group(1)


def test_the_hub_s_own_library_reads_the_scores(small_experiment):
    extra("hub")
    from huggingface_hub import ModelCard

    data = ModelCard.load(small_experiment.card).data
    assert data.model_name == "small"
    assert data.pipeline_tag == "image-feature-extraction"
    assert "factor_vae" in data.tags
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    scores = read_json(small_experiment.scores)
    assert {metric: found[metric] for metric in METRICS} == scores
    assert {result.dataset_name for result in data.eval_results} == {"squares"}
    assert data.to_dict()["model-index"]  # which the library writes as the hub wants it


def test_a_person_reads_data_configuration_scores_and_limits(small_experiment):
    card = small_experiment.card.read_text()
    assert "| trained on | squares |" in section(card, "Data")
    assert "color (2), row (4), column (4)" in section(card, "Data")
    assert "| latents | `6` |" in section(card, "Configuration")
    assert (small_experiment.train / "config.gin").read_text().strip() in section(card, "Configuration")
    dci = read_json(small_experiment.scores)["dci"]
    assert f"| DCI | {dci:.4g} |" in section(card, "Scores")
    assert read_json(small_experiment.metrics_provenance)["model_sha256"] in section(card, "Scores")
    assert "`dci.num_train = 200`" in section(card, "Limits")  # which is not the official setting
    assert "seed 0" in section(card, "Limits")


def test_its_code_runs(small_experiment, monkeypatch):
    monkeypatch.chdir(small_experiment.model.parent)
    code = re.search(r"```python\n(.*?)```", small_experiment.card.read_text(), re.DOTALL).group(1)
    import torch

    names = {"images": torch.rand(2, 3, 64, 64)}
    exec(code, names)
    assert names["codes"].shape == (2, 6)


def test_training_writes_it_and_scoring_writes_it_anew(tmp_path, monkeypatch):
    seen = []

    def card_before_scoring(*arguments, **keywords):
        seen.append(Experiment(tmp_path / "e").card.read_text())
        return evaluate(*arguments, **keywords)

    monkeypatch.setattr("disentanglement_challenge.evaluation.harness.evaluate", card_before_scoring)
    experiment = Experiment(tmp_path / "e")
    train_and_score(experiment, monkeypatch)
    assert section(seen[0], "Scores").strip() == "Not scored yet."
    assert "model-index" not in seen[0]
    assert experiment.card.read_text() == model_card(experiment)
    assert "| MIG |" in section(model_card(experiment), "Scores")


def test_a_card_of_somebody_s_own_stays_when_the_model_is_trained_again(tmp_path, caplog):
    experiment = Experiment(tmp_path / "mine")
    with gin_configuration(["shared.gin"], [*SMALL, "dataset.name = 'squares'"]):
        train_and_export(experiment, overwrite=False, ground_truth_data=squares())
        experiment.card.write_bytes(b"# Mine\r\n\xff")
        train_and_export(experiment, overwrite=True, ground_truth_data=squares())
        assert experiment.card.read_bytes() == b"# Mine\r\n\xff"
        assert f"{experiment.card} is kept" in caplog.text
        remove(experiment.train)  # as for a model of the hub, whose card is of that model
        train_and_export(experiment, overwrite=True, ground_truth_data=squares())
        assert MARK in experiment.card.read_text()


def test_a_loaded_model_keeps_its_configuration(tmp_path):
    experiment = Experiment(tmp_path / "theirs")
    write_text(
        experiment.representation_results / "gin" / "train.gin", "encoder.num_latent = 7\nmodel.random_seed = 4\n"
    )
    card = model_card(experiment)
    assert "| latents | `7` |" in section(card, "Configuration")
    assert "of seed 4" in section(card, "Limits")
    assert "stopped" not in card


def test_a_card_of_somebody_s_own_stays(tmp_path):
    experiment = Experiment(tmp_path / "theirs")
    write_text(experiment.card, "# Mine\n")
    write_card(experiment)
    assert experiment.card.read_text() == "# Mine\n"
    write_text(experiment.card, f"{MARK}\n# Old\n")
    write_card(experiment)
    assert "# theirs" in experiment.card.read_text()


def test_a_model_that_was_not_trained_here(tmp_path):
    experiment = Experiment(tmp_path / "theirs")
    write_text(experiment.model.with_suffix(".onnx"), "")
    card = model_card(experiment)
    assert "pytorch_model.onnx" in section(card, "Use")
    assert "not trained here" in section(card, "Configuration")
    assert "one run" not in section(card, "Limits")


def test_names_cannot_break_its_tables_or_its_front(tmp_path):
    extra("hub")
    from huggingface_hub import ModelCard

    name = 'a | b: [c\n---\n"d" \'e'
    experiment = Experiment(tmp_path / "x: [y")
    content = {
        "date": "2026-01-01T00:00:00+00:00",
        "engine": "fast",
        "official": True,
        "model_sha256": "0" * 64,
        "ground_truth_data": {"name": name, "note": "", "factor_names": [name], "factor_sizes": [2]},
        "metrics": {"mig": {"label": "MIG", "value": 0.5, "explanation": name, "reason": ""}},
    }
    experiment.metrics.mkdir(parents=True)
    write_json(experiment.metrics_provenance, content)
    write_card(experiment)
    data = ModelCard.load(experiment.card).data
    assert data.model_name == "x: [y"
    assert data.eval_results[0].dataset_name == name
    rows = [line for line in section(experiment.card.read_text(), "Scores").split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


@pytest.mark.parametrize("damaged", ["{", "[]", json.dumps({"seconds": 1})])
def test_what_is_damaged_is_not_said(tmp_path, damaged):
    experiment = Experiment(tmp_path / "e")
    write_text(experiment.losses, damaged)
    assert "training steps made" not in model_card(experiment)


def test_a_folder_that_cannot_be_written_costs_no_scores(tmp_path, monkeypatch, caplog):
    experiment = Experiment(tmp_path / "e")

    def refused(path, text):
        if path == experiment.card and experiment.metrics_provenance.exists():
            from disentanglement_challenge.errors import OutputError

            raise OutputError(f"cannot write {path}: read-only")
        write_text(path, text)

    monkeypatch.setattr("disentanglement_challenge.export.model_card.write_text", refused)
    train_and_score(experiment, monkeypatch)
    assert "the scores are kept" in caplog.text
    assert np.isfinite(read_json(experiment.scores)["mig"])
