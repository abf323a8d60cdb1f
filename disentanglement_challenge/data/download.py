"""Downloads the official files of a data set to where disentanglement_lib looks for them.

The connection is requests' (with urllib3's retries for what fails between connection and answer); what is added here is
going on in the middle of a file, which neither it nor pooch does, and which 12 GB need. Everything incomplete lies in
DISENTANGLEMENT_LIB_DATA/downloads, with the SHA-256 of each finished download beside it; a file takes its place when it
is whole and its check sum, where one is published, is right.
"""

import gzip
import hashlib
import json
import logging
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from disentanglement_challenge.errors import DataError, OutputError
from disentanglement_challenge.files import lock, make_folder, write_text

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
    """

    addresses: tuple[str, ...]
    target: str
    size: int | None = None
    checksum: str | None = None
    unpack: Callable[[Path, Path], None] | None = None

    @property
    def file_name(self) -> str:
        """What the file is called while it is downloaded."""
        return self.addresses[0].rsplit("/", 1)[-1] if self.unpack else Path(self.target).name


def download(source: Source, data_path: Path) -> None:
    """Puts the source's target in its place, unless it is there already.

    Raises:
        DataError: no address serves the file, or what it serves is not the published file.
        OutputError: the folder cannot be written, or the disk is too full; what was downloaded is kept.
    """
    target = data_path / source.target
    if target.exists():
        print(f"{target}: there already")
        return
    folder = make_folder(data_path / "downloads")
    partial = folder / f"{source.file_name}.part"
    with _held(partial):
        # The address that an earlier run had a part from comes first, and is not left while that can be gone on from.
        addresses = sorted(source.addresses, key=lambda address: not _validator_of(partial, address))
        for address, other in zip(addresses, [*addresses[1:], None], strict=True):
            try:
                _receive(address, partial, source)
                _verify(address, partial, source)
                break
            except DataError as error:
                if other is None or (_size(partial) and _validator_of(partial, address)):
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
        _note(partial).unlink(missing_ok=True)
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


def _verify(address: str, partial: Path, source: Source) -> None:
    """Compares size and check sum with what is published, or else with what the first download had; removes a bad file.

    The SHA-256 is written to `<file>.sha256` beside the partial file, as sha256sum does it.
    """
    published = source.checksum or ""
    algorithm, _, expected = published.partition(":")
    digests = {"sha256": hashlib.sha256()} | ({algorithm: hashlib.new(algorithm)} if algorithm else {})
    size = _size(partial)
    with (
        partial.open("rb") as file,
        tqdm(total=size, desc="checking", unit="B", unit_scale=True, unit_divisor=1024, delay=1, leave=False) as bar,
    ):
        while block := file.read(_BLOCK):
            for digest in digests.values():
                digest.update(block)
            bar.update(len(block))
    sha256 = digests["sha256"].hexdigest()
    record = partial.with_name(f"{source.file_name}.sha256")
    fault = ""
    if source.size is not None and size != source.size:
        fault = f"is {size} bytes long, the published file has {source.size}"
    elif expected and digests[algorithm].hexdigest() != expected:
        fault = f"has the {algorithm} {digests[algorithm].hexdigest()}, published is {expected}"
    elif not expected and record.exists() and (recorded := record.read_text().split()) and recorded[0] != sha256:
        fault = f"has the sha256 {sha256}, at its first download it had {recorded[0]} (recorded in {record})"
    if fault:
        partial.unlink()
        raise DataError(f"{address}: what was downloaded {fault}; it is corrupt or another file, and was removed")
    if expected:
        print(f"{source.file_name}: {algorithm} as published")
    elif not record.exists():
        print(f"{source.file_name}: no check sum is published; its sha256, {sha256}, is recorded in {record}")
    write_text(record, f"{sha256}  {source.file_name}\n")


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
