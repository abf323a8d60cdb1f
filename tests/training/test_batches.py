import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from disentanglement_challenge.data import store
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.training.batches import training_batches
from disentanglement_challenge.training.processes import Processes

CPU = torch.device("cpu")


def noise(num_images=30):
    images = np.random.default_rng(5).integers(256, size=(num_images, 4, 4, 3), dtype=np.uint8)
    return IndexedGroundTruthData("noise", images, [num_images], ["index"])


def test_batches_are_the_drawn_images_in_the_networks_layout():
    data = noise()
    drawn = training_batches(data, 6, np.random.default_rng(1), CPU)
    indices = np.random.default_rng(1)
    for _ in range(3):
        expected = data.images[indices.integers(30, size=6)].transpose(0, 3, 1, 2) / 255
        np.testing.assert_allclose(next(drawn).numpy(), expected, rtol=1e-6)


def test_the_shares_make_the_batch():
    alone = next(training_batches(noise(), 6, np.random.default_rng(1), CPU))
    shares = [next(training_batches(noise(), 6, np.random.default_rng(1), CPU, Processes(r, 2))) for r in range(2)]
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), alone)


def test_a_file_too_large_to_map_gives_the_same_batches(tmp_path, monkeypatch):
    np.save(tmp_path / "images.npy", noise().images)
    mapped = IndexedGroundTruthData("noise", np.load(tmp_path / "images.npy", mmap_mode="r"), [30], ["index"])
    monkeypatch.setattr(store, "_MAPPED_BYTES", 1)
    from_map = training_batches(mapped, 6, np.random.default_rng(1), CPU)
    from_memory = training_batches(noise(), 6, np.random.default_rng(1), CPU)
    for _ in range(5):
        assert torch.equal(next(from_map), next(from_memory))


DRAW = """
import resource, sys
import numpy as np, torch
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.training.batches import training_batches
images = np.lib.format.open_memmap(sys.argv[1], mode="r")
data = IndexedGroundTruthData("sparse", images, [len(images)], ["index"])
batches = training_batches(data, 64, np.random.default_rng(0), torch.device("cpu"))
for _ in range(3000):
    next(batches)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_the_images_drawn_do_not_pile_up_in_memory(tmp_path):
    """A file as large as mpi3d_embedded_full, which takes up no disk; 3000 batches alone are 2.2 GiB of images."""
    path = tmp_path / "images.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(1_036_800, 64, 64, 3)).flush()
    output = subprocess.run(
        [sys.executable, "-c", DRAW, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert float(output) < 1.5
