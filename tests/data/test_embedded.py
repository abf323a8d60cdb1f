"""The embedded data sets and their store: right factors, kills, concurrent processes, damage, read-only folders."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from messages import facts

from disentanglement_challenge.data import embedded, scene, store
from disentanglement_challenge.data.embedded import FACTOR_NAMES, SIZES, load_embedded, render_factors
from disentanglement_challenge.errors import DataError, OutputError

# 324 images: the real renderer and the real files, in a second.
TINY = (
    [["red", "olive"], ["sphere"], ["small", "large"], ["top", "center", "bottom"], ["purple", "sea_green", "salmon"]],
    3,
)
TINY_SIZES = [2, 1, 2, 3, 3, 3, 3]

# Loads the tiny set in another process, 16 images at a time, with a pause if one is given.
PROGRAM = """
import sys, time
from pathlib import Path
from disentanglement_challenge.data import embedded, scene, store
embedded._VALUES["tiny"] = {values!r}
store._CHUNK = 16
render, pause = scene.render, float(sys.argv[2])
def slow(*args):
    time.sleep(pause)
    return render(*args)
scene.render = slow
embedded.load_embedded("tiny", Path(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(embedded._VALUES, "tiny", TINY)


def _start(data_path, pause=0.0):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(values=TINY), str(data_path), str(pause)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )


def _expected_images():
    factors = np.indices(TINY_SIZES).reshape(7, -1).T
    return render_factors(factors, *TINY)


def _wait_for_images(folder, count):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        note = folder / "images.json"
        if note.exists() and json.loads(note.read_text())["num_images"] >= count:
            return
        time.sleep(0.01)
    pytest.fail("the renderer made no progress")


def _no_rendering(*args):
    raise AssertionError("rendered again")


def test_sizes_are_those_of_mpi3d():
    assert SIZES == {
        "mpi3d_embedded": [4, 4, 2, 3, 3, 10, 10],
        "mpi3d_embedded_full": [6, 6, 2, 3, 3, 40, 40],
    }
    assert [int(np.prod(sizes)) for sizes in SIZES.values()] == [28800, 1036800]


def test_the_small_set_shows_the_full_sets_scenes():
    """Values of the same name look the same, and the axes' first and last positions agree."""
    small_values, full_values = (embedded._VALUES[name][0] for name in SIZES)
    for corner in (0, 1):
        small = np.array([[3, 3, 1, 2, 2, 9 * corner, 9 * corner]])
        full = np.array([[3, 5, 1, 2, 2, 39 * corner, 39 * corner]])
        np.testing.assert_array_equal(render_factors(small, small_values, 10), render_factors(full, full_values, 40))


def test_load_maps_one_picture_for_each_combination(tmp_path):
    data = load_embedded("tiny", tmp_path)
    assert data.factor_names == FACTOR_NAMES
    assert data.factors_num_values == TINY_SIZES
    assert isinstance(data.images, np.memmap)
    assert not data.images.flags.writeable
    np.testing.assert_array_equal(data.images, _expected_images())
    np.testing.assert_array_equal(np.load(tmp_path / "tiny" / "images.npy"), data.images)
    factors = data.sample_factors(20, np.random.RandomState(0))
    pictures = data.sample_observations_from_factors(factors, np.random.RandomState(0))
    np.testing.assert_array_equal(np.round(pictures * 255), render_factors(factors, *TINY))
    assert sorted(os.listdir(tmp_path / "tiny")) == ["images.json", "images.lock", "images.npy"]


def test_a_second_load_renders_nothing_and_is_quiet(tmp_path, monkeypatch, capfd):
    load_embedded("tiny", tmp_path)
    assert "rendering tiny" in capfd.readouterr().err
    monkeypatch.setattr(scene, "render", _no_rendering)
    load_embedded("tiny", tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_small_set_has_no_two_pictures_alike(tmp_path):
    images = load_embedded("mpi3d_embedded", tmp_path).images
    assert len({hashlib.sha256(image.tobytes()).digest() for image in images}) == 28800


@pytest.mark.processes
def test_a_killed_rendering_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "tiny"
    process = _start(tmp_path, pause=0.2)
    _wait_for_images(folder, 48)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "images.npy").exists()
    done = json.loads((folder / "images.json").read_text())["num_images"]
    assert 48 <= done < 324
    first = (folder / "images.npy.partial").read_bytes()[: 128 + done * 64 * 64 * 3]
    # A kill in the middle of a write may leave such bytes beyond the note.
    with (folder / "images.npy.partial").open("ab") as file:
        file.write(b"torn" * 1000)

    process = _start(tmp_path)
    _, progress = process.communicate()
    assert process.returncode == 0, progress
    assert float(re.search(r"([\d.]+)/324", progress)[1]) == done
    assert (folder / "images.npy").read_bytes().startswith(first)

    load_embedded("tiny", tmp_path / "in_one_go")
    assert (folder / "images.npy").read_bytes() == (tmp_path / "in_one_go" / "tiny" / "images.npy").read_bytes()


@pytest.mark.processes
def test_killed_again_and_again_it_still_ends_with_the_same_file(tmp_path):
    """Kills come at any moment, including the first note and the last rename."""
    load_embedded("tiny", tmp_path / "in_one_go")
    random_state = np.random.RandomState(0)
    for _ in range(4):
        process = _start(tmp_path, pause=0.1)
        _wait_for_images(tmp_path / "tiny", 0)
        time.sleep(random_state.uniform(0, 0.3))
        process.kill()
        process.communicate()
    data = load_embedded("tiny", tmp_path)
    np.testing.assert_array_equal(data.images, _expected_images())
    assert (tmp_path / "tiny" / "images.npy").read_bytes() == (
        tmp_path / "in_one_go" / "tiny" / "images.npy"
    ).read_bytes()


@pytest.mark.processes
def test_two_processes_at_once_make_one_file(tmp_path):
    processes = [_start(tmp_path, pause=0.05) for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert sum("another process" in error for error in errors) <= 1
    assert sum("rendering tiny" in error for error in errors) == 1
    np.testing.assert_array_equal(np.load(tmp_path / "tiny" / "images.npy"), _expected_images())


@pytest.mark.parametrize("note", ['{"recipe": {"renderer": "older"}, "num_images": 324}', "{torn", "[]", None])
def test_pictures_of_another_renderer_are_not_used(tmp_path, note):
    images = load_embedded("tiny", tmp_path).images
    path = tmp_path / "tiny" / "images.npy"
    np.save(path, np.zeros_like(images))
    if note is None:
        (tmp_path / "tiny" / "images.json").unlink()
    else:
        (tmp_path / "tiny" / "images.json").write_text(note)
    np.testing.assert_array_equal(load_embedded("tiny", tmp_path).images, _expected_images())


def test_a_change_of_the_renderer_changes_the_recipe(tmp_path, monkeypatch):
    images = load_embedded("tiny", tmp_path).images
    np.save(tmp_path / "tiny" / "images.npy", np.zeros_like(images))
    assert not load_embedded("tiny", tmp_path).images.any(), "the same renderer's pictures are not rendered again"
    newer = tmp_path / "scene.py"
    newer.write_text(Path(scene.__file__).read_text() + "\n")
    monkeypatch.setattr(scene, "__file__", str(newer))
    np.testing.assert_array_equal(load_embedded("tiny", tmp_path).images, _expected_images())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1000], r"damaged|\d bytes"),
        (lambda data: data + b"more", r"\d bytes"),
        (lambda data: b"", "damaged"),
        (lambda data: b"not an array" + data, "damaged"),
        (lambda data: data.replace(b"324, 64", b"162, 64", 1), "shape"),
    ],
    ids=["truncated", "too long", "empty", "not npy", "other shape"],
)
def test_a_damaged_file_is_named(tmp_path, damage, words):
    load_embedded("tiny", tmp_path)
    path = tmp_path / "tiny" / "images.npy"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=words) as error:
        load_embedded("tiny", tmp_path)
    assert str(path) in str(error.value)
    assert "delete it" in str(error.value)
    assert "\n" not in str(error.value)
    path.unlink()
    np.testing.assert_array_equal(load_embedded("tiny", tmp_path).images, _expected_images())


@pytest.mark.parametrize("blocked", ["data", "data/tiny"])
def test_a_file_in_the_way_is_an_output_error(tmp_path, blocked):
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("")
    with pytest.raises(OutputError, match=facts(tmp_path / "data" / "tiny", "file")):
        load_embedded("tiny", tmp_path / "data")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that refuses even root")
def test_a_folder_that_refuses_is_an_output_error():
    with pytest.raises(OutputError, match=facts("/proc/tiny")):
        load_embedded("tiny", Path("/proc"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_serves_what_is_complete(tmp_path):
    load_embedded("tiny", tmp_path)
    (tmp_path / "tiny").chmod(0o500)
    assert len(load_embedded("tiny", tmp_path).images) == 324
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=facts(tmp_path / "mpi3d_embedded", "Permission denied")):
        load_embedded("mpi3d_embedded", tmp_path)
    tmp_path.chmod(0o700)


def test_too_little_room_is_said_before_anything_is_rendered(tmp_path, monkeypatch):
    """The shape is larger than any disk, so the check uses the real free space."""
    with pytest.raises(OutputError, match=facts(tmp_path / "huge", "12288000.0 GB")):
        store.load_or_make_images(tmp_path / "huge", [10**12, 64, 64, 3], {}, _no_rendering, "huge")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_is_an_output_error(tmp_path):
    load_embedded("tiny", tmp_path)
    folder = tmp_path / "tiny"
    (folder / "images.npy").unlink()
    (folder / "images.json.partial").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=facts(folder, "full")):
        load_embedded("tiny", tmp_path)
    (folder / "images.json.partial").unlink()
    assert len(load_embedded("tiny", tmp_path).images) == 324


def test_an_unknown_name_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=facts("'mpi3d_embeded'", "mpi3d_embedded, mpi3d_embedded_full")):
        load_embedded("mpi3d_embeded", tmp_path)
