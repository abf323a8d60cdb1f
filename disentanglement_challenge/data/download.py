"""Download a data set's official files to the places where disentanglement_lib looks for them.

requests and urllib3's retries make the connection. This module adds resuming in the middle of a file, which neither
requests nor pooch does and which 12 GB need. Incomplete files are in DISENTANGLEMENT_LIB_DATA/downloads, with the
SHA-256 of each finished download beside them. A file moves to its place when it is complete and its recorded check sum,
if there is one, is right. Publishers correct their files. So a download with another sum and valid content is kept
aside, and is used when the user accepts its sum.
"""

import gzip
import hashlib
import json
import logging
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from disentanglement_challenge.errors import DataError, OutputError
from disentanglement_challenge.files import exists, lock, make_folder, read_json, write_json, write_text

_LOGGER = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT = (10, 60)  # seconds to connect, and without a byte
# Maximum consecutive failures without progress: with a partial file, and without one. Then the seconds before the
# second attempt.
_ATTEMPTS = 6
_FIRST_ATTEMPTS = 2
_PAUSE = 1.0


@dataclass(frozen=True)
class Source:
    """A published file.

    Attributes:
        addresses: the published addresses, tried in order.
        target: the path, below DISENTANGLEMENT_LIB_DATA, where disentanglement_lib looks for the file or its content.
        size: its size in bytes, if published.
        checksum: "sha256:..." or "md5:...", if published.
        unpack: makes the target from the downloaded file, if they differ; raises DataError if the file is damaged.
        inspect: describes the content of a file that needs no unpacking; raises DataError if it is wrong.
        by_hand: another file that may be put there by hand and is loaded in place of the target.
    """

    addresses: tuple[str, ...]
    target: str
    size: int | None = None
    checksum: str | None = None
    unpack: Callable[[Path, Path], None] | None = None
    inspect: Callable[[Path], str] | None = None
    by_hand: str = ""

    def here(self, data_path: Path) -> Path | None:
        """Return the local file that the data set is loaded from; None if it is missing.

        Raises DataError if it cannot be looked up.
        """
        places = [data_path / name for name in (self.target, self.by_hand) if name]
        return next(filter(exists, places), None)

    @property
    def file_name(self) -> str:
        """The file's name during the download."""
        return self.addresses[0].rsplit("/", 1)[-1] if self.unpack else Path(self.target).name


class OtherSum(DataError):
    """A finished download has valid content and another check sum than the recorded one; it is kept aside."""


class BrokenConnection(DataError):
    """A connection fails after a part of the file has come, from which the same address can resume."""


def download(source: Source, data_path: Path, accepted_sums: Collection[str] = ()) -> None:
    """Download the source's target, unless it exists.

    Args:
        source: the file.
        data_path: DISENTANGLEMENT_LIB_DATA.
        accepted_sums: check sums such as "md5:..."; a download with one of these is used even if another sum is
            recorded. This is noted beside the target (`accepted_sum`).

    Raises:
        OtherSum: a download, from now or earlier, is kept aside.
        DataError: no address serves the file, or it serves another file.
        OutputError: the folder cannot be written, or the disk is too full; the partial download is kept.
    """
    target = data_path / source.target
    there = source.here(data_path)
    if there is not None:
        print(f"{there}: already downloaded")
        return
    folder = make_folder(data_path / "downloads")
    partial = folder / f"{source.file_name}.part"
    with _held(partial):
        kept = _kept_aside(partial, accepted_sums)
        # The address of an earlier partial download comes first, and is kept as long as that can be resumed.
        addresses = sorted(source.addresses, key=lambda address: not _validator_of(partial, address))
        for address, other in zip(addresses, [*addresses[1:], None], strict=True) if kept is None else ():
            try:
                _receive(address, partial, source)
                kept = _verify(address, partial, source, accepted_sums)
                break
            except DataError as error:
                if other is None or isinstance(error, BrokenConnection):
                    _raise_if_aside(partial)
                    raise
                print(f"{error}; trying {other}")
        make_folder(target.parent)
        try:
            if source.unpack is None:
                partial.replace(target)
            else:
                source.unpack(partial, target)
                partial.unlink()
        except DataError:
            partial.unlink()
            raise
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
        for leftover in (_note(partial), _aside(partial), _aside_note(partial)):
            leftover.unlink(missing_ok=True)
        if kept:
            today = f"{datetime.now(UTC):%Y-%m-%d}"
            write_json(_acceptance(target), {**kept, "accepted": today, "stamp": _stamp(target)})
    print(f"{target}: downloaded")


@contextmanager
def _held(partial: Path) -> Iterator[None]:
    """Lock the file against other processes' downloads; the system unlocks it when this process ends."""
    try:
        with partial.with_suffix(".lock").open("w") as file:
            if not lock(file.fileno()):
                raise OutputError(f"another process is downloading {partial.stem}; wait until it has finished")
            yield
            partial.with_suffix(".lock").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {partial.parent}: {error.strerror or error}") from error


def _receive(address: str, partial: Path, source: Source) -> None:
    """Download until the file is complete; resume after a broken connection or an earlier process."""
    session = requests.Session()
    session.headers["User-Agent"] = "disentanglement_challenge (data set download)"
    retries = Retry(
        total=5, connect=0, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False
    )
    session.mount("http://", HTTPAdapter(max_retries=retries))
    session.mount("https://", HTTPAdapter(max_retries=retries))
    failures = 0
    with session:
        while True:
            before = _size(partial)
            try:
                return _receive_rest(session, address, partial, source)
            except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
                failures = 0 if _size(partial) > before else failures + 1
                if failures >= (_ATTEMPTS if _size(partial) else _FIRST_ATTEMPTS):
                    kind = BrokenConnection if _size(partial) and _validator_of(partial, address) else DataError
                    raise kind(
                        f"{address}: the connection fails ({_reason(error)}); {_size(partial)} bytes are kept, run the "
                        "command again to resume"
                    ) from error
                _LOGGER.warning("%s: the connection broke; resuming at byte %d", address, _size(partial))
                time.sleep(_PAUSE * min(2**failures, 60) if failures else 0)
            except requests.RequestException as error:
                raise DataError(f"cannot download {address} ({_reason(error)})") from error


def _receive_rest(session: requests.Session, address: str, partial: Path, source: Source) -> None:
    """Request the missing bytes and append them.

    The note beside the partial file records the address and version of its bytes. The download resumes only if the
    server still has that version (HTTP's If-Range).
    """
    have = _size(partial)
    validator = _validator_of(partial, address) if have else None
    headers = {"Accept-Encoding": "identity"}
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with session.get(address, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{have}":
            return
        answered = response.headers.get("Content-Range", "")
        if have and (
            response.status_code == 416 or (response.status_code == 206 and not answered.startswith(f"bytes {have}-"))
        ):
            partial.unlink()  # longer than the file, or the server sends another part than requested: start again
            return _receive_rest(session, address, partial, source)
        if response.status_code not in (200, 206):
            raise DataError(
                f"{address}: the server answers {response.status_code} {response.reason}; download the file by hand, "
                f"to {source.target}"
            )
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise DataError(f"{address}: the server sends a web page, not the file; open the address in a browser")
        if response.status_code == 200:
            have = 0
        announced = response.headers.get("Content-Length")
        total = have + int(announced) if announced and announced.isdigit() else None
        if source.size is not None and total is not None and total != source.size:
            raise DataError(f"{address}: the server offers {total} bytes; the published file has {source.size}")
        total = total or source.size
        if total is not None:
            check_disk(partial.parent, total - have)
        validator = response.headers.get("ETag", "")
        if not validator or validator.startswith("W/"):
            validator = response.headers.get("Last-Modified", "")
        if have == 0:
            partial.unlink(missing_ok=True)
            write_text(_note(partial), json.dumps({"address": address, "validator": validator}))
        with (
            partial.open("ab") as file,
            tqdm(
                total=total, initial=have, desc=source.file_name, unit="B", unit_scale=True, unit_divisor=1024,
                mininterval=0.5,
            ) as bar,
        ):  # fmt: skip
            # Some servers call a .gz file gzip-encoded. requests' iter_content would unpack it, but sizes, sums and
            # ranges are those of the packed file.
            for block in response.raw.stream(_BLOCK, decode_content=False):
                file.write(block)
                file.flush()
                bar.update(len(block))


def _note(partial: Path) -> Path:
    return partial.with_suffix(".json")


def _validator_of(partial: Path, address: str) -> str | None:
    try:
        note = json.loads(_note(partial).read_text())
        return str(note["validator"]) if note["address"] == address else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _aside(partial: Path) -> Path:
    return partial.with_suffix(".other")


def _aside_note(partial: Path) -> Path:
    return partial.with_suffix(".other.json")


def _acceptance(target: Path) -> Path:
    return target.with_name(f"{target.name}.accepted.json")


def _stamp(target: Path) -> list[int]:
    """Return the size and time of a file, or of the files in a folder, without its sub-folder of converted images."""
    files = [target] if target.is_file() else [path for path in target.iterdir() if path.is_file()]
    states = [path.stat() for path in files]
    return [sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)]


def accepted_sum(source: Source, data_path: Path) -> dict[str, str] | None:
    """Return what the user accepted in place of the recorded sum: "sum", "recorded", "address", "accepted" (a date).

    Return None if the target has the recorded sum, or was replaced since.
    """
    target = data_path / source.target
    try:
        note = read_json(_acceptance(target))
        if exists(target) and note["stamp"] != _stamp(target):
            return None
        return {key: str(note[key]) for key in ("sum", "recorded", "address", "accepted")}
    except (DataError, KeyError, TypeError):
        return None


def _kept_aside(partial: Path, accepted_sums: Collection[str]) -> dict[str, str] | None:
    """Use what an earlier download kept aside, and return its note; raise OtherSum if its sum is not accepted."""
    if not _aside(partial).exists():
        return None
    try:
        note = {str(key): str(value) for key, value in read_json(_aside_note(partial)).items()}
        is_accepted = note["sum"] in accepted_sums
    except (DataError, AttributeError, KeyError):
        _aside(partial).unlink()  # without its note, its content is unknown
        return None
    if not is_accepted:
        _raise_if_aside(partial)
    _aside(partial).replace(partial)
    return note


def _raise_if_aside(partial: Path) -> None:
    """Raise OtherSum if a download is kept aside; say what to compare and how to accept it."""
    if not _aside(partial).exists():
        return
    note = read_json(_aside_note(partial))
    raise OtherSum(
        f"{note['file']}: its check sum is {note['sum']}, the recorded one is {note['recorded']}; it holds "
        f"{note['content']} and is kept as {_aside(partial)}. Compare its sum with the one that {note['address']} "
        f"publishes today; to use it, add --accept {note['sum']} to the same command; to download it again, delete it"
    )


def _inspect(source: Source, partial: Path) -> str:
    """Describe the download's content; raise DataError if it is wrong."""
    if source.unpack is not None:
        with tempfile.TemporaryDirectory(prefix=".inspect.", dir=partial.parent) as folder:
            source.unpack(partial, Path(folder) / Path(source.target).name)
        return "a valid archive"
    return "content that cannot be checked" if source.inspect is None else source.inspect(partial)


def sums(path: Path, algorithms: Collection[str]) -> dict[str, str]:
    """Compute the hexadecimal check sums of a file, by algorithm ("md5", "sha256"), in one pass."""
    digests = {name: hashlib.new(name) for name in algorithms}
    with (
        path.open("rb") as file,
        tqdm(
            total=_size(path), desc="checking", unit="B", unit_scale=True, unit_divisor=1024, delay=1, leave=False
        ) as bar,
    ):
        while block := file.read(_BLOCK):
            for digest in digests.values():
                digest.update(block)
            bar.update(len(block))
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _verify(address: str, partial: Path, source: Source, accepted_sums: Collection[str]) -> dict[str, str] | None:
    """Compare size and check sum with the published ones, or else with those of the first download.

    The SHA-256 is written to `<file>.sha256` beside the partial file, in sha256sum's format.

    Returns:
        The note for `accepted_sum` if the user accepted this sum; otherwise None.

    Raises:
        OtherSum: the sum differs and the content is valid; the file is kept aside.
        DataError: it is another file; it was removed.
    """
    published = source.checksum or ""
    algorithm, _, expected = published.partition(":")
    found = sums(partial, {"sha256", *filter(None, [algorithm])})
    sha256, size = found["sha256"], _size(partial)
    record = partial.with_name(f"{source.file_name}.sha256")
    if not size or (source.size is not None and size != source.size):
        partial.unlink()
        known = f"; the published file has {source.size}" if source.size else ""
        raise DataError(f"{address}: the download has {size} bytes{known}; it was removed")
    if not expected and record.exists():
        algorithm, expected = "sha256", (record.read_text().split() or [""])[0]
    if expected and found[algorithm] != expected:
        try:
            content = _inspect(source, partial)
        except DataError as error:
            partial.unlink(missing_ok=True)
            raise DataError(
                f"{address}: the download's {algorithm} is {found[algorithm]}, the recorded one is {expected}; it is "
                f"damaged or another file ({error}) and was removed"
            ) from error
        note = {
            "file": source.file_name, "sum": f"{algorithm}:{found[algorithm]}", "recorded": f"{algorithm}:{expected}",
            "address": address, "content": content,
        }  # fmt: skip
        if note["sum"] not in accepted_sums:
            write_json(_aside_note(partial), note)
            partial.replace(_aside(partial))
            _raise_if_aside(partial)
        write_text(record, f"{sha256}  {source.file_name}\n")
        return note
    if published:
        print(f"{source.file_name}: {algorithm} as published")
    elif not record.exists():
        print(f"{source.file_name}: no check sum is published; its sha256 {sha256} is recorded in {record}")
    write_text(record, f"{sha256}  {source.file_name}\n")
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def check_disk(folder: Path, needed: int) -> None:
    """Raise OutputError if the folder's disk has too few free bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(f"{folder}: its disk has {free / 1e9:.2f} GB free; {needed / 1e9:.2f} GB are needed")


def _reason(error: Exception) -> str:
    """Return the root cause of one of requests' errors, in one line."""
    cause: BaseException = error
    while (deeper := getattr(cause, "reason", None) or cause.__cause__ or cause.__context__) is not None:
        if not isinstance(deeper, BaseException):
            break
        cause = deeper
    return " ".join(str(cause).split()) or type(cause).__name__


@contextmanager
def damage_in(packed: Path) -> Iterator[None]:
    """Turn the errors of unpacking a damaged archive into a DataError that names it."""
    try:
        yield
    except (gzip.BadGzipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{packed.name}: the download is damaged ({error}); it was removed") from error
    except OSError as error:
        # HDF5 reports damage by an OSError without errno.
        if error.errno is None:
            reason = " ".join(str(error).split())
            raise DataError(f"{packed.name}: the download is damaged ({reason}); it was removed") from error
        raise
