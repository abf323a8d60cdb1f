"""Checkpoints as files: what is damaged, foreign or another run's."""

import os
import pickle
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT

from disentanglement_challenge.config import gin_configuration
from disentanglement_challenge.errors import ConfigError, TrainingError
from disentanglement_challenge.training.checkpoints import Checkpoint, Checkpoints, load_newest, newest_first

CONFIGURATION = {"encoder.num_latent": "10", "model.training_steps": "100"}


def checkpoint(done):
    state = {
        "done": done,
        "weights": torch.arange(1000.0),
        "random": np.random.default_rng(done).bit_generator.state,  # holds integers of 128 bits
    }
    return Checkpoint(CONFIGURATION, state)


def save(folder, *steps, keep=10):
    checkpoints = Checkpoints(folder, keep=keep)
    for done in steps:
        checkpoints.save(checkpoint(done))


def test_what_is_written_is_read(tmp_path):
    save(tmp_path, 7)
    loaded = load_newest(tmp_path, CONFIGURATION)
    assert loaded.done == 7
    assert loaded.configuration == CONFIGURATION
    assert torch.equal(loaded.state["weights"], torch.arange(1000.0))
    assert loaded.state["random"] == np.random.default_rng(7).bit_generator.state


def test_the_newest_few_are_kept(tmp_path):
    save(tmp_path, 9, 10, 11, 100, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step_100.pt", "step_11.pt"]
    assert load_newest(tmp_path, CONFIGURATION).done == 100


def test_nothing_to_go_on_from(tmp_path):
    assert load_newest(tmp_path / "missing", CONFIGURATION) is None
    (tmp_path / "step_x.pt").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert load_newest(tmp_path, CONFIGURATION) is None


def cut(path):
    path.write_bytes(path.read_bytes()[:-500])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit_of_a_weight(path):
    content = bytearray(path.read_bytes())
    content[content.find(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(content)


def flip_a_bit_of_a_name(path):
    content = bytearray(path.read_bytes())
    content[content.find(b"data.pkl", content.find(b"PK\1\2"))] ^= 0x80  # of the archive's directory: no text any more
    path.write_bytes(content)


def flip_a_bit_of_a_compression(path):
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\1\2") + 10] ^= 8  # an entry that was stored reads as one that was deflated
    path.write_bytes(content)


def put_other_tensors(path):
    torch.save({"weights": torch.zeros(3)}, path)


def put_an_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "nothing")


def put_text(path):
    path.write_text("not a checkpoint")


DAMAGES = [
    cut,
    empty,
    flip_a_bit_of_a_weight,
    flip_a_bit_of_a_name,
    flip_a_bit_of_a_compression,
    put_other_tensors,
    put_an_archive,
    put_text,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog, damage):
    save(tmp_path, 10, 20)
    damage(tmp_path / "step_20.pt")
    assert load_newest(tmp_path, CONFIGURATION).done == 10
    (line,) = caplog.messages
    assert "step_20.pt is damaged" in line
    assert "resuming from step_10.pt" in line


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_checkpoint_left(tmp_path, damage):
    save(tmp_path, 10, 20)
    for path in newest_first(tmp_path):
        damage(path)
    with pytest.raises(TrainingError, match=r"step_20\.pt is damaged.*step_10\.pt is damaged.*no checkpoint left"):
        load_newest(tmp_path, CONFIGURATION)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_nothing_in_a_checkpoint_is_executed(tmp_path, write):
    bomb = {"configuration": CONFIGURATION, "state": {"done": 5, "bomb": Bomb(str(tmp_path / "exploded"))}}
    write(bomb, tmp_path / "step_5.pt")
    with pytest.raises(TrainingError, match=r"step_5\.pt is damaged or no checkpoint"):
        load_newest(tmp_path, CONFIGURATION)
    assert not (tmp_path / "exploded").exists()


def test_another_configuration_is_refused_and_what_differs_is_named(tmp_path):
    save(tmp_path, 10)
    with pytest.raises(ConfigError, match=r"step_10\.pt was made with encoder\.num_latent = 10, not 20"):
        load_newest(tmp_path, {**CONFIGURATION, "encoder.num_latent": "20"})
    with pytest.raises(ConfigError, match=r"conv_encoder\.width = \(unset\), not 2"):
        load_newest(tmp_path, {**CONFIGURATION, "conv_encoder.width": "2"})
    # How long to train is what a run may go on to differ in.
    assert load_newest(tmp_path, {**CONFIGURATION, "model.training_steps": "900"}).done == 10


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("checkpoints.keep = 0", r"checkpoints\.keep is 0"),
        ("checkpoints.every_minutes = -1", r"checkpoints\.every_minutes is -1"),
        ("checkpoints.every_minutes = 'x'", r"checkpoints\.every_minutes is 'x'"),
    ],
)
def test_a_number_out_of_range(tmp_path, binding, message):
    with gin_configuration([], [binding]), pytest.raises(ConfigError, match=message):
        Checkpoints(tmp_path)


FILL = """
import sys
from pathlib import Path
import torch
from disentanglement_challenge.training.checkpoints import Checkpoint, Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
with checkpoints.named_in_errors():
    checkpoints.save(Checkpoint({}, {"done": 1, "weights": torch.zeros(1000)}))
    checkpoints.save(Checkpoint({}, {"done": 2, "weights": torch.zeros(1000000)}))
"""


def test_a_full_disk_leaves_the_one_before(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", FILL, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
        capture_output=True,
        text=True,
    )
    assert "cannot write" in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].endswith(f"the last good checkpoint is {tmp_path}/step_1.pt")
    assert os.listdir(tmp_path) == ["step_1.pt"]
    assert load_newest(tmp_path, {}).done == 1
