import os
from types import SimpleNamespace

import numpy as np
import pytest
from messages import facts

from disentanglement_challenge.data import mpi3d, store
from disentanglement_challenge.data.named import get_named_ground_truth_data
from disentanglement_challenge.errors import DataError, OutputError


@pytest.fixture
def tiny_sizes(monkeypatch):
    """Accept a set of 48 images, as a real one is too large for a test."""
    monkeypatch.setitem(mpi3d.FACTOR_SIZES_BY_NUM_IMAGES, 48, [2, 2, 1, 1, 3, 2, 2])


@pytest.fixture
def images():
    return np.random.RandomState(0).randint(256, size=(48, 64, 64, 3)).astype(np.uint8)


def archive(folder, save=np.savez, **arrays):
    path = folder / "mpi3d_real" / "mpi3d_real.npz"
    path.parent.mkdir(exist_ok=True)
    save(path, **arrays)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_are_mapped_from_the_archive(tmp_path, monkeypatch, tiny_sizes, images, save):
    archive(tmp_path, save, images=images)
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(tmp_path))
    data = get_named_ground_truth_data("mpi3d_real")
    assert data.factor_sizes == [2, 2, 1, 1, 3, 2, 2]
    assert isinstance(data.images, np.memmap)
    np.testing.assert_array_equal(data.images, images)


def test_a_newer_archive_is_unpacked_again(tmp_path, tiny_sizes, images):
    path = archive(tmp_path, images=images)
    mpi3d.load_mpi3d("mpi3d_real", tmp_path)
    path = archive(tmp_path, images=255 - images)
    os.utime(path, (path.stat().st_mtime + 10,) * 2)
    np.testing.assert_array_equal(mpi3d.load_mpi3d("mpi3d_real", tmp_path).images, 255 - images)


def test_the_number_of_images_decides_the_factor_sizes():
    assert mpi3d.FACTOR_SIZES_BY_NUM_IMAGES == {460_800: [4, 4, 2, 3, 3, 40, 40], 1_036_800: [6, 6, 2, 3, 3, 40, 40]}
    assert all(np.prod(sizes) == number for number, sizes in mpi3d.FACTOR_SIZES_BY_NUM_IMAGES.items())


def test_a_missing_file_says_where_and_how(tmp_path):
    with pytest.raises(DataError, match=facts(tmp_path / "mpi3d_toy" / "mpi3d_toy.npz", "download mpi3d_toy`")):
        mpi3d.load_mpi3d("mpi3d_toy", tmp_path)


def test_another_number_of_images(tmp_path, images):
    path = archive(tmp_path, images=images)
    with pytest.raises(DataError, match=facts(path, "48 images", 1036800)):
        mpi3d.load_mpi3d("mpi3d_real", tmp_path)


def test_another_array(tmp_path, images):
    path = archive(tmp_path, imgs=images)
    with pytest.raises(DataError, match=facts(path, "'images'", "imgs")):
        mpi3d.load_mpi3d("mpi3d_real", tmp_path)


def test_another_image_size(tmp_path, tiny_sizes, images):
    path = archive(tmp_path, images=images[:, :32])
    with pytest.raises(DataError, match=facts(path, "(48, 32, 64, 3)", "(N, 64, 64, 3)")):
        mpi3d.load_mpi3d("mpi3d_real", tmp_path)


def test_pickled_objects_stay_pickled(tmp_path, tiny_sizes):
    path = archive(tmp_path, images=np.array([{"an": "object"}] * 48, dtype=object))
    with pytest.raises(DataError, match=facts(path, "'images'", "object", "unpickling")):
        mpi3d.load_mpi3d("mpi3d_real", tmp_path)


def test_a_truncated_archive(tmp_path, tiny_sizes, images):
    path = archive(tmp_path, images=images)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match=facts(path, "damaged")):
        mpi3d.load_mpi3d("mpi3d_real", tmp_path)


def test_a_flipped_bit(tmp_path, tiny_sizes, images):
    path = archive(tmp_path, images=images)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=facts(path, "damaged")):
        mpi3d.load_mpi3d("mpi3d_real", tmp_path)
    assert os.listdir(path.parent / "converted") == ["images.lock"]


def test_no_room(tmp_path, tiny_sizes, images, monkeypatch):
    archive(tmp_path, images=images)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=facts(tmp_path, "0.0 GB")):
        mpi3d.load_mpi3d("mpi3d_real", tmp_path)


def test_an_unknown_name_lists_the_known(monkeypatch):
    with pytest.raises(DataError, match=facts("'mpi3d_rael'", "mpi3d_embedded", "mpi3d_toy", "mean 'mpi3d_real'")):
        get_named_ground_truth_data("mpi3d_rael")
