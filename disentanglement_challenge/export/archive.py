"""The zip archives of TorchScript and torch.export: read them after checks."""

import zipfile
from pathlib import Path

from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.export.metadata import METADATA, Metadata
from disentanglement_challenge.files import DAMAGED_ZIP

# A hundred times the report's largest model. Larger archives are refused, so that they cannot fill the memory.
MAX_BYTES = 4 << 30


def read_archive(path: Path) -> dict[str, bytes]:
    """Return the content of the archive's entries, by their names below its only folder, after checking their sums.

    The file is read once, so that a change of the file cannot affect later uses of an entry. PyTorch's own reader does
    not check the sums of the entries.

    Raises:
        RepresentationError: it is not a zip archive, is damaged, unpacks to more than MAX_BYTES, or has two entries of
            one name, between which readers may choose differently.
    """
    entries: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_BYTES:
                limit = f"the limit is {MAX_BYTES / 1e9:.1f} GB"
                raise RepresentationError(f"{path} unpacks to {size / 1e9:.1f} GB; {limit}")
            for entry in archive.infolist():
                name = entry.filename.partition("/")[2]
                if name in entries:
                    raise RepresentationError(f"{path} has two entries {name!r}; export it again")
                try:
                    entries[name] = archive.read(entry)
                except zipfile.BadZipFile as error:
                    raise RepresentationError(f"{path} is damaged in {entry.filename!r}; export it again") from error
    except DAMAGED_ZIP as error:
        raise RepresentationError(f"{path} is damaged or not an archive: {' '.join(str(error).split())}") from error
    return entries


def read_archive_metadata(path: Path) -> Metadata | None:
    """Read the metadata from the archive's folder of extra files; return None if there are none.

    Raises:
        RepresentationError: the archive is damaged.
        ValueError: the metadata are invalid.
    """
    content = read_archive(path).get(f"extra/{METADATA}")
    return None if content is None else Metadata.from_json(content)
