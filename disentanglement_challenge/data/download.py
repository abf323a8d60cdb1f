"""Downloads the official files of a data set to where disentanglement_lib looks for them.

The connection is requests' (with urllib3's retries for what fails between connection and answer); what is added here is
going on in the middle of a file, which neither it nor pooch does, and which 12 GB need. Everything incomplete lies in
DISENTANGLEMENT_LIB_DATA/downloads, with the SHA-256 of each finished download beside it; a file takes its place when it
is whole and its check sum, where one is recorded, is right. Publishers mend their files, so one of another sum that
holds what it should is kept aside, and is used when the user accepts its sum.
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
from disentanglement_challenge.files import lock, make_folder, read_json, write_json, write_text

_LOGGER = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT = (10, 60)  # seconds to connect, and without a byte
# Broken connections in a row that brought nothing new, where there is a part to go on from and where there is none; and
# the seconds before the second of them.
_ATTEMPTS = 6
_FIRST_ATTEMPTS = 2
_PAUSE = 1.0


@dataclass(frozen=True)
class Source:
    """A published file.

    Attributes:
        addresses: where it is published; the later ones are tried when the earlier fail.
        target: where disentanglement_lib looks for it or for what is in it, below DISENTANGLEMENT_LIB_DATA.
        size: its length in bytes, where published.
        checksum: "sha256:..." or "md5:...", where published.
        unpack: makes the target of the downloaded file, where they differ; raises DataError where the file is damaged.
        inspect: says in a few words what a file that needs no unpacking holds; raises DataError where that is not what
            the target should hold.
        by_hand: another file that the data set is loaded from in the target's place, for who downloads it by hand.
    """

    addresses: tuple[str, ...]
    target: str
    size: int | None = None
    checksum: str | None = None
    unpack: Callable[[Path, Path], None] | None = None
    inspect: Callable[[Path], str] | None = None
    by_hand: str = ""

    def here(self, data_path: Path) -> Path | None:
        """The file that the data set is loaded from, where it is there."""
        places = [data_path / name for name in (self.target, self.by_hand) if name]
        return next((place for place in places if place.exists()), None)

    @property
    def file_name(self) -> str:
        """What the file is called while it is downloaded."""
        return self.addresses[0].rsplit("/", 1)[-1] if self.unpack else Path(self.target).name


class OtherSum(DataError):
    """A finished download that holds what it should, and whose sum is not the recorded one; it is kept aside."""


def download(source: Source, data_path: Path, accepted_sums: Collection[str] = ()) -> None:
    """Puts the source's target in its place, unless it is there already.

    Args:
        source: the file.
        data_path: DISENTANGLEMENT_LIB_DATA.
        accepted_sums: such as "md5:..."; a download with one of these is taken whatever sum is recorded, and this is
            written down beside the target (`accepted_sum`).

    Raises:
        OtherSum: what was downloaded, now or earlier, is kept aside.
        DataError: no address serves the file, or what it serves is not the published file.
        OutputError: the folder cannot be written, or the disk is too full; what was downloaded is kept.
    """
    target = data_path / source.target
    there = source.here(data_path)
    if there is not None:
        print(f"{there}: there already")
        return
    folder = make_folder(data_path / "downloads")
    partial = folder / f"{source.file_name}.part"
    with _held(partial):
        kept = _kept_aside(partial, accepted_sums)
        # The address that an earlier run had a part from comes first, and is not left while that can be gone on from.
        addresses = sorted(source.addresses, key=lambda address: not _validator_of(partial, address))
        for address, other in zip(addresses, [*addresses[1:], None], strict=True) if kept is None else ():
            try:
                _receive(address, partial, source)
                kept = _verify(address, partial, source, accepted_sums)
                break
            except DataError as error:
                if other is None or (_size(partial) and _validator_of(partial, address)):
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
            stamp = [target.stat().st_size, target.stat().st_mtime_ns]
            write_json(_acceptance(target), {**kept, "accepted": f"{datetime.now(UTC):%Y-%m-%d}", "stamp": stamp})
    print(f"{target}: downloaded")


@contextmanager
def _held(partial: Path) -> Iterator[None]:
    """Keeps other processes from downloading the same file; the system lets go when this one ends, however it ends."""
    try:
        with partial.with_suffix(".lock").open("w") as file:
            if not lock(file.fileno()):
                raise OutputError(f"another process is downloading {partial.stem}; wait for it")
            yield
            partial.with_suffix(".lock").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {partial.parent}: {error.strerror or error}") from error


def _receive(address: str, partial: Path, source: Source) -> None:
    """Downloads until the file is whole; goes on after a broken connection, and where an earlier process stopped."""
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
                    raise DataError(
                        f"{address}: the connection fails ({_reason(error)}); {_size(partial)} bytes are kept, "
                        "start again to go on"
                    ) from error
                _LOGGER.warning("%s: the connection broke; going on at byte %d", address, _size(partial))
                time.sleep(_PAUSE * min(2**failures, 60) if failures else 0)
            except requests.RequestException as error:
                raise DataError(f"{address}: cannot be downloaded ({_reason(error)})") from error


def _receive_rest(session: requests.Session, address: str, partial: Path, source: Source) -> None:
    """Asks for the bytes that are missing, and appends them.

    The note beside the partial file says which version of which address its bytes are of; they are gone on from only
    where the server says that it would send the same (HTTP's If-Range).
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
            partial.unlink()  # longer than the file, or the server sends another part than asked for: begin anew
            return _receive_rest(session, address, partial, source)
        if response.status_code not in (200, 206):
            raise DataError(
                f"{address}: the server answers {response.status_code} {response.reason}; download the file by hand to "
                f"its place, {source.target}"
            )
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise DataError(f"{address}: the server sends a web page, not the file; open the address in a browser")
        if response.status_code == 200:
            have = 0
        announced = response.headers.get("Content-Length")
        total = have + int(announced) if announced and announced.isdigit() else None
        if source.size is not None and total is not None and total != source.size:
            raise DataError(f"{address}: the server offers {total} bytes, the published file has {source.size}")
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
            # Some servers call a .gz file gzip-encoded. requests' iter_content would unpack it, and the sizes, the sums
            # and the ranges are of the file.
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


def accepted_sum(source: Source, data_path: Path) -> dict[str, str] | None:
    """What the user accepted in place of the recorded sum: "sum", "recorded", "address", and "accepted", a date.

    None where the target is as recorded, or was replaced since.
    """
    target = data_path / source.target
    try:
        note = read_json(_acceptance(target))
        if target.exists() and note["stamp"] != [target.stat().st_size, target.stat().st_mtime_ns]:
            return None
        return {key: str(note[key]) for key in ("sum", "recorded", "address", "accepted")}
    except (DataError, KeyError, TypeError):
        return None


def _kept_aside(partial: Path, accepted_sums: Collection[str]) -> dict[str, str] | None:
    """Takes up what an earlier download kept aside, and returns its note; raises OtherSum where it is not accepted."""
    if not _aside(partial).exists():
        return None
    try:
        note = {str(key): str(value) for key, value in read_json(_aside_note(partial)).items()}
        is_accepted = note["sum"] in accepted_sums
    except (DataError, AttributeError, KeyError):
        _aside(partial).unlink()  # nobody knows what it is
        return None
    if not is_accepted:
        _raise_if_aside(partial)
    _aside(partial).replace(partial)
    return note


def _raise_if_aside(partial: Path) -> None:
    """Raises OtherSum, with what to compare and how to accept it, where a download is kept aside."""
    if not _aside(partial).exists():
        return
    note = read_json(_aside_note(partial))
    raise OtherSum(
        f"{note['file']}: its sum is {note['sum']}, recorded is {note['recorded']}, and it holds {note['content']}; "
        f"it is kept as {_aside(partial)}: compare its sum with what {note['address']} publishes today, and use it by "
        f"the same command with --accept {note['sum']}, or delete it to download again"
    )


def _inspect(source: Source, partial: Path) -> str:
    """What the download holds; raises DataError where it is not what it should be."""
    if source.unpack is not None:
        with tempfile.TemporaryDirectory(prefix=".inspect.", dir=partial.parent) as folder:
            source.unpack(partial, Path(folder) / Path(source.target).name)
        return "what can be unpacked as it should be"
    return "nothing that could be checked" if source.inspect is None else source.inspect(partial)


def sums(path: Path, algorithms: Collection[str]) -> dict[str, str]:
    """The hexadecimal check sums of a file, by algorithm ("md5", "sha256"), in one reading."""
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
    """Compares size and check sum with what is published, or else with what the first download had.

    The SHA-256 is written to `<file>.sha256` beside the partial file, as sha256sum does it.

    Returns:
        What `accepted_sum` says, where the sum is an accepted one.

    Raises:
        OtherSum: the sum is another and the content is not; the file is kept aside.
        DataError: it is another file, and was removed.
    """
    published = source.checksum or ""
    algorithm, _, expected = published.partition(":")
    found = sums(partial, {"sha256", *filter(None, [algorithm])})
    sha256, size = found["sha256"], _size(partial)
    record = partial.with_name(f"{source.file_name}.sha256")
    if not size or (source.size is not None and size != source.size):
        partial.unlink()
        known = f", the published file has {source.size}" if source.size else ""
        raise DataError(f"{address}: what was downloaded is {size} bytes long{known}; it was removed")
    if not expected and record.exists():
        algorithm, expected = "sha256", (record.read_text().split() or [""])[0]
    if expected and found[algorithm] != expected:
        try:
            content = _inspect(source, partial)
        except DataError as error:
            partial.unlink(missing_ok=True)
            raise DataError(
                f"{address}: what was downloaded has the {algorithm} {found[algorithm]}, recorded is {expected}; it is "
                f"corrupt or another file ({error}), and was removed"
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
        print(f"{source.file_name}: no check sum is published; its sha256, {sha256}, is recorded in {record}")
    write_text(record, f"{sha256}  {source.file_name}\n")
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def check_disk(folder: Path, needed: int) -> None:
    """Raises OutputError where the folder's disk has not so many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(f"{folder}: {needed / 1e9:.2f} GB are needed on this disk, {free / 1e9:.2f} GB are free")


def _reason(error: Exception) -> str:
    """What is at the bottom of an error of requests', in one line."""
    cause: BaseException = error
    while (deeper := getattr(cause, "reason", None) or cause.__cause__ or cause.__context__) is not None:
        if not isinstance(deeper, BaseException):
            break
        cause = deeper
    return " ".join(str(cause).split()) or type(cause).__name__


@contextmanager
def damage_in(packed: Path) -> Iterator[None]:
    """Turns what unpacking a damaged archive raises into a DataError that names it."""
    try:
        yield
    except (gzip.BadGzipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{packed.name}: what was downloaded is damaged ({error}), and was removed") from error
    except OSError as error:
        # HDF5 says so by an error without a number.
        if error.errno is None:
            reason = " ".join(str(error).split())
            raise DataError(f"{packed.name}: what was downloaded is damaged ({reason}), and was removed") from error
        raise
