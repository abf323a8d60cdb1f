"""Features that only Linux has are replaced elsewhere; each test removes one of them."""

import ctypes
import errno
import logging
import mmap
import os
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from messages import facts
from torch import nn

from disentanglement_challenge import files
from disentanglement_challenge.allocation import keep_freed_memory
from disentanglement_challenge.data.dsprites import RandomDSprites, scream
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.loader import DLIBDataset, get_loader
from disentanglement_challenge.data.store import load_or_make_images, release_pages
from disentanglement_challenge.errors import OutputError, RepresentationError
from disentanglement_challenge.export import sandbox
from disentanglement_challenge.export.model_file import export_model
from disentanglement_challenge.files import lock, locked
from disentanglement_challenge.provenance import provenance


def numbered_images(folder, num_images=60):
    """Map images from a file; all pixels of an image are its number."""

    def make(start, stop):
        return np.broadcast_to(np.arange(start, stop, dtype=np.uint8)[:, None, None, None], (stop - start, 64, 64, 1))

    return load_or_make_images(folder, (num_images, 64, 64, 1), {}, make, "numbers")


def no_fcntl(monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)


def no_locks_on_this_disk(monkeypatch):
    def flock(descriptor, flags):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", flock)


@pytest.mark.parametrize("without", [no_fcntl, no_locks_on_this_disk])
def test_without_locks_everything_is_written_and_a_warning_says_so(without, monkeypatch, tmp_path, caplog):
    without(monkeypatch)
    with locked(tmp_path / "experiment"):
        assert (tmp_path / "experiment").is_dir()
    assert "cannot be locked" in caplog.text
    np.testing.assert_array_equal(numbered_images(tmp_path / "images")[:, 0, 0, 0], np.arange(60))


def test_a_lock_that_fails_for_another_reason_is_no_lock(monkeypatch, tmp_path):
    def flock(descriptor, flags):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output"), (tmp_path / "file").open("w") as file:
        lock(file.fileno())


def test_with_locks_the_second_is_kept_out(tmp_path):
    with (tmp_path / "file").open("w") as first, (tmp_path / "file").open("w") as second:
        assert lock(first.fileno())
        assert not lock(second.fileno())
    with (
        locked(tmp_path),
        pytest.raises(OutputError, match=facts(f"process {os.getpid()}", tmp_path)),
        locked(tmp_path),
    ):
        pass


def test_without_madvise_pages_stay_and_the_images_are_the_same(monkeypatch, tmp_path):
    images = numbered_images(tmp_path)
    before = np.array(images)
    release_pages(images)
    monkeypatch.delattr(mmap, "MADV_DONTNEED")
    release_pages(images)
    np.testing.assert_array_equal(images, before)


def test_without_mallopt_nothing_is_set(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    keep_freed_memory()


def test_without_affinity_and_physical_pages_a_machine_has_its_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")

    def sysconf(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", sysconf)
    machine = provenance()["machine"]
    assert machine["cores"] == os.cpu_count()
    assert machine["memory_bytes"] is None


def elsewhere(monkeypatch, statements=""):
    """Pretend that the system is not Linux, in this process and in the model's process."""
    monkeypatch.setattr(sys, "platform", "darwin")
    start = sandbox._START.replace("serve({", f"sys.platform = 'darwin'\n{statements}\nserve({{")
    assert start.count("darwin") == 1
    monkeypatch.setattr(sandbox, "_START", start)


def test_a_sandbox_elsewhere_computes_without_linux_s_system_calls(monkeypatch, tmp_path, caplog):
    path = tmp_path / "model.pt"
    model = nn.Sequential(nn.Flatten(), nn.Linear(12288, 3))
    export_model(model, path)
    images = np.random.RandomState(0).rand(4, 64, 64, 3).astype(np.float32)
    expected = model(torch.from_numpy(images).permute(0, 3, 1, 2)).detach().numpy()
    # The numbers of Landlock's system calls on Linux are other calls there.
    refuse = "import disentanglement_challenge.export.sandbox as s\ndef _(): raise SystemExit(3)\ns._landlock = _"
    elsewhere(monkeypatch, refuse)
    with caplog.at_level(logging.WARNING), sandbox.Sandbox(path) as representation_function:
        np.testing.assert_allclose(representation_function(images), expected, rtol=1e-4, atol=1e-5)
    assert "memory" in caplog.text


def test_a_sandbox_elsewhere_still_ends_what_takes_too_long(monkeypatch, tmp_path):
    export_model(nn.Sequential(nn.Flatten(), nn.Linear(12288, 3)), tmp_path / "model.pt")
    elsewhere(monkeypatch, "import time; time.sleep(60)")
    with (
        pytest.raises(RepresentationError, match=facts(tmp_path / "model.pt", "1 s", "sandbox.time_limit")),
        sandbox.Sandbox(tmp_path / "model.pt", time_limit=1),
    ):
        pass


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["indexed", "decorated"])
def test_workers_that_are_not_forked_draw_the_same_images(kind, monkeypatch, tmp_path):
    """Workers are not forked on macOS, and on Linux from Python 3.14 on."""
    data = IndexedGroundTruthData("numbered", numbered_images(tmp_path), [6, 10], ["tens", "ones"])
    if kind == "decorated":
        data = RandomDSprites("numbered", data, scream(np.random.RandomState(0).rand(100, 100, 3)))

    def batches(method):
        monkeypatch.setattr(DLIBDataset, "load_dataset", lambda self: data)
        loader = get_loader("numbered", batch_size=4, iterator_len=24, num_workers=2, multiprocessing_context=method)
        return torch.cat(list(loader))

    assert torch.equal(batches("spawn"), batches("fork"))


def test_a_mapped_data_set_travels_as_its_file_s_name(tmp_path):
    data = IndexedGroundTruthData("numbered", numbered_images(tmp_path), [6, 10], ["tens", "ones"])
    content = pickle.dumps(data)
    assert len(content) < 2000
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.images, data.images)
    assert isinstance(again.images, np.memmap)
    assert again.factor_names == data.factor_names
    part = IndexedGroundTruthData("part", data.images[:10], [10], ["ones"])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(part)).images, data.images[:10])
