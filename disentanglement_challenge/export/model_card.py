"""The model card: representation/README.md, which says what the exported model is, in the format of Hugging Face's hub.

YAML between two lines of dashes, then Markdown: https://huggingface.co/docs/hub/model-cards
"""

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from disentanglement_challenge.errors import DataError, OutputError
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import make_folder, read_json, write_text
from disentanglement_challenge.gin_text import config_bindings

# A card without it is somebody's own, and is left alone.
MARK = (
    "<!-- Training and scoring write this card anew. To keep a text of your own, delete this line. "
    "(disentanglement_challenge) -->"
)

_LOGGER = logging.getLogger(__name__)

# The hub's name for models that turn an image into numbers.
_TASK = "image-feature-extraction"
# What a reader asks first of a configuration that stands below in full.
_SHOWN = {
    "model.model": "objective",
    "encoder.num_latent": "latents",
    "encoder.encoder_fn": "encoder",
    "model.training_steps": "training steps asked for",
    "model.batch_size": "batch size",
    "model.random_seed": "seed",
}


def write_card(experiment: Experiment) -> None:
    """Write the card of an experiment's model from the experiment's files; leave a card that somebody else has written.

    Raises:
        OutputError: the card cannot be written.
    """
    if not _is_own(experiment.card):
        write_text(experiment.card, model_card(experiment))


def keep_own_card(experiment: Experiment, unfinished: Experiment) -> None:
    """Copy the card that the user has written for a model that was trained here to the run that replaces it."""
    if not (experiment.train.exists() and _is_own(experiment.card)):
        return
    try:
        shutil.copyfile(experiment.card, make_folder(unfinished.card.parent) / unfinished.card.name)
    except OSError as error:
        raise OutputError(f"cannot keep the card {experiment.card}: {error.strerror}") from error
    _LOGGER.warning("%s is kept as you have written it; see whether it holds for the new model", experiment.card)


def _is_own(card: Path) -> bool:
    return card.is_file() and MARK.encode() not in card.read_bytes()


def model_card(experiment: Experiment) -> str:
    """Return the card's text. It is silent on what no file of the experiment says."""
    config = ""
    # The second is there for a model from the hub, which was not trained here.
    for path in (experiment.train / "config.gin", experiment.representation_results / "gin" / "train.gin"):
        with suppress(OSError, UnicodeDecodeError):
            config = config or path.read_text(encoding="utf-8")
    bindings = config_bindings(config)
    training, losses = _mapping(experiment.train_provenance), _mapping(experiment.losses)
    evaluation = _mapping(experiment.metrics_provenance)
    objective = bindings.get("model.model", "").strip("@()")
    front = {
        "library_name": "disentanglement_challenge",
        "pipeline_tag": _TASK,
        "tags": ["disentanglement", "representation-learning", "torchscript", *filter(None, [objective])],
        **_model_index(experiment.name, evaluation),
    }
    sections = {
        "Use": _use(experiment),
        "Data": _data(training, evaluation),
        "Configuration": _configuration(config, bindings, losses),
        "Scores": _scores(evaluation),
        "Limits": _limits(bindings, training, experiment.is_interrupted, evaluation),
    }
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
            MARK,
            "",
            f"# {experiment.name}",
            "",
            _summary(objective, bindings),
            *(line for title, lines in sections.items() for line in ("", f"## {title}", "", *lines)),
            "",
        ]
    )


def _mapping(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds; nothing where it is not there, or is something else."""
    with suppress(DataError):
        content = read_json(path)
        return content if isinstance(content, dict) else {}
    return {}


def _model_index(name: str, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores as the hub reads them (https://huggingface.co/docs/hub/model-cards#evaluation-results)."""
    data = evaluation.get("ground_truth_data", {}).get("name")
    metrics = [
        {"type": metric, "name": described["label"], "value": described["value"]}
        for metric, described in evaluation.get("metrics", {}).items()
        if described["value"] is not None
    ]
    if not metrics:
        return {}
    results = [{"task": {"type": _TASK}, "dataset": {"name": data, "type": data}, "metrics": metrics}]
    return {"model-index": [{"name": name, "results": results}]}


def _summary(objective: str, bindings: Mapping[str, str]) -> str:
    width = bindings.get("encoder.num_latent")
    codes = f"a code of {width} numbers" if width else "a code"
    trained = f" It is the encoder of a VAE, trained with the objective `{objective}`." if objective else ""
    return (
        f"A representation function: it turns an image into {codes}.{trained} Its form is that of a submission to the "
        "NeurIPS 2019 Disentanglement Challenge."
    )


def _use(experiment: Experiment) -> list[str]:
    file = experiment.model_to_score.name
    return [
        "```python",
        "from disentanglement_challenge.export.model_file import import_model",
        "",
        f'encoder = import_model("{file}")',
        "codes = encoder(images)  # float32 (N, channels, 64, 64), from 0 to 1, to (N, latents)",
        "```",
        "",
        "Nothing in the file is unpickled. Its scores on a data set:",
        "",
        "```python",
        "from disentanglement_challenge import score",
        "",
        f'score("{file}", "mpi3d_embedded")',
        'score("hf://owner/name", "mpi3d_embedded")  # of a model on the hub',
        "```",
    ]


def _data(training: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[str]:
    rows = []
    for use, provenance in (("trained on", training), ("scored on", evaluation)):
        data = provenance.get("ground_truth_data")
        if data:
            rows.append([use, data["name"], data.get("note", "")])
    factors = evaluation.get("ground_truth_data", {})
    sizes = zip(factors.get("factor_names", ()), factors.get("factor_sizes", ()), strict=True)
    listed = ", ".join(f"{name} ({size})" for name, size in sizes)
    return [
        *(_table(["", "data set", "note"], rows) if rows else ["Not on record."]),
        *(["", f"Factors of variation, and how many values each has: {listed}."] if listed else []),
    ]


def _configuration(config: str, bindings: Mapping[str, str], losses: Mapping[str, Any]) -> list[str]:
    if not config:
        return ["The model was not trained here; how is not on record."]
    rows = [[meaning, f"`{bindings[name]}`"] for name, meaning in _SHOWN.items() if name in bindings]
    if "step" in losses:
        rows.append(["training steps made", f"`{losses['step']}`"])
    return [
        *_table(["", ""], rows),
        "",
        "All of it, as gin read it:",
        "",
        "```text",
        config.strip(),
        "```",
    ]


def _scores(evaluation: Mapping[str, Any]) -> list[str]:
    if not evaluation:
        return ["Not scored yet."]
    rows = []
    for name, described in evaluation["metrics"].items():
        meaning = described.get("reason") or described.get("explanation", "")
        rows.append([described["label"], _number(described["value"]), meaning, f"`{name}`"])
        rows += [[label, _number(value), "", ""] for label, value in described.get("beside", {}).items()]
    official = "the challenge's settings" if evaluation["official"] else "settings of its own (see the limits)"
    return [
        f"Computed on {evaluation['date'][:10]} by the {evaluation['engine']} engine, at {official}. The file that was "
        f"scored has the SHA-256 `{evaluation['model_sha256']}`.",
        "",
        *_table(["metric", "score", "meaning", "name"], rows),
    ]


def _limits(
    bindings: Mapping[str, str],
    training: Mapping[str, Any],
    was_stopped: bool,
    evaluation: Mapping[str, Any],
) -> list[str]:
    data = training.get("ground_truth_data", {})
    limits = []
    if data:
        limits.append(f"It has seen images of {data['name']} alone. Codes of other images need not mean anything.")
    if bindings:
        seed = bindings.get("model.random_seed", "unknown")
        limits.append(f"It is one run, of seed {seed}. Scores of the same configuration differ from seed to seed.")
        limits.append("It is the encoder alone. The decoder was not exported.")
    if was_stopped:
        limits.append("Training was stopped before its end.")
    if note := training.get("note"):
        limits.append(f"It was {note}.")
    scored_on = evaluation.get("ground_truth_data", {})
    notes = [data.get("note"), scored_on.get("note"), data.get("accepted"), *evaluation.get("notes", ())]
    limits += [f"{note[0].upper()}{note[1:].rstrip('.')}." for note in dict.fromkeys(filter(None, notes))]
    if settings := evaluation.get("unofficial_settings"):
        listed = ", ".join(f"`{name} = {value}`" for name, value in settings.items())
        limits.append(
            f"Its scores are not at the official settings, so they cannot be compared with published ones: {listed}."
        )
    limits.append("No score says whether a latent is meaningful to people.")
    return [f"- {_line(limit)}" for limit in limits]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(_line(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _line(text: str) -> str:
    """Return the text in one line: names and notes come from users."""
    return " ".join(str(text).split())
