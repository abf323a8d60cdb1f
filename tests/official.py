"""Tiny files in the official formats: keys, dtypes and axes of the real files, with few images."""

import io
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat

DSPRITES_SIZES = [3, 2, 3, 2, 2]
CARS = 3
NORB_SIZES = [2, 4, 2, 3, 2]
SHAPES3D_SIZES = [2, 2, 2, 2, 2, 3]
SHAPES3D_IMAGES = 96
MPI3D_SIZES = [2, 2, 2, 2, 3, 2, 2]
MPI3D_IMAGES = 192


def pixels(num, *shape, seed=0):
    return np.random.RandomState(seed).randint(256, size=(num, *shape)).astype(np.uint8)


def write_dsprites(data_path, save=np.savez_compressed, **changes):
    num = int(np.prod(DSPRITES_SIZES))
    path = data_path / "dsprites" / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = [1, *DSPRITES_SIZES]
    arrays = {
        "imgs": (pixels(num, 64, 64) > 127).astype(np.uint8),
        "latents_classes": np.stack(np.unravel_index(np.arange(num), sizes), axis=1).astype(np.int64),
        "latents_values": np.zeros((num, 6)),
        # Pickled, as in the official file.
        "metadata": np.array({"latents_sizes": np.array(sizes), "title": "dSprites dataset"}, dtype=object),
    }
    save(path, **{key: array for key, array in {**arrays, **changes}.items() if array is not None})
    return path


def write_scream(data_path, size=(500, 400)):
    path = data_path / "scream" / "scream.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    smooth = np.indices((size[1], size[0])).sum(axis=0) % 256
    Image.fromarray(np.stack([smooth, 255 - smooth, smooth // 2], axis=2).astype(np.uint8)).save(path, quality=95)
    return path


def write_cars(folder, shape=(128, 128, 3, 24, 4), key="im"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list.txt").write_text("".join(f"car_{i:03}_mesh\n" for i in range(CARS)))
    # Not in the order of their names, as some file systems list files in the order of creation.
    for i in reversed(range(CARS)):
        coarse = pixels(1, *(length // 4 for length in shape[:2]), *shape[2:], seed=i)[0]
        picture = coarse.repeat(4, axis=0).repeat(4, axis=1)
        savemat(folder / f"car_{i:03}_mesh.mat", {key: picture}, do_compression=True)
    return folder


def write_cars_archive(path, folder):
    """Write an archive like nips2015-analogy-data.tar.gz, with other folders and entries that must not be unpacked."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "data/cars")
        for name in ("data/sprites/sprite.mat", "../../outside.mat", "/outside.mat"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"bad"))
        link = tarfile.TarInfo("data/cars/link.mat")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)


def matrix_bytes(array):
    """Return a binary matrix of NORB: type, rank, at least three lengths, values."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[array.dtype.name]
    lengths = [*array.shape, *[1] * (3 - array.ndim)]
    return np.array([magic, array.ndim, *lengths], dtype="<i4").tobytes() + array.tobytes()


def norb_files():
    """Return the six files' bytes by name, with instances shuffled over the two chunks and combinations shuffled."""
    factors = np.stack(np.unravel_index(np.arange(np.prod(NORB_SIZES)), NORB_SIZES), axis=1).astype(np.int32)
    factors = factors[np.random.RandomState(5).permutation(len(factors))]
    factors[:, 3] *= 2
    # Sharp edges, so that resampling overshoots.
    pictures = (pixels(len(factors), 2, 12, 12) > 127).repeat(8, axis=2).repeat(8, axis=3).astype(np.uint8) * 255
    files = {}
    for chunk, instances in (
        ("5x46789x9x18x6x2x96x96-training", (1, 3)),
        ("5x01235x9x18x6x2x96x96-testing", (0, 2)),
    ):
        chosen = np.isin(factors[:, 1], instances)
        for kind, array in (
            ("dat", pictures[chosen]),
            ("cat", factors[chosen, 0]),
            ("info", factors[chosen, 1:]),
        ):
            files[f"smallnorb-{chunk}-{kind}.mat"] = matrix_bytes(np.ascontiguousarray(array))
    return files


def write_norb(data_path):
    folder = data_path / "small_norb"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in norb_files().items():
        (folder / name).write_bytes(content)
    return folder


def write_shapes3d(data_path, save=np.savez, **changes):
    path = data_path / "3dshapes" / "look-at-object-room_floor-hueXwall-hueXobj-hueXobj-sizeXobj-shapeXview-azi.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "images": pixels(SHAPES3D_IMAGES, 64, 64, 3).reshape(*SHAPES3D_SIZES, 64, 64, 3),
        "labels": np.zeros((*SHAPES3D_SIZES, 6)),
    }
    save(path, **{key: array for key, array in {**arrays, **changes}.items() if array is not None})
    return path


def write_mpi3d(data_path, name, save=np.savez, **arrays):
    folder = data_path if name == "mpi3d_real_complex" else data_path / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("real3d_complicated_shapes_ordered.npz" if name == "mpi3d_real_complex" else f"{name}.npz")
    save(path, **(arrays or {"images": pixels(MPI3D_IMAGES, 64, 64, 3)}))
    return path


def use_tiny_sizes(monkeypatch):
    """Lets the tiny files be the data sets they are in the format of, as no real one can be written in a test."""
    from disentanglement_challenge.data import cars3d, dsprites, mpi3d, shapes3d, smallnorb

    monkeypatch.setattr(dsprites, "FACTOR_SIZES", DSPRITES_SIZES)
    monkeypatch.setattr(cars3d, "FACTOR_SIZES", [4, 24, CARS])
    monkeypatch.setattr(smallnorb, "FACTOR_SIZES", NORB_SIZES)
    monkeypatch.setattr(shapes3d, "FACTOR_SIZES", SHAPES3D_SIZES)
    monkeypatch.setitem(mpi3d.FACTOR_SIZES_BY_NUM_IMAGES, MPI3D_IMAGES, MPI3D_SIZES)
