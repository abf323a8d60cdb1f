"""Wrong official files and interrupted conversions: one line of error, and no wrong image is kept."""

import json
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import time
import zipfile
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import official
import pytest
import scipy.io
from messages import facts
from PIL import Image

from disentanglement_challenge.data import __main__ as command
from disentanglement_challenge.data import cars3d, shapes3d, store
from disentanglement_challenge.data.archive import NpzMember
from disentanglement_challenge.data.named import check_available, get_named_ground_truth_data
from disentanglement_challenge.errors import DataError, OutputError


@pytest.fixture
def data_path(tmp_path, monkeypatch):
    monkeypatch.setenv("DISENTANGLEMENT_LIB_DATA", str(tmp_path))
    official.use_tiny_sizes(monkeypatch)
    return tmp_path


def refused(name, match, error=DataError):
    with pytest.raises(error, match=match) as caught:
        get_named_ground_truth_data(name)
    # gin appends the place of the call to an error that passes through it.
    assert "\n" not in str(caught.value).split("\n  In call to configurable")[0]


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_stored_and_deflated_archives_are_the_same_data(data_path, save):
    path = official.write_mpi3d(data_path, "mpi3d_toy", save)
    with zipfile.ZipFile(path) as archive:
        deflated = archive.getinfo("images.npy").compress_type == zipfile.ZIP_DEFLATED
    assert deflated == (save is np.savez_compressed)
    np.testing.assert_array_equal(
        get_named_ground_truth_data("mpi3d_toy").images, official.pixels(official.MPI3D_IMAGES, 64, 64, 3)
    )


@pytest.mark.parametrize("part", [0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_archive_is_damaged(data_path, save, part):
    path = official.write_mpi3d(data_path, "mpi3d_toy", save)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refused("mpi3d_toy", facts(path, "damaged"))
    path.write_bytes(content)
    np.testing.assert_array_equal(
        get_named_ground_truth_data("mpi3d_toy").images, official.pixels(official.MPI3D_IMAGES, 64, 64, 3)
    )


def cut_member(path, cut):
    """Remove bytes from the first member but keep the archive's directory right, like a lost block."""
    with zipfile.ZipFile(path) as archive:
        info = archive.infolist()[0]
        directory = archive.start_dir
    content = path.read_bytes()
    end = info.header_offset + 100 + info.compress_size // 2
    content = content[: end - cut] + content[end:]
    record = content.rindex(b"PK\5\6")
    fixed = content[: record + 16] + struct.pack("<I", directory - cut) + content[record + 20 :]
    path.write_bytes(fixed)


def test_a_name_in_an_archives_directory_that_is_no_text_is_damage(data_path):
    path = official.write_mpi3d(data_path, "mpi3d_toy")
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\1\2")
    content[entry + 9] |= 8  # the name is UTF-8
    content[entry + 46] = 0xFF  # a byte that is never valid in UTF-8
    path.write_bytes(content)
    refused("mpi3d_toy", facts(path, "damaged", "utf-8"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_member_that_ends_early_is_damaged(data_path, save):
    """numpy is no reference here: it would read the next member's bytes and find a wrong check sum."""
    path = official.write_mpi3d(data_path, "mpi3d_toy", save)
    cut_member(path, 1000)
    refused("mpi3d_toy", facts(path, "damaged"))
    assert not (data_path / "mpi3d_toy" / "converted" / "images.npy").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_passed_over_is_part_of_the_sum(tmp_path, save):
    """A conversion that goes on where an earlier process was killed passes over what that one has read."""
    path = tmp_path / "a.npz"
    save(path, images=official.pixels(48, 64, 64))
    damaged = bytearray(path.read_bytes())
    damaged[5000] ^= 1
    path.write_bytes(damaged)
    with NpzMember(path, "images") as member, pytest.raises(DataError, match=facts(path, "damaged")):
        member.read(40, 48, (64, 64))


def test_going_back_reads_the_same_again(tmp_path):
    images = official.pixels(48, 64, 64)
    np.savez(tmp_path / "a.npz", images=images)
    with NpzMember(tmp_path / "a.npz", "images") as member:
        for start in (40, 3, 20):
            np.testing.assert_array_equal(member.read(start, start + 8, (64, 64)), images[start : start + 8])


def test_nothing_of_a_damaged_archive_is_gone_on_from(data_path, monkeypatch):
    """A flipped bit in the last images is found by the check sum after the first are converted."""
    monkeypatch.setattr(store, "_CHUNK", 8)
    path = official.write_mpi3d(data_path, "mpi3d_toy")
    good = path.read_bytes()
    times = path.stat().st_mtime_ns
    damaged = bytearray(good)
    damaged[5000] ^= 1
    path.write_bytes(damaged)
    os.utime(path, ns=(times, times))
    refused("mpi3d_toy", facts(path, "damaged"))
    path.write_bytes(good)
    os.utime(path, ns=(times, times))
    np.testing.assert_array_equal(
        get_named_ground_truth_data("mpi3d_toy").images, official.pixels(official.MPI3D_IMAGES, 64, 64, 3)
    )


def test_an_archive_may_go_once_it_is_converted(data_path, monkeypatch, capsys):
    images = get_named_ground_truth_data
    for name, write in (
        ("mpi3d_real", lambda: official.write_mpi3d(data_path, "mpi3d_real")),
        ("dsprites_full", lambda: official.write_dsprites(data_path)),
        ("shapes3d", lambda: official.write_shapes3d(data_path)),
    ):
        path = write()
        before = images(name).images
        path.unlink()
        np.testing.assert_array_equal(images(name).images, before)
        with monkeypatch.context() as context:
            context.setattr(command, "download", lambda source, *_: pytest.fail(f"{source.target} is not needed"))
            command.main(Namespace(command="download", names=[name], accept=[]))
        assert name in capsys.readouterr().out.splitlines()[0]
    painting = official.write_scream(data_path)  # which is read each time
    check_available("scream_dsprites")
    assert images("scream_dsprites").num_factors == 5
    painting.unlink()
    with pytest.raises(DataError, match=facts(painting)):
        check_available("scream_dsprites")
    asked = []
    monkeypatch.setattr(command, "download", lambda source, *_: asked.append(source.target))
    with pytest.raises(DataError, match=facts(painting)):
        command.main(Namespace(command="download", names=["scream_dsprites"], accept=[]))
    assert asked == ["scream/scream.jpg"]


def test_the_pickle_in_dsprites_is_not_opened(data_path, tmp_path, monkeypatch):
    path = official.write_dsprites(data_path, metadata=np.array(Bomb(), dtype=object))
    with zipfile.ZipFile(path) as archive:
        assert b"mkdir" in archive.read("metadata.npy")
    monkeypatch.chdir(tmp_path)
    assert get_named_ground_truth_data("dsprites_full").images.max() == 255
    assert not (tmp_path / "exploded").exists()


def test_pickled_images_are_not_opened(data_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    official.write_dsprites(data_path, imgs=np.array([Bomb()] * 72, dtype=object))
    refused("dsprites_full", facts("'imgs'", "object", "unpickling"))
    path = official.write_mpi3d(data_path, "mpi3d_toy")
    path.write_bytes(pickle.dumps(Bomb()))
    refused("mpi3d_toy", facts(path, "damaged"))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("dsprites_full", lambda path: official.write_dsprites(path, imgs=None), ["'imgs'", "latents_classes"]),
        (
            "dsprites_full",
            lambda path: official.write_dsprites(path, imgs=np.zeros((72, 32, 32), np.uint8)),
            ["(72, 32, 32)", "(72, 64, 64)"],
        ),
        (
            "dsprites_full",
            lambda path: official.write_dsprites(path, imgs=np.zeros((71, 64, 64), np.uint8)),
            ["(71, 64, 64)", "(72, 64, 64)"],
        ),
        (
            "dsprites_full",
            lambda path: official.write_dsprites(path, imgs=np.zeros((72, 64, 64))),
            ["float64", "uint8"],
        ),
        ("dsprites_full", lambda path: official.write_dsprites(path, imgs=official.pixels(72, 64, 64)), ["0 or 1"]),
        (
            "dsprites_full",
            lambda path: official.write_dsprites(path, imgs=np.asfortranarray(official.pixels(72, 64, 64))),
            ["C order"],
        ),
        ("shapes3d", lambda path: official.write_shapes3d(path, images=None), ["'images'", "labels"]),
        (
            "shapes3d",
            lambda path: official.write_shapes3d(path, images=official.pixels(47, 64, 64, 3)),
            ["(47, 64, 64, 3)", (*official.SHAPES3D_SIZES, 64, 64, 3)],
        ),
        (
            "mpi3d_toy",
            lambda path: official.write_mpi3d(path, "mpi3d_toy", images=official.pixels(48, 64, 64)),
            ["(48, 64, 64)", "(N, 64, 64, 3)"],
        ),
        (
            "mpi3d_real",
            lambda path: official.write_mpi3d(path, "mpi3d_real", imgs=official.pixels(48, 64, 64)),
            ["'images'", "imgs"],
        ),
        (
            "cars3d",
            lambda path: official.write_cars(path / "cars", shape=(64, 64, 3, 24, 4)),
            ["'im'", "(64, 64, 3, 24, 4)", "(128, 128, 3, 24, 4)"],
        ),
        ("cars3d", lambda path: official.write_cars(path / "cars", key="picture"), ["'im'"]),
        (
            "cars3d",
            lambda path: (official.write_cars(path / "cars") / "car_000_mesh.mat").unlink(),
            ["2 .mat files", official.CARS],
        ),
        (
            "cars3d",
            lambda path: (official.write_cars(path / "cars") / "car_002_mesh.mat").write_bytes(b"x" * 999),
            ["car_002_mesh.mat", "MATLAB"],
        ),
        (
            "scream_dsprites",
            lambda path: (official.write_dsprites(path), official.write_scream(path, (500, 60))),
            ["painting", 65],
        ),
        (
            "scream_dsprites",
            lambda path: (official.write_dsprites(path), official.write_scream(path).write_text("no")),
            ["scream.jpg", "picture"],
        ),
        (
            "scream_dsprites",
            lambda path: official.write_dsprites(path),
            ["scream.jpg", "disentanglement_challenge.data download scream_dsprites"],
        ),
    ],
)
def test_a_wrong_file_under_the_right_name(data_path, name, write, said):
    write(data_path)
    refused(name, facts(data_path, *said))


@pytest.mark.parametrize("name", ["mpi3d_real", "mpi3d_real_complex", "mpi3d_toy"])
def test_another_mpi3d_under_the_name(data_path, name, monkeypatch):
    """An archive's header with the number of images of the other version, without that many bytes."""
    others = {"mpi3d_real": 460_800, "mpi3d_real_complex": 1_036_800, "mpi3d_toy": 1_000_000}
    from disentanglement_challenge.data import archive, mpi3d

    class Header(SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(
        archive,
        "NpzMember",
        lambda path, key: Header(shape=(others[name], 64, 64, 3), dtype=np.dtype(np.uint8), crc32=0),
    )
    official.write_mpi3d(data_path, name)
    with pytest.raises(DataError, match=facts(f"{name}", others[name], {"mpi3d_real": 1_036_800}.get(name, 460_800))):
        mpi3d.load_mpi3d(name, data_path)


@pytest.mark.parametrize("generation", [460_800, 1_036_800])
def test_either_generation_of_the_rendered_sets_has_its_own_factors(data_path, generation, monkeypatch):
    from disentanglement_challenge.data import mpi3d

    images = np.broadcast_to(np.zeros((1, 64, 64, 3), np.uint8), (generation, 64, 64, 3))
    monkeypatch.setattr(mpi3d, "load_npz_images", lambda *arguments: images)
    sizes = {460_800: [4, 4, 2, 3, 3, 40, 40], 1_036_800: [6, 6, 2, 3, 3, 40, 40]}
    for name in ("mpi3d_toy", "mpi3d_realistic"):
        assert mpi3d.load_mpi3d(name, data_path).factors_num_values == sizes[generation]


def norb_with(data_path, kind, change):
    folder = official.write_norb(data_path)
    path = next(folder.glob(f"*training-{kind}.mat"))
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("dat", lambda content: content[:-100], ["training-dat.mat", "damaged"]),
        ("dat", lambda content: b"", ["training-dat.mat", "damaged"]),
        ("dat", lambda content: b"\0" * 1000, ["training-dat.mat", "damaged"]),
        (
            "cat",
            lambda content: official.matrix_bytes(np.zeros(7, np.int32)),
            ["training-cat.mat", "(7,)", "(48,)"],
        ),
        (
            "cat",
            lambda content: content[:20] + np.full(48, 9, "<i4").tobytes(),
            ["factors", "96 pictures", official.NORB_SIZES],
        ),
        ("info", lambda content: content[:20] + content[20:36] * 48, ["factors", "96 pictures", official.NORB_SIZES]),
        (
            "dat",
            lambda content: official.matrix_bytes(official.pixels(48, 2, 64, 64)),
            ["training-dat.mat", "(48, 2, 64, 64)", "(N, 2, 96, 96)"],
        ),
    ],
)
def test_wrong_matrices_of_smallnorb(data_path, kind, change, said):
    norb_with(data_path, kind, change)
    refused("smallnorb", facts(data_path, *said))


@pytest.mark.parametrize("name", ["dsprites_full", "shapes3d", "mpi3d_real_complex", "cars3d", "smallnorb"])
def test_a_missing_file_says_where_and_how(data_path, name):
    refused(
        name, facts(data_path, f"python -m disentanglement_challenge.data download {name}", "DISENTANGLEMENT_LIB_DATA")
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_to_read(data_path):
    path = official.write_mpi3d(data_path, "mpi3d_toy")
    path.chmod(0)
    refused("mpi3d_toy", facts(path, "Permission denied"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file that refuses even root")
def test_a_file_that_refuses_even_root(data_path):
    (data_path / "mpi3d_toy").mkdir()
    (data_path / "mpi3d_toy" / "mpi3d_toy.npz").symlink_to("/proc/self/mem")
    refused("mpi3d_toy", facts(data_path / "mpi3d_toy" / "mpi3d_toy.npz"))


def test_no_room(data_path, monkeypatch):
    official.write_dsprites(data_path)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    refused("dsprites_full", facts(data_path, "0.0 GB"), OutputError)


def test_a_folder_that_refuses_the_converted_file(data_path):
    official.write_dsprites(data_path)
    (data_path / "dsprites" / "converted").write_text("")
    refused("dsprites_full", facts(data_path / "dsprites" / "converted", "file"), OutputError)


PROGRAM = """
import sys, time
sys.path[:0] = {path!r}
import official
from pathlib import Path
from disentanglement_challenge.data import archive, mpi3d, store
mpi3d.FACTOR_SIZES_BY_NUM_IMAGES[official.MPI3D_IMAGES] = official.MPI3D_SIZES
store._CHUNK = 16
read = archive.NpzMember.read
def slow(*arguments):
    time.sleep(float(sys.argv[2]))
    return read(*arguments)
archive.NpzMember.read = slow
mpi3d.load_mpi3d("mpi3d_toy", Path(sys.argv[1]))
"""


@pytest.mark.processes
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_killed_conversion_goes_on_where_it_was(data_path, save):
    official.write_mpi3d(data_path, "mpi3d_toy", save)
    note = data_path / "mpi3d_toy" / "converted" / "images.json"
    program = PROGRAM.format(path=[str(Path(official.__file__).parent), *sys.path])
    process = subprocess.Popen([sys.executable, "-c", program, data_path, "0.1"], stderr=subprocess.PIPE)
    while not note.exists() or json.loads(note.read_text())["num_images"] < 32:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = json.loads(note.read_text())["num_images"]
    assert 32 <= done < 192
    again = subprocess.run(
        [sys.executable, "-c", program, data_path, "0"], stderr=subprocess.PIPE, text=True, check=True
    )
    assert float(re.search(r"([\d.]+)/192", again.stderr)[1]) == done
    np.testing.assert_array_equal(
        np.load(note.with_name("images.npy")), official.pixels(official.MPI3D_IMAGES, 64, 64, 3)
    )


def test_the_published_shapes3d_becomes_the_librarys_archive(data_path):
    import h5py

    packed, target = data_path / "3dshapes.h5", data_path / "3dshapes.npz"
    images, labels = official.pixels(96, 64, 64, 3), np.random.RandomState(1).uniform(size=(96, 6))
    with h5py.File(packed, "w") as file:
        file.create_dataset("images", data=images, compression="gzip")
        file.create_dataset("labels", data=labels)
    shapes3d.unpack_h5(packed, target)
    with np.load(target) as arrays:
        np.testing.assert_array_equal(arrays["images"], images.reshape(*official.SHAPES3D_SIZES, 64, 64, 3))
        np.testing.assert_array_equal(arrays["labels"], labels.reshape(*official.SHAPES3D_SIZES, 6))
    target.unlink()
    content = bytearray(packed.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1000] = bytes(1000)
    packed.write_bytes(content)
    with pytest.raises(DataError, match=facts("3dshapes.h5", "damaged")):
        shapes3d.unpack_h5(packed, target)
    assert list(data_path.iterdir()) == [packed]


def test_a_damaged_car_is_one_line(data_path):
    folder = official.write_cars(data_path / "cars")
    car = folder / "car_001_mesh.mat"
    scipy.io.savemat(car, {"im": scipy.io.loadmat(car)["im"]}, do_compression=True)
    damaged = bytearray(car.read_bytes())
    damaged[-20] ^= 255
    car.write_bytes(damaged)
    refused("cars3d", facts(car, "damaged"))


def test_only_cars_come_out_of_their_archive(data_path):
    official.write_cars(data_path / "source")
    packed = data_path / "downloads" / "nips2015-analogy-data.tar.gz"
    packed.parent.mkdir()
    official.write_cars_archive(packed, data_path / "source")
    before = sorted(data_path.rglob("*"))
    cars3d.unpack_cars(packed, data_path / "cars")
    unpacked = sorted(path.name for path in (data_path / "cars").iterdir())
    assert unpacked == ["car_000_mesh.mat", "car_001_mesh.mat", "car_002_mesh.mat", "list.txt"]
    assert sorted(path for path in data_path.rglob("*") if data_path / "cars" not in (path, path.parent)) == before
    assert not Path("/outside.mat").exists()


def test_pictures_that_are_scaled_are_pillows(data_path):
    """Cars3D's images are thumbnails of each picture, 24 azimuths by 4 elevations, as in the library's class."""
    from scipy.io import loadmat

    official.write_cars(data_path / "cars")
    data = get_named_ground_truth_data("cars3d")
    pictures = loadmat(data_path / "cars" / "car_001_mesh.mat")["im"]
    image = Image.fromarray(pictures[:, :, :, 17, 2]).resize((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(data.images[data.factors_to_index(np.array([[2, 17, 1]]))[0]], np.array(image))
