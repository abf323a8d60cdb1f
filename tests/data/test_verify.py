"""`data check`: check sums, shapes and means of tiny files in the official formats."""

import errno
import hashlib
import os
import re
from argparse import Namespace
from dataclasses import replace

import h5py
import numpy as np
import official
import pytest
from messages import facts
from test_download import server  # noqa: F401 (a fixture)

from disentanglement_challenge import score
from disentanglement_challenge.data import __main__ as command
from disentanglement_challenge.data import mpi3d, shapes3d, verify
from disentanglement_challenge.data.catalogue import CATALOGUE
from disentanglement_challenge.data.named import check_available, get_named_ground_truth_data
from disentanglement_challenge.data.verify import TOLERANCE
from disentanglement_challenge.errors import DataError

NAME = "mpi3d_real"


@pytest.fixture
def data_path(tmp_path, monkeypatch):
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(tmp_path))
    official.use_tiny_sizes(monkeypatch)
    return tmp_path


def photographs():
    """Return images whose channels have the means of mpi3d_real."""
    images = official.pixels(official.MPI3D_IMAGES, 64, 64, 3).astype(float)
    means = 255 * np.array(CATALOGUE[NAME].mean)
    return np.rint(images / images.mean(axis=(0, 1, 2)) * means).astype(np.uint8)


@pytest.fixture
def real(data_path, monkeypatch):
    """Write a tiny mpi3d_real, and record its check sum and mean as published."""
    path = official.write_mpi3d(data_path, NAME, images=photographs())
    published = replace(mpi3d.SOURCES[NAME][0], checksum=f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}")
    entry = replace(CATALOGUE[NAME], num_images=official.MPI3D_IMAGES, sources=[published])
    monkeypatch.setitem(CATALOGUE, NAME, entry)
    return path


def check(*names):
    command.main(Namespace(command="check", names=names))


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_what_is_right_has_a_tick_on_each_line(real, capsys):
    check(NAME)
    summed, shape, mean = lines(capsys)
    assert summed.startswith(f"✓ {NAME}: ")
    assert re.match(facts(real, "md5"), summed)
    assert shape.startswith(f"✓ {NAME}: ")
    assert re.match(facts(official.MPI3D_SIZES, "[64, 64, 3]"), shape)
    assert mean.startswith(f"✓ {NAME}: mean 0.1")
    assert "0.1311, 0.1675, 0.1405" in mean


def test_images_out_of_place_in_their_bytes_are_told(real, capsys):
    """Another check sum and the right shape, as mpi3d_real had in 2024."""
    torn = np.roll(photographs().reshape(-1), 1).reshape(-1, 64, 64, 3)
    official.write_mpi3d(real.parent.parent, NAME, images=torn)
    with pytest.raises(SystemExit, match="1"):
        check(NAME)
    summed, shape, mean = lines(capsys)
    assert summed.startswith(f"✗ {NAME}: ")
    assert re.match(facts(real, "md5", hashlib.md5(real.read_bytes()).hexdigest()), summed)
    assert shape.startswith("✓")
    assert mean.startswith(f"✗ {NAME}: mean 0.1")
    assert str(TOLERANCE) in mean


def test_what_is_not_there_or_damaged_is_a_line_and_the_next_is_checked_too(real, capsys):
    with pytest.raises(SystemExit, match="1"):
        check("mpi3d_toy", NAME)
    first, *others = lines(capsys)
    assert first.startswith("✗ mpi3d_toy: ")
    assert "mpi3d_toy.npz" in first
    assert [line[0] for line in others] == ["✓"] * 3
    real.write_bytes(real.read_bytes()[:-1000])
    with pytest.raises(SystemExit, match="1"):
        check(NAME)
    assert [line[0] for line in lines(capsys)] == ["✗", "✗"]
    with pytest.raises(DataError, match=facts("'mpi3d_tyo'", "did you mean 'mpi3d_toy'")):
        check("mpi3d_tyo")


def test_an_archive_that_is_converted_and_gone_is_checked_by_its_mean(real, capsys):
    get_named_ground_truth_data(NAME)
    real.unlink()
    check(NAME)
    assert [line[:2] for line in lines(capsys)] == ["✓ ", "✓ "]


def test_an_archive_that_cannot_be_read_is_a_cross(real, capsys, monkeypatch):
    def sums(path, algorithms):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(verify, "sums", sums)
    with pytest.raises(SystemExit, match="1"):
        check(NAME)
    assert re.match(facts("✗", real, "Permission denied"), lines(capsys)[0])


def test_a_set_without_a_known_mean_says_so(capsys, data_path):
    check("dummy_data")
    assert re.match("✓ dummy_data: no .*mean", lines(capsys)[-1])


def test_an_accepted_sum_is_told_and_no_fault(real, capsys, server, monkeypatch):  # noqa: F811
    mended = real.read_bytes()
    real.unlink()
    (published,) = CATALOGUE[NAME].sources
    server.content = mended
    other = replace(published, addresses=(server.address,), checksum="md5:0123")
    monkeypatch.setitem(CATALOGUE, NAME, replace(CATALOGUE[NAME], sources=[other]))
    flags = Namespace(command="download", names=[NAME], accept=[])
    shape = f"images uint8 ({official.MPI3D_IMAGES}, 64, 64, 3)"
    with pytest.raises(DataError, match=facts("mpi3d_real.npz", published.checksum, "md5:0123", shape)):
        command.main(flags)
    flags.accept = [published.checksum]
    command.main(flags)
    data = get_named_ground_truth_data(NAME)
    assert data.note == ""
    assert re.match(facts("mpi3d_real.npz", published.checksum, "accepted on", "md5:0123"), data.accepted)
    assert score(lambda images: images[:, 0, :2, 0], data, "mig").notes == [data.accepted]
    codes = np.random.default_rng(0).normal(size=(official.MPI3D_IMAGES, 2))
    assert score(codes, data, "mig").notes == [data.accepted]
    capsys.readouterr()
    check(NAME)
    assert "accepted on 20" in lines(capsys)[0]
    real.write_bytes(mended)  # a file put there by hand is not accepted
    assert get_named_ground_truth_data(NAME).accepted == ""


def write_h5(data_path, images):
    path = data_path / shapes3d.H5
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, compression="gzip")
    return path


def test_a_3dshapes_h5_put_by_hand_is_used(data_path, capsys):
    images = official.pixels(official.SHAPES3D_IMAGES, 64, 64, 3)
    path = write_h5(data_path, images)
    assert CATALOGUE["shapes3d"].state(data_path) == "here, converted on first use"
    check_available("shapes3d")  # as run.py does before training
    np.testing.assert_array_equal(get_named_ground_truth_data("shapes3d").images, images)
    with pytest.raises(SystemExit, match="1"):
        check("shapes3d")  # it is not the published file
    first = lines(capsys)[0]
    assert first.startswith("✗ shapes3d: ")
    assert re.match(facts(path, "sha256", hashlib.sha256(path.read_bytes()).hexdigest()), first)
    path.unlink()
    np.testing.assert_array_equal(get_named_ground_truth_data("shapes3d").images, images)


def test_a_3dshapes_h5_that_is_another_or_damaged_is_refused(data_path):
    path = write_h5(data_path, official.pixels(7, 64, 64, 3))
    expected = f"({official.SHAPES3D_IMAGES}, 64, 64, 3)"
    with pytest.raises(DataError, match=facts(path, "uint8 (7, 64, 64, 3)", expected)):
        get_named_ground_truth_data("shapes3d")
    path.unlink()
    path.parent.rmdir()
    path = write_h5(data_path, official.pixels(official.SHAPES3D_IMAGES, 64, 64, 3))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 1000] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=facts(path, "damaged")):
        get_named_ground_truth_data("shapes3d")
    path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=facts(path, "damaged")):
        get_named_ground_truth_data("shapes3d")


def test_the_addresses_are_today_s():
    for name in ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real"):
        hub, bucket, first = mpi3d.SOURCES[name][0].addresses
        assert hub == f"https://huggingface.co/datasets/waleedgondal/mpi3d/resolve/main/{name}.npz"
        assert bucket.startswith("https://storage.googleapis.com/mpi3d_disentanglement_dataset/data/")
        assert first.endswith(f"/disentanglement_dataset/Final_Dataset/{name}.npz")
    assert mpi3d.SOURCES["mpi3d_real"][0].addresses[1].endswith("/data/real.npz")
    drive, mirror = mpi3d.SOURCES["mpi3d_real_complex"][0].addresses
    assert drive.startswith("https://drive.usercontent.google.com/")
    assert mirror.endswith("/real3d_complicated_shapes_ordered.npz")
