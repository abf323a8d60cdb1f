"""Results are replaced as a whole, or not at all."""

import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from disentanglement_challenge.experiment import Experiment
from disentanglement_challenge.files import write_text

# Replaces results in a process that kills itself before its move number COUNT, counting from 0.
REPLACE = """
import os, signal, sys
from pathlib import Path
from disentanglement_challenge.experiment import Experiment

kind, count = sys.argv[2], int(sys.argv[3])
experiment, moved, rename = Experiment(Path(sys.argv[1])), [], Path.rename

def rename_or_die(path, target):
    if len(moved) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    moved.append(path)
    return rename(path, target)

Path.rename = rename_or_die
take = {
    "run": experiment.take_training,
    "model": experiment.take_model,
    "scores": experiment.take_scores,
    "metrics": lambda: experiment.take_scores(whole=False),
}
take[kind]()
"""
OLD = {
    "page.html": "old",
    "scores.json": "old",
    "metrics/mig/a": "old",
    "representation/pytorch_model.pt": "old",
    "train/checkpoints/step_1.pt": "old",
}
NEW = {
    "run": ("unfinished", ["representation/pytorch_model.pt", "train/checkpoints/step_1.pt"]),
    "model": ("unfinished_model", ["representation/pytorch_model.pt"]),
    "scores": ("unfinished_scores", ["metrics/mig/a", "scores.json"]),
    "metrics": ("unfinished_scores", ["metrics/mig/a"]),
}
# What is of no use any more once the new results are there.
OUTDATED = {
    "run": ["page.html", "scores.json", "metrics/mig/a"],
    "model": ["page.html", "scores.json", "metrics/mig/a", "train/checkpoints/step_1.pt"],
    "scores": ["page.html"],
    "metrics": ["page.html"],
}


def files_below(path):
    return {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("with_old", [True, False])
@pytest.mark.parametrize("kind", list(NEW))
def test_a_kill_in_a_replacement_leaves_the_old_results_or_the_new(tmp_path, kind, with_old):
    folder, names = NEW[kind]
    unfinished = {f"{folder}/{name}": "new" for name in names}
    old = OLD if with_old else {}
    new = {name: "old" for name in old if name not in OUTDATED[kind]} | dict.fromkeys(names, "new")
    # One for each old result that is set aside, and one for each new one.
    moves = len(set(old) & {*names, *OUTDATED[kind]}) + len(names)
    for count in range(moves + 1):
        experiment = Experiment(tmp_path / str(count))
        for name, text in (old | unfinished).items():
            write_text(experiment.path / name, text)
        command = [sys.executable, "-c", REPLACE, experiment.path, kind, str(count)]
        killed = subprocess.run(command, cwd=ROOT, timeout=60)
        experiment.undo_replacement()
        assert killed.returncode == (-signal.SIGKILL if count < moves else 0)
        assert files_below(experiment.path) == (old | unfinished if count < moves else new)
        assert not list(experiment.path.glob("replaced_*"))
