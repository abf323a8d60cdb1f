import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from conftest import ROOT

from disentanglement_challenge.data import store
from disentanglement_challenge.data.batches import random_batches
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.errors import DataError
from disentanglement_challenge.training.batches import (
    DEVICE_RESERVE,
    DeviceBatches,
    drawn_ahead,
    training_batches,
    upload,
)
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


def test_images_on_the_device_give_the_same_batches_and_leave_the_same_generator():
    """As bytes that are divided where they lie; on the CPU here, with the operations that a GPU computes."""
    random, expected_random = np.random.default_rng(1), np.random.default_rng(1)
    on_device = DeviceBatches(torch.from_numpy(noise().images), 6, random)
    expected = training_batches(noise(), 6, expected_random, CPU)
    for _ in range(3):
        assert torch.equal(next(on_device), next(expected))
    chosen = on_device.indices(4)
    for indices in chosen:
        assert torch.equal(on_device.take(indices), next(expected))
    assert random.bit_generator.state == expected_random.bit_generator.state


def test_batches_drawn_ahead_are_the_same_and_the_generator_is_at_the_one_yielded():
    data, random, expected_random = noise(), np.random.default_rng(1), np.random.default_rng(1)
    ahead = drawn_ahead(lambda own: random_batches(data, 6, own), random)
    expected = random_batches(data, 6, expected_random)
    for _ in range(10):
        assert torch.equal(next(ahead), next(expected))
        assert random.bit_generator.state == expected_random.bit_generator.state
    before = threading.active_count()
    ahead.close()
    assert threading.active_count() == before - 1


def test_an_error_while_drawing_ahead_reaches_whoever_asks():
    def draw(own):
        yield torch.zeros(1)
        raise DataError("the file is gone")

    ahead = drawn_ahead(draw, np.random.default_rng(1))
    next(ahead)
    with pytest.raises(DataError, match="the file is gone"):
        next(ahead)


def test_a_gpu_without_room_leaves_the_images_with_the_host(monkeypatch, capsys):
    """Also one that had room when it was asked, and none when it was to give it."""
    free = 2**40
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
    monkeypatch.setattr(torch, "empty", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("no room")))
    assert upload(noise().images, torch.device("cuda")) is None
    free = DEVICE_RESERVE
    assert upload(noise().images, torch.device("cuda")) is None
    first, second = capsys.readouterr().err.splitlines()
    assert first == "images: 0.0 GB stay in the host's memory, as the GPU has no room (another process took it first)"
    assert (
        second == "images: 0.0 GB stay in the host's memory, as the GPU has no room (they and the networks are larger)"
    )


def test_the_upload_is_whole_and_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
    images = np.random.default_rng(5).integers(256, size=(20_000, 2, 2, 3), dtype=np.uint8)
    assert np.array_equal(upload(images, CPU).numpy(), images)
    assert "images to the GPU: 100%" in capsys.readouterr().err


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
