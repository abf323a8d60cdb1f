"""Cars3D (Reed et al., "Deep Visual Analogy-Making", 2015) from its .mat files, one per car.

Cars are numbered in the order of their file names. disentanglement_lib takes them in the file system's order, which
differs between disks. With that order fixed (`library`), its observations equal these.
"""

import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from disentanglement_challenge.data.archive import missing_file
from disentanglement_challenge.data.download import Source, check_disk, damage_in
from disentanglement_challenge.data.ground_truth import IndexedGroundTruthData
from disentanglement_challenge.data.store import files_recipe, load_or_make_images
from disentanglement_challenge.errors import DataError

FACTOR_NAMES = ["elevation", "azimuth", "object_type"]
FACTOR_SIZES = [4, 24, 183]
FOLDER = "cars"


def unpack_cars(packed: Path, target: Path) -> None:
    """Unpack the cars from the archive of "Deep Visual Analogy-Making": data/cars/* becomes target/*.

    Only plain files are unpacked, under the last part of their name, so nothing is written outside the target.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with damage_in(packed), tarfile.open(packed, "r:gz") as members:
            for member in members:
                path = Path(member.name)
                stream = members.extractfile(member) if member.isreg() else None
                if stream is None or path.parent.parts[-2:] != ("data", "cars"):
                    continue
                check_disk(temporary, member.size)
                with (temporary / path.name).open("wb") as out:
                    shutil.copyfileobj(stream, out)
        if not any(".mat" in path.name for path in temporary.iterdir()):
            raise DataError(f"{packed.name}: the download holds no data/cars/*.mat; it was removed")
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


SOURCES = {
    "cars3d": [
        Source(
            ("http://www.scottreed.info/files/nips2015-analogy-data.tar.gz",),
            FOLDER,
            checksum="md5:4e866a7919c1beedf53964e6f7a23686",
            unpack=unpack_cars,
        )
    ]
}


def load_cars3d(name: str, data_path: Path) -> IndexedGroundTruthData:
    """Map Cars3D into memory, converting its .mat files the first time.

    Args:
        name: the data set's name.
        data_path: the folder that disentanglement_lib looks for data sets in.

    Raises:
        DataError: files are missing or damaged, or are not Cars3D's.
        OutputError: there is no room or no permission to convert them.
    """
    folder = data_path / FOLDER
    try:
        # disentanglement_lib's rule for which files are cars.
        paths = sorted(path for path in folder.iterdir() if ".mat" in path.name)
    except FileNotFoundError:
        raise missing_file(name, folder) from None
    except OSError as error:
        raise DataError(f"cannot read {folder} ({error.strerror})") from error
    elevations, azimuths, cars = FACTOR_SIZES
    if len(paths) != cars:
        raise DataError(
            f"{folder} holds {len(paths)} .mat files; Cars3D has {cars}, one per car: delete it and download it again"
        )
    images: NDArray[np.uint8] | None = None

    def make(start: int, stop: int) -> NDArray[np.uint8]:
        nonlocal images
        if images is None:
            # The car varies fastest, so the first images need every file: 216 MB in total.
            images = np.stack([_read_car(path) for path in paths], axis=2).reshape(-1, 64, 64, 3)
        return images[start:stop]

    shape = [elevations * azimuths * cars, 64, 64, 3]
    mapped = load_or_make_images(folder / "converted", shape, files_recipe(paths), make, "converting cars3d")
    return IndexedGroundTruthData(name, mapped, FACTOR_SIZES, FACTOR_NAMES)


def _read_car(path: Path) -> NDArray[np.uint8]:
    """Return the pictures of one car, uint8 [elevation, azimuth, 64, 64, 3]."""
    try:
        pictures: Any = loadmat(path, variable_names=["im"])["im"]
    except KeyError:
        raise DataError(f"{path}: there is no array 'im'; it is not a file of Cars3D") from None
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error})") from error
    except (MatReadError, zlib.error, ValueError, TypeError, NotImplementedError) as error:
        raise DataError(f"{path} is damaged or not a MATLAB file ({' '.join(str(error).split())})") from error
    elevations, azimuths, _ = FACTOR_SIZES
    if pictures.dtype != np.uint8 or pictures.shape != (128, 128, 3, azimuths, elevations):
        raise DataError(
            f"{path}: 'im' is {pictures.dtype} of shape {pictures.shape}; Cars3D's are uint8 of shape "
            f"{(128, 128, 3, azimuths, elevations)}"
        )
    small = np.empty((elevations, azimuths, 64, 64, 3), dtype=np.uint8)
    for elevation in range(elevations):
        for azimuth in range(azimuths):
            picture = Image.fromarray(np.ascontiguousarray(pictures[..., azimuth, elevation]))
            picture.thumbnail((64, 64), Image.Resampling.LANCZOS)
            small[elevation, azimuth] = np.asarray(picture)
    return small
