"""The zip archives that TorchScript and torch.export write: what is checked before anything of one is used."""

import zipfile
from pathlib import Path

from disentanglement_challenge.errors import RepresentationError
from disentanglement_challenge.export.metadata import METADATA, Metadata
from disentanglement_challenge.files import DAMAGED_ZIP

# The widest of the report's models is a hundredth of this; an archive that says it is more does not fill the memory.
MAX_BYTES = 4 << 30


def read_archive(path: Path) -> dict[str, bytes]:
    """The content of the archive's entries by their names below its one folder, each of which is whole.

    The file is read once, so that nothing else can be in it by the time that an entry is used. PyTorch's own reader
    does not look at the sums of the entries.

    Raises:
        RepresentationError: it is no zip archive, or damaged, or unpacks to more than MAX_BYTES, or has two entries of
            one name, of which another reader may take the other.
    """
    entries: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_BYTES:
                limit = f"{MAX_BYTES / 1e9:.1f} GB are the limit"
                raise RepresentationError(f"{path} unpacks to {size / 1e9:.1f} GB; {limit}")
            for entry in archive.infolist():
                name = entry.filename.partition("/")[2]
                if name in entries:
                    raise RepresentationError(f"{path} has two entries {name!r}; write it again")
                try:
                    entries[name] = archive.read(entry)
                except zipfile.BadZipFile as error:
                    raise RepresentationError(f"{path} is damaged in {entry.filename!r}; write it again") from error
    except DAMAGED_ZIP as error:
        raise RepresentationError(f"{path} is no archive, or damaged: {' '.join(str(error).split())}") from error
    return entries


def read_archive_metadata(path: Path) -> Metadata | None:
    """What was written into the archive's folder of extra files; None where there is no such thing.

    Raises:
        RepresentationError: the archive is damaged.
        ValueError: something else is in this place.
    """
    content = read_archive(path).get(f"extra/{METADATA}")
    return None if content is None else Metadata.from_json(content)
