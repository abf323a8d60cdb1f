"""The scripts as real processes: a whole tiny run, and the mistakes that a user can make."""

import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from messages import assert_error_line, facts
from quick_scores import quick_scores
from torch import nn

import run as run_script_module
import train_pytorch as train_script_module
from benchmarks.check_scores import compare
from disentanglement_challenge.cli import run_script
from disentanglement_challenge.errors import ChallengeError, RepresentationError
from disentanglement_challenge.evaluation.scores import Score, Scores, print_scores
from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.export.metadata import Metadata
from disentanglement_challenge.export.model_file import read_metadata
from disentanglement_challenge.metrics import METRICS

TINY = [
    "model.training_steps = 3",
    "model.batch_size = 8",
    "model.eval_steps = 1",
    "encoder.num_latent = 4",
    "conv_encoder.width = 0.25",
    "deconv_decoder.width = 0.25",
    "fc_discriminator.width = 0.02",
]
QUICK_SCORES = quick_scores(400)


def start(script, *arguments, bindings=(), preexec_fn=None, **environment):
    """Start a script as a user would, from another folder, with no variables of this project in the environment."""
    flags = [flag for binding in bindings for flag in ("--gin_bindings", binding)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AICROWD", "DISENTANGLEMENT"))}
    return subprocess.Popen(
        [sys.executable, ROOT / script, *map(str, arguments), *flags],
        env={**clean, **{name: str(value) for name, value in environment.items()}},
        cwd=environment.get("AICROWD_OUTPUT_PATH", ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec_fn,
    )


def run(script, *arguments, bindings=(), **environment):
    process = start(script, *arguments, bindings=bindings, **environment)
    stdout, stderr = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def files_below(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, embedded_data_path):
    """Run one tiny experiment from nothing to scores."""
    path = tmp_path_factory.mktemp("output")
    result = run(
        "run.py",
        bindings=[*TINY, *QUICK_SCORES, "export.formats = ['pt2', 'onnx']"],
        AICROWD_OUTPUT_PATH=path,
        DISENTANGLEMENT_LIB_DATA=embedded_data_path,
    )
    return path, result


@pytest.mark.processes
def test_a_whole_run(finished):
    path, result = finished
    assert result.returncode == 0, result.stderr
    experiment = path / "experiment_name"
    scores = json.loads((experiment / "scores.json").read_text())
    assert scores.keys() == {"factor_vae_metric", "dci", "sap_score", "mig", "irs"}
    assert all(0 <= score <= 1 for score in scores.values())
    for metric, score in scores.items():
        # A row of the final table has name, score and seconds.
        assert re.search(rf"{metric}\W+{score:.4f}\W+\d+\.\d", result.stdout), result.stdout
        assert (experiment / "metrics" / metric / "results" / "aggregate" / "evaluation.json").exists()
    assert (experiment / "representation" / "results" / "gin" / "train.gin").exists()
    assert "model.training_steps = 3" in (experiment / "train" / "config.gin").read_text()
    representation = torch.jit.load(experiment / "representation" / "pytorch_model.pt")(torch.rand(7, 3, 64, 64))
    assert representation.shape == (7, 4)
    gin_config = (experiment / "representation" / "results" / "gin" / "train.gin").read_bytes()
    for suffix in ("pt", "pt2", "onnx"):
        metadata = read_metadata(experiment / "representation" / f"pytorch_model.{suffix}")
        assert metadata == Metadata("mpi3d_embedded", 4, hashlib.sha256(gin_config).hexdigest())
    assert f"page: {experiment / 'page.html'}\n" in result.stdout
    assert f"{scores['dci']:.4f}" in (experiment / "page.html").read_text()
    for noise in ("Warning", "deprecated", "oneDNN", "Traceback"):
        assert noise not in result.stdout + result.stderr


@pytest.mark.processes
def test_a_report_that_cannot_be_drawn_leaves_the_scores(tmp_path, finished, capsys):
    from run import draw_page

    experiment = Experiment(shutil.copytree(finished[0] / "experiment_name", tmp_path / "copy"))
    before = experiment.scores.read_text()
    experiment.page.unlink()
    experiment.pictures.write_text("damaged")
    draw_page(experiment, debug=False)
    again = f"python -m disentanglement_challenge.pages {experiment.path}"
    assert re.fullmatch(facts("page", "DataError", "pictures.npz", again) + r".+\n", capsys.readouterr().err)
    assert experiment.scores.read_text() == before
    assert not experiment.page.exists()


@pytest.mark.processes
def test_a_second_run_is_refused_and_changes_nothing(finished, embedded_data_path):
    path, _ = finished
    before = {name: (path / name).stat().st_mtime_ns for name in files_below(path)}
    for script in ("run.py", "train_pytorch.py"):
        result = run(script, AICROWD_OUTPUT_PATH=path, DISENTANGLEMENT_LIB_DATA=embedded_data_path)
        assert result.returncode == 1
        assert "--overwrite" in result.stderr
    assert before == {name: (path / name).stat().st_mtime_ns for name in files_below(path)}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "bindings", "said"),
    [
        (["--resume", "--metrics", "mig"], [], ["experiment_name", "scored already", "--evaluate_only"]),
        # The entropies of the factors of one point are 0.
        (["--evaluate_only", "--overwrite", "--metrics", "mig"], ["mig.num_train = 1"], ["mig has no score"]),
        (
            ["--resume"],
            ["acceleration.precision = 'bfloat16'"],
            ["made with acceleration.precision = 'float32', not 'bfloat16'", "acceleration.precision = 'auto'"],
        ),
    ],
)
def test_scores_that_are_there_are_kept(finished, embedded_data_path, arguments, bindings, said):
    path, _ = finished
    kept = ("scores.json", "metrics/mig/results/aggregate/evaluation.json", "metrics/provenance.json")
    before = [(path / "experiment_name" / name).read_text() for name in kept]
    result = run(
        "run.py",
        *arguments,
        bindings=[*TINY, *QUICK_SCORES, "export.formats = ['pt2', 'onnx']", *bindings],
        AICROWD_OUTPUT_PATH=path,
        DISENTANGLEMENT_LIB_DATA=embedded_data_path,
    )
    assert result.returncode == 1, result.stdout
    assert_error_line(result.stderr.splitlines(keepends=True)[-1], *said)  # after unused bindings and progress bars
    assert before == [(path / "experiment_name" / name).read_text() for name in kept]


@pytest.mark.processes
def test_evaluating_alone_in_a_sandbox_gives_the_same_scores(finished, embedded_data_path):
    path, _ = finished
    scores = (path / "experiment_name" / "scores.json").read_text()
    arguments = ("run.py", "--evaluate_only", "--overwrite", "--sandbox")
    settings = {"AICROWD_OUTPUT_PATH": path, "DISENTANGLEMENT_LIB_DATA": embedded_data_path}
    result = run(*arguments, bindings=QUICK_SCORES, **settings)
    assert result.returncode == 0, result.stderr
    assert (path / "experiment_name" / "scores.json").read_text() == scores


class View(nn.Module):
    """A layer that flattens like the kit's example, which needs images in channels-first memory format."""

    def forward(self, features):
        return features.view(features.shape[0], -1)


@pytest.mark.processes
def test_a_model_exported_with_the_starter_kit(tmp_path, embedded_data_path):
    """The kit traces and saves a module; the folder has no other file of this project."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), View(), nn.Linear(256, 6))
    path = tmp_path / "theirs" / "representation" / "pytorch_model.pt"
    path.parent.mkdir(parents=True)
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, 64, 64)), path)
    result = run(
        *("run.py", "--evaluate_only", "--experiment", "theirs", "--dataset", "mpi3d_embedded"),
        bindings=QUICK_SCORES,
        AICROWD_OUTPUT_PATH=tmp_path,
        DISENTANGLEMENT_LIB_DATA=embedded_data_path,
    )
    assert result.returncode == 0, result.stderr
    assert f"representation function: {path}\n" in result.stdout
    assert len(json.loads((tmp_path / "theirs" / "scores.json").read_text())) == 5


MISTAKES = [
    ("train_pytorch.py", ["--dataset", "mpi3d_embeded"], [], ["'mpi3d_embeded'", "did you mean 'mpi3d_embedded'"]),
    ("train_pytorch.py", ["--dataset", "mpi3d_real"], [], ["mpi3d_real.npz", "data download mpi3d_real"]),
    ("train_pytorch.py", [], ["encoder.num_latents = 3"], ["'num_latents'", "did you mean 'num_latent'"]),
    ("train_pytorch.py", [], ["encodr.num_latent = 3"], ["'encodr'", "did you mean 'encoder'"]),
    ("train_pytorch.py", [], ["encoder.encoder_fn = @conv_encode"], ["'@conv_encode'", "did you mean 'conv_encoder'"]),
    ("train_pytorch.py", ["--gin_config", "mpi3d_embeded.gin"], [], ["did you mean 'mpi3d_embedded.gin'"]),
    ("train_pytorch.py", ["--experiment", "a/b"], [], ["'a/b'", "plain name"]),
    ("train_pytorch.py", [], ["model.training_steps = 0"], ["model.training_steps is 0"]),
    ("train_pytorch.py", [], ["model.training_steps = -1"], ["model.training_steps is -1"]),
    ("train_pytorch.py", [], ["encoder.num_latent = 0"], ["num_latent is 0"]),
    ("train_pytorch.py", ["--resume"], ["model.time_limit = 0"], ["model.time_limit is 0"]),
    ("train_pytorch.py", [], ["vae/AdamOptimizer.learning_rate = 'x'"], ["AdamOptimizer"]),
    ("train_pytorch.py", [], ["encoder.encoder_fn = 3"], ["encoder.encoder_fn", "3 ", "@conv_encoder"]),
    ("train_pytorch.py", [], ["conv_encoder.activation = relu"], ["conv_encoder.activation = relu", "quotes"]),
    ("train_pytorch.py", [], ["model.batch_size = %N"], ["macro %N"]),
    ("train_pytorch.py", [], ["num_latent = 3"], ["macro %num_latent", "did you mean encoder.num_latent"]),
    ("train_pytorch.py", [], ["training_steps = 1"], ["did you mean model.training_steps"]),
    (
        "train_pytorch.py",
        [],
        ["postprocess.postprocess_fn = @mean_representation"],
        ["postprocess", "the encoder's mean is exported"],
    ),
    ("train_pytorch.py", [], ["model.model = @vae"], ["@vae ", "write @vae()"]),
    ("run.py", [], ["evaluation.engine = 'exactt'"], ["'exactt'", "'fast', 'library'"]),
    ("run.py", [], ["dci.num_trian = 10"], ["'num_trian'", "did you mean 'num_train'"]),
    ("run.py", [], ["reduced_downstream_task.num_train = [1]"], ["reduced_downstream_task", "disentanglement_lib"]),
    ("run.py", ["--evaluate_only"], [], ["no model", "pytorch_model.pt"]),
    ("run.py", ["--evaluate_only", "--resume"], [], ["--evaluate_only trains nothing", "leave out --resume"]),
]
OF_EACH_SCRIPT = [MISTAKES[3], MISTAKES[8], next(mistake for mistake in MISTAKES if mistake[0] == "run.py")]


@pytest.mark.processes
@pytest.mark.parametrize(("script", "arguments", "bindings", "said"), OF_EACH_SCRIPT)
def test_a_mistake_is_one_clear_line(tmp_path, embedded_data_path, script, arguments, bindings, said):
    result = run(
        script,
        *arguments,
        bindings=[*TINY, *bindings],
        AICROWD_OUTPUT_PATH=tmp_path,
        DISENTANGLEMENT_LIB_DATA=embedded_data_path,
    )
    assert result.returncode == 1
    assert_error_line(result.stderr, *said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("script", "arguments", "bindings", "said"), MISTAKES)
def test_every_mistake_is_one_error(
    tmp_path, embedded_data_path, monkeypatch, capsys, script, arguments, bindings, said
):
    """The scripts print the first line of it, as the test above checks."""
    module = {"run.py": run_script_module, "train_pytorch.py": train_script_module}[script]
    monkeypatch.setenv("AICROWD_OUTPUT_PATH", str(tmp_path))
    monkeypatch.setenv("AICROWD_EVALUATION_NAME", "experiment_name")
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(embedded_data_path))
    flags = [flag for binding in (*TINY, *bindings) for flag in ("--gin_bindings", binding)]
    with pytest.raises(ChallengeError, match=facts(*said)):
        module.main(module.make_parser().parse_args([*arguments, *flags]))
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


HEAVY = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    heavy = {"torch", "tensorflow", "numba", "sklearn", "matplotlib", "ray"} & set(sys.modules)
    print(end.code, sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize("script", ["run.py", "train_pytorch.py"])
@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (["--help"], "0 []"),
        (["--gin-config", "x"], "2 []"),
        (["--gin_bindings", "encodr.num_latent = 3"], "1 []"),
        (["--gin_config", "nothing.gin"], "1 []"),
    ],
)
def test_nothing_heavy_is_imported_to_say_no(script, arguments, end):
    command = [sys.executable, "-c", HEAVY, ROOT / script, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == end


@pytest.mark.parametrize("script", ["run.py", "train_pytorch.py"])
@pytest.mark.parametrize("data_set", ["mpi3d_embeded", "mpi3d_real"])
def test_a_data_set_is_missed_before_pytorch_is_imported(script, data_set, tmp_path):
    command = [sys.executable, "-c", HEAVY, ROOT / script, "--dataset", data_set]
    environment = {**os.environ, "DISENTANGLEMENT_LIB_DATA": str(tmp_path)}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.stderr.splitlines()[-1] == "1 ['numba']"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--gin-config", "x.gin"], "did you mean '--gin_config'"),
        (["--gin_bindings", "a.b = 1", "c.d = 2"], "repeat the flag"),
        (["--gin_config", "a.gin", "b.gin"], "repeat the flag"),
        ([""], "unrecognized arguments"),
    ],
)
def test_flags_that_are_nearly_right_get_a_hint(arguments, hint, capsys):
    with pytest.raises(SystemExit) as end:
        train_script_module.make_parser().parse_args(arguments)
    assert end.value.code == 2
    assert_error_line(
        capsys.readouterr().err, arguments[-1] if "--gin-config" not in arguments else "--gin-config", hint
    )


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.processes
def test_a_pickle_in_place_of_a_model_is_not_opened(tmp_path):
    path = tmp_path / "experiment_name" / "representation" / "pytorch_model.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(Bomb()))
    result = run("run.py", "--evaluate_only", AICROWD_OUTPUT_PATH=tmp_path)
    assert result.returncode == 1
    assert_error_line(result.stderr, path, "pickle")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.processes
def test_what_cannot_be_scored_is_not_trained_on_first(tmp_path):
    np.savez(tmp_path / "mine.npz", images=np.zeros((20, 64, 64, 3), np.uint8))
    mine = f"folder.path = '{tmp_path}/mine.npz'"
    result = run("run.py", "--dataset", "folder", bindings=[*TINY, mine], AICROWD_OUTPUT_PATH=tmp_path)
    assert result.returncode == 1
    assert re.search(r"^error: .*'folder'.*no factors.*train_pytorch\.py", result.stderr, re.MULTILINE)
    assert not (tmp_path / "experiment_name").exists()


def test_what_a_model_says_cannot_steer_the_terminal(capsys):
    def fail():
        raise RepresentationError("the model fails: \x1b[31mred\x07 é")

    with pytest.raises(SystemExit):
        run_script(fail, debug=False)
    assert capsys.readouterr().err == "error: the model fails: ?[31mred? é\n"


@pytest.mark.processes
def test_an_output_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("train_pytorch.py", "--experiment", "file", AICROWD_OUTPUT_PATH=tmp_path)
    assert result.returncode == 1
    assert_error_line(result.stderr, tmp_path / "file")


@pytest.mark.processes
def test_an_output_folder_that_cannot_be_written():
    # Not even root can make a folder there.
    result = run("train_pytorch.py", AICROWD_OUTPUT_PATH="/proc")
    assert result.returncode == 1
    assert_error_line(result.stderr, "/proc/experiment_name")


@pytest.mark.processes
def test_check_scores_compares_the_engines_and_leaves_the_experiment_alone(finished, embedded_data_path):
    path, _ = finished
    before = {name: (path / name).stat().st_mtime_ns for name in files_below(path)}
    result = run(
        "benchmarks/check_scores.py",
        bindings=QUICK_SCORES,
        AICROWD_OUTPUT_PATH=path,
        DISENTANGLEMENT_LIB_DATA=embedded_data_path,
        PYTHONPATH=ROOT,
    )
    for metric in ("factor_vae_metric", "mig"):
        assert re.search(rf"{metric} .* \+0\.0e\+00 +│ +0e\+00 ", result.stdout), result.stdout + result.stderr
    # DCI on 400 points of an untrained representation has many ties, so both exit codes are possible.
    assert result.returncode in (0, 1)
    assert "Traceback" not in result.stderr
    assert before == {name: (path / name).stat().st_mtime_ns for name in files_below(path)}


@pytest.mark.parametrize(
    ("metric", "difference", "within"),
    [
        ("mig", 0.0, True),
        ("mig", 1e-9, False),
        ("sap_score", -0.9e-3, True),
        ("sap_score", -1.1e-3, False),
        ("irs", None, False),
    ],
)
def test_check_scores_names_the_row_that_differs_by_more_than_it_may(metric, difference, within):
    def score(name, value):
        return Score(METRICS[name], value)

    library = {name: score(name, None if name == "dci" else 0.5) for name in METRICS}
    fast = {**library, metric: score(metric, None if difference is None else 0.5 + difference)}
    assert compare(fast, library)[1] == ([] if within else [metric])


def test_a_data_sets_note_is_text_and_never_markup(capsys):
    data = {"name": "mine", "note": "of [lab] origin, see [/data]", "factor_names": []}
    print_scores(Scores({}, {}, "fast", data))
    assert "of [lab] origin, see [/data]" in capsys.readouterr().out


@pytest.mark.processes
def test_one_score_alone_leaves_the_others_and_is_refused_for_another_model(finished, embedded_data_path):
    path, _ = finished
    experiment = Experiment(shutil.copytree(path / "experiment_name", path / "alone"))
    before = experiment.scores.read_bytes()
    environment = {"AICROWD_OUTPUT_PATH": path, "AICROWD_EVALUATION_NAME": "alone"}
    environment["DISENTANGLEMENT_LIB_DATA"] = embedded_data_path
    refused = run("run.py", "--evaluate_only", "--metrics", "mig", bindings=QUICK_SCORES, **environment)
    assert refused.returncode == 1
    assert_error_line(refused.stderr, experiment.path, "mig", "--overwrite")
    result = run(
        "run.py", "--evaluate_only", "--metrics", "mig_sup", "mig", "--overwrite", bindings=QUICK_SCORES, **environment
    )
    assert result.returncode == 0, result.stderr
    assert experiment.scores.read_bytes() == before
    content = json.loads(experiment.metrics_provenance.read_text())
    assert {"mig_sup", "mig", "dci", "activity"} <= content["metrics"].keys()
    with np.load(experiment.matrices) as matrices:
        assert {"mig_sup", "dci"} <= set(matrices.files)
    assert "MIG-sup" in (experiment.page).read_text()
    experiment.model.write_bytes((experiment.model).read_bytes() + b"x")
    other = run("run.py", "--evaluate_only", "--metrics", "jemmig", bindings=QUICK_SCORES, **environment)
    assert other.returncode == 1
    assert_error_line(other.stderr, experiment.path, "another model", "--evaluate_only --overwrite")
