"""The check as a whole, and its run as another user."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from messages import facts
from repositories import commit, make_repository, working_tree

from disentanglement_challenge.errors import SubmissionError
from disentanglement_challenge.submission import score_alone
from disentanglement_challenge.submission.findings import CROSS, TICK
from disentanglement_challenge.submission.trial import Trial

# One run tests when the short run and the score get a tick. Whole checks, which are slow, test that each mistake gets a
# cross while the other checks still run.


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return make_repository(tmp_path_factory.mktemp("repository"), working_tree())


@pytest.fixture(scope="module")
def data(embedded_data_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISENTANGLEMENT_LIB_DATA", str(embedded_data_path))
        yield embedded_data_path


@pytest.fixture
def trial(repository):
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which other users cannot read
        trial = Trial(Path(folder), repository)
        try:
            assert trial._account.run(["true"], trial.folder, {}).returncode == 0
        except SubmissionError as error:
            pytest.skip(str(error))
        yield trial
        trial.close()


@pytest.mark.processes
def test_a_short_run_as_somebody_else_and_its_score(trial, data):
    before = sorted(trial.copy.rglob("*"))
    run = trial.run()
    assert run.mark == TICK, run
    assert re.match(facts("no HOME", "read-only"), run.reason)
    if os.geteuid() == 0:
        assert re.match(r"run\.sh as user 6\d{4}", run.reason)
        assert trial.model.stat().st_uid >= 60000
        assert all(path.stat().st_uid == 0 for path in before)
    assert sorted(trial.copy.rglob("*")) == before
    assert torch.jit.load(trial.model)(torch.rand(3, 3, 64, 64)).shape == (3, 256)  # the submission's own network
    score = trial.score()
    assert score.mark == TICK, score
    assert re.search(r"factor_vae_metric [01]\.\d\d, mig [01]\.\d\d, irs [01]\.\d\d$", score.reason)


@pytest.mark.processes
def test_the_tree_cannot_be_written(trial):
    account = trial._account
    for command in (["touch", trial.copy / "new"], ["sh", "-c", f"echo >> {trial.copy / 'run.sh'}"]):
        if os.geteuid() == 0:
            assert account.run(command, trial.folder, {"PATH": os.defpath}).returncode != 0
    assert not any(path.stat().st_mode & 0o222 for path in trial.copy.rglob("*") if not path.is_symlink())


@pytest.mark.processes
def test_without_a_model_there_is_no_score(trial):
    finding = trial.score()
    assert finding.mark == CROSS
    assert "no model" in finding.reason


@pytest.mark.parametrize(
    ("representation_function", "said"),
    [
        (lambda images: images.mean(axis=(1, 2, 3)), ["float32", "(4,)", "(N, num_latent)"]),
        (lambda images: images[:, 0, 0].astype(int), ["int64", "(4, 3)", "(N, num_latent)"]),
        (lambda images: images[:, 0, 0] - images.mean(), ["batch"]),
        (lambda images: images[:, 0, 0] + np.nan, ["NaN", "finite"]),
    ],
)
def test_what_is_no_representation_is_not_scored(representation_function, said):
    images = np.random.RandomState(0).uniform(size=(4, 64, 64, 3)).astype(np.float32)
    with pytest.raises(SystemExit, match=facts("error: ", *said)):
        score_alone.check_function(representation_function, images)
    score_alone.check_function(lambda images: images[:, 0, 0], images)


def test_where_this_package_can_be_imported_its_absence_is_not_shown():
    with pytest.raises(SystemExit, match=facts("error: ", "disentanglement_challenge", "python -I")):
        score_alone.main("model.pt", "images.npy", [])


@pytest.mark.processes
def test_a_process_without_a_home_leaves_nothing_where_it_works(tmp_path):
    """numba, Keras and matplotlib use ./~ as the home folder of a user without one."""
    program = "import os, disentanglement_challenge.data.scene; print(os.path.expanduser('~'))"
    # An unknown user's home is not absolute: "~", a folder of this name.
    environment = {"PYTHONPATH": str(ROOT), "HOME": "~", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    home = Path(result.stdout.strip())
    assert home.is_absolute()
    assert not home.exists()  # the process removed it
    assert list(tmp_path.iterdir()) == []


def check(repository):
    """Run the command, and return its exit code and findings: name to (mark, reason)."""
    command = [sys.executable, "-m", "disentanglement_challenge.submission", "check"]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=900)
    lines = re.findall(r"^([✓!✗]) ([\w. ]+): (.*)$", result.stdout, re.MULTILINE)
    return result.returncode, {name: (mark, reason) for mark, name, reason in lines}


NAMES = [
    "committed",
    "aicrowd.json",
    "environment.yml",
    "apt.txt",
    "run.sh",
    "files",
    "resolution",
    "short run",
    "score",
]


@pytest.mark.processes
@pytest.mark.slow
def test_the_whole_check(repository, data):
    code, findings = check(repository)
    assert list(findings) == NAMES
    assert {mark for mark, _ in findings.values()} == {TICK}, findings
    assert code == 0


def break_files(repository):
    for name, old, new in (
        ("aicrowd.json", '"gpu": true', '"gpu": "yes"'),
        ("environment.yml", "numpy==2.4.6", "numpy==9.9.9"),
        ("apt.txt", "", "Not A Package\n"),
    ):
        text = (repository / name).read_text()
        (repository / name).write_text(text.replace(old, new, 1))
    (repository / "run.sh").chmod(0o644)
    with (repository / "large.bin").open("wb") as file:
        file.truncate(50_000_000)


BROKEN_FILES = {
    "aicrowd.json": ["gpu", '"yes"', "true or false"],
    "environment.yml": ["numpy", "9.9.9", "requirements.txt", "2.4.6"],
    "apt.txt": ["line 1", "'Not A Package"],
    "run.sh": ["not executable", "100644"],
    "files": ["large.bin", "50.0 MB"],
    "resolution": ["numpy==9.9.9"],
    "short run": ["Permission denied"],
    "score": ["no model"],
}


def break_training(repository):
    path = repository / "train_pytorch.py"
    path.write_text("raise RuntimeError('this script is broken')\n" + path.read_text())


def leave_no_model(repository):
    (repository / "train_pytorch.py").write_text("print('done')\n")


def write_into_the_tree(repository):
    path = repository / "train_pytorch.py"
    path.write_text("from pathlib import Path\nPath(__file__).with_name('cache').write_text('')\n" + path.read_text())


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sabotage", "crosses"),
    [
        (break_files, BROKEN_FILES),
        (
            break_training,
            {"short run": ["run.sh", "with 1", "RuntimeError: this script is"], "score": ["no model"]},
        ),
        (
            leave_no_model,
            {"short run": ["run.sh", "submission_check/representation/pytorch_model.pt"], "score": ["no model"]},
        ),
        (write_into_the_tree, {"short run": ["PermissionError: [Errno 13]"], "score": ["no model"]}),
    ],
)
def test_each_mistake_is_a_cross_that_names_it(tmp_path, data, sabotage, crosses):
    repository = make_repository(tmp_path, working_tree())
    sabotage(repository)
    commit(repository)
    code, findings = check(repository)
    assert code == 1
    assert list(findings) == NAMES
    assert [name for name, (mark, _) in findings.items() if mark == CROSS] == list(crosses), findings
    for name, said in crosses.items():
        assert re.match(facts(*said), findings[name][1])
