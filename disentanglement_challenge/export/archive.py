"""The zip archives that TorchScript and torch.export write: what is checked before anything of one is used."""

import zipfile
from pathlib import Path

from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.export.metadata import METADATA, Metadata
from disentanglement_challenge.files import DAMAGED_ZIP

# The widest of the report's models is a hundredth of this; an archive that says it is more does not fill the memory.
MAX_BYTES = 4 << 30


def read_names(path: Path) -> list[str]:
    """The names of the archive's entries, each of which is whole.

    PyTorch's own reader does not look at the sums of the entries.

    Raises:
        RepresentationError: it is no zip archive, or damaged, or unpacks to more than MAX_BYTES.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_BYTES:
                limit = f"{MAX_BYTES / 1e9:.1f} GB are the limit"
                raise RepresentationError(f"{path} unpacks to {size / 1e9:.1f} GB; {limit}")
            damaged = archive.testzip()
            if damaged is not None:
                raise RepresentationError(f"{path} is damaged in {damaged!r}; write it again")
            return archive.namelist()
    except DAMAGED_ZIP as error:
        raise RepresentationError(f"{path} is no archive, or damaged: {' '.join(str(error).split())}") from error


def read_entry(path: Path, name: str) -> bytes:
    """The content of the entry `name`, below the archive's one folder; raises KeyError where there is none."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            if entry.partition("/")[2] == name:
                return archive.read(entry)
    raise KeyError(name)


def read_archive_metadata(path: Path) -> Metadata | None:
    """What was written into the archive's folder of extra files; None where there is no such thing.

    Raises:
        RepresentationError: the archive is damaged.
        ValueError: something else is in this place.
    """
    name = f"extra/{METADATA}"
    is_there = name in (entry.partition("/")[2] for entry in read_names(path))
    return Metadata.from_json(read_entry(path, name)) if is_there else None
