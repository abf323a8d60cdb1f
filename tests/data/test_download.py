"""Downloads from a local server that breaks connections, sends wrong headers, fails and serves wrong files."""

import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import official
import pytest
from messages import assert_error_line, facts

from disentanglement_challenge.data import download as downloads
from disentanglement_challenge.data.cars3d import unpack_cars
from disentanglement_challenge.data.catalogue import CATALOGUE
from disentanglement_challenge.data.download import Source, download
from disentanglement_challenge.data.named import LOADERS
from disentanglement_challenge.data.smallnorb import unpack_gzip
from disentanglement_challenge.errors import DataError, OutputError

CONTENT = np.random.RandomState(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A server of `content`, with faults set by attributes; `requests` lists the Range of each request or None."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.requests = []
        self.breaks = 0  # the number of connections that break, each after `after` bytes
        self.after = 100_000
        self.status = []  # the status codes of the first requests
        self.ranges = True
        self.etag = '"one"'
        self.announce = 0  # added to the true length
        self.content_type = "application/octet-stream"
        self.encoding = ""
        self.pause = 0.0

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}/file.npz"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        if server.status:
            self.send_response(server.status.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if asked and server.ranges and self.headers.get("If-Range", server.etag) == server.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        rest = server.content[start:]
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Type", server.content_type)
        if server.encoding:
            self.send_header("Content-Encoding", server.encoding)
        self.send_header("Content-Length", str(len(rest) + server.announce))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            rest = rest[: server.after]
        for offset in range(0, len(rest), 10_000):
            time.sleep(server.pause)
            try:
                self.wfile.write(rest[offset : offset + 10_000])
            except OSError:
                break
        if server.breaks or len(rest) + start < len(server.content) or server.announce:
            self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    # Blocks as small as the pieces that the server sends, so that a broken connection leaves some on the disk.
    monkeypatch.setattr(downloads, "_BLOCK", 10_000)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def source(server, **changes):
    return Source(
        **{"addresses": (server.address,), "target": "set/file.npz", "checksum": f"sha256:{SHA256}", **changes}
    )


def target(path):
    return path / "set" / "file.npz"


def leftovers(path):
    return sorted(file.name for file in (path / "downloads").iterdir())


def test_a_download(server, tmp_path, capfd):
    download(source(server, size=len(CONTENT)), tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT
    assert (tmp_path / "downloads" / "file.npz.sha256").read_text() == f"{SHA256}  file.npz\n"
    assert leftovers(tmp_path) == ["file.npz.sha256"]
    output, progress = capfd.readouterr()
    assert "sha256" in output
    assert "100%" in progress
    download(source(server), tmp_path)
    assert server.requests == [None]
    assert str(target(tmp_path)) in capfd.readouterr().out


def test_a_broken_connection_is_gone_on_from(server, tmp_path):
    server.breaks = 2
    download(source(server), tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-", "bytes=200000-"]


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.breaks, server.ranges = 2, False
    download(source(server), tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_server_that_does_not_name_versions_is_asked_for_all(server, tmp_path):
    server.breaks, server.etag = 1, ""
    download(source(server), tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, None]


def test_a_connection_that_always_breaks_keeps_what_came(server, tmp_path):
    server.breaks, server.after = 1000, 0
    with pytest.raises(DataError, match=facts(server.address, "connection", "0 bytes")):
        download(source(server), tmp_path)
    server.breaks, server.after = 1, 120_000
    server.status = [200, 200]  # an empty file, as some overloaded servers send
    with pytest.raises(DataError, match=facts(server.address, "0 bytes", "removed")):
        download(source(server), tmp_path)
    assert not target(tmp_path).exists()


def test_another_version_is_not_mixed_with_the_first(server, tmp_path):
    server.breaks = 1
    newer = CONTENT[::-1]
    original = Handler.do_GET

    def change_after_first(handler):
        if handler.server.requests:
            handler.server.content, handler.server.etag = newer, '"two"'
        original(handler)

    with pytest.MonkeyPatch.context() as context:
        context.setattr(Handler, "do_GET", change_after_first)
        download(source(server, checksum=None), tmp_path)
    assert target(tmp_path).read_bytes() == newer
    assert server.requests == [None, "bytes=100000-"]


def test_a_length_that_is_a_lie(server, tmp_path):
    server.announce, server.ranges = 500, False
    with pytest.raises(DataError, match=facts(server.address, "connection")):
        download(source(server), tmp_path)
    assert not target(tmp_path).exists()
    server.announce, server.ranges = -500, True
    short = tmp_path / "short"
    with pytest.raises(DataError, match="sha256"):
        download(source(server, inspect=refuse), short)
    with pytest.raises(DataError, match=facts(server.address, "299500 bytes", 300000)):
        download(source(server, size=len(CONTENT)), short)
    assert not target(short).exists()
    server.announce = 0
    download(source(server, size=len(CONTENT)), short)
    assert target(short).read_bytes() == CONTENT


def refuse(path):
    raise DataError(f"{path.name} holds 3 images, not 4")


def test_a_file_of_another_sum_that_holds_something_else_is_not_kept(server, tmp_path):
    server.content = CONTENT[:-1] + b"\0"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DataError, match=facts(server.address, found, SHA256, "3 images, not 4", "removed")):
        download(source(server, inspect=refuse), tmp_path)
    assert not target(tmp_path).exists()
    assert "file.npz.part" not in leftovers(tmp_path)
    assert "file.npz.other" not in leftovers(tmp_path)
    server.content = CONTENT
    download(source(server), tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT


NEWER = CONTENT[::-1]
NEWER_SUM = f"sha256:{hashlib.sha256(NEWER).hexdigest()}"


def inspect(path):
    assert path.read_bytes() == NEWER
    return "images uint8 (4, 64, 64, 3)"


def kept_aside(server, tmp_path):
    server.content = NEWER
    mended = source(server, inspect=inspect)
    with pytest.raises(downloads.OtherSum) as refused:
        download(mended, tmp_path)
    assert not target(tmp_path).exists()
    return mended, str(refused.value)


def test_a_file_of_another_sum_that_holds_what_it_should_is_kept_aside(server, tmp_path):
    mended, message = kept_aside(server, tmp_path)
    aside = tmp_path / "downloads" / "file.npz.other"
    assert aside.read_bytes() == NEWER
    content = "images uint8 (4, 64, 64, 3)"
    assert re.match(
        facts("file.npz", f"sha256:{SHA256}", content, aside, server.address, f"--accept {NEWER_SUM}"), message
    )
    assert "\n" not in message
    # The second call raises the same without a request. Accepting another sum does not help.
    with pytest.raises(downloads.OtherSum, match=facts(aside)):
        download(mended, tmp_path, ["sha256:0000"])
    assert len(server.requests) == 1
    aside.unlink()
    server.content = CONTENT
    download(mended, tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT
    assert downloads.accepted_sum(mended, tmp_path) is None


def test_an_accepted_sum_is_written_down(server, tmp_path):
    mended, _ = kept_aside(server, tmp_path)
    download(mended, tmp_path, [NEWER_SUM])
    assert len(server.requests) == 1
    assert target(tmp_path).read_bytes() == NEWER
    assert leftovers(tmp_path) == []
    accepted = downloads.accepted_sum(mended, tmp_path)
    assert accepted["sum"] == NEWER_SUM
    assert accepted["recorded"] == f"sha256:{SHA256}"
    assert accepted["address"] == server.address
    # The note stays valid if the file is removed after its conversion, but not for another file in its place.
    target(tmp_path).unlink()
    assert downloads.accepted_sum(mended, tmp_path) == accepted
    target(tmp_path).write_bytes(CONTENT)
    assert downloads.accepted_sum(mended, tmp_path) is None


def test_a_sum_can_be_accepted_before_the_download(server, tmp_path):
    server.content = NEWER
    download(source(server, inspect=inspect), tmp_path, [NEWER_SUM])
    assert target(tmp_path).read_bytes() == NEWER
    assert downloads.accepted_sum(source(server), tmp_path)["sum"] == NEWER_SUM


def test_the_other_address_is_asked_first_and_what_is_kept_is_said_last(server, tmp_path):
    server.content = NEWER
    missing = server.address.replace("file.npz", "elsewhere/file.npz")
    original = Handler.do_GET

    def only_the_first(handler):
        if "elsewhere" in handler.path:
            handler.server.status = [404]
        original(handler)

    with pytest.MonkeyPatch.context() as context:
        context.setattr(Handler, "do_GET", only_the_first)
        with pytest.raises(downloads.OtherSum, match=facts(tmp_path / "downloads" / "file.npz.other")):
            download(source(server, addresses=(server.address, missing), inspect=inspect), tmp_path)
    assert len(server.requests) == 2


def test_what_is_kept_aside_without_its_note_is_downloaded_again(server, tmp_path):
    mended, _ = kept_aside(server, tmp_path)
    (tmp_path / "downloads" / "file.npz.other.json").write_text("{")
    server.content = CONTENT
    download(mended, tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT


def test_a_packed_file_of_another_sum_is_kept_where_it_can_be_unpacked(server, tmp_path):
    server.content = gzip.compress(NEWER)
    packed = source(server, unpack=unpack_gzip)
    found = f"sha256:{hashlib.sha256(server.content).hexdigest()}"
    with pytest.raises(downloads.OtherSum, match=facts("file.npz", f"--accept {found}", f"sha256:{SHA256}")):
        download(packed, tmp_path)
    download(packed, tmp_path, [found])
    assert target(tmp_path).read_bytes() == NEWER
    server.content = gzip.compress(NEWER)[:-1000]
    with pytest.raises(DataError, match=facts(server.address, SHA256, "removed")):
        download(packed, tmp_path / "damaged")


def test_md5_where_that_is_what_is_published(server, tmp_path, capfd):
    md5 = hashlib.md5(CONTENT).hexdigest()
    download(source(server, checksum=f"md5:{md5}"), tmp_path)
    assert re.match(facts("file.npz", "md5"), capfd.readouterr().out)
    assert SHA256 in (tmp_path / "downloads" / "file.npz.sha256").read_text()


def test_a_sum_that_is_not_published_is_recorded_and_compared(server, tmp_path, capfd):
    download(source(server, checksum=None), tmp_path)
    record = tmp_path / "downloads" / "file.npz.sha256"
    assert re.match(facts("file.npz", SHA256, record), capfd.readouterr().out)
    target(tmp_path).unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(downloads.OtherSum, match=facts("file.npz", f"sha256:{SHA256}", NEWER_SUM)):
        download(source(server, checksum=None), tmp_path)
    (tmp_path / "downloads" / "file.npz.other").unlink()
    server.content = CONTENT
    download(source(server, checksum=None), tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT


def test_404_is_one_line_and_is_not_asked_again(server, tmp_path):
    server.status = [404] * 9
    with pytest.raises(DataError, match=facts(server.address, "404 Not Found", "set/file.npz")):
        download(source(server), tmp_path)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.status = [503, 500]
    download(source(server), tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT


def test_the_next_address_is_tried(server, tmp_path):
    server.status = [404]
    second = server.address.replace("file.npz", "elsewhere/file.npz")
    download(source(server, addresses=(server.address, second)), tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT


def test_a_part_is_not_left_for_another_address(server, tmp_path):
    """A later run also begins with the address of the partial download."""
    second = server.address.replace("file.npz", "elsewhere/file.npz")
    both = source(server, addresses=(server.address, second))
    server.status = [404]
    server.breaks, server.after = 7, 0
    original = Handler.do_GET

    def some_then_none(handler):
        handler.server.after = 120_000 if len(handler.server.requests) == 1 else 0
        original(handler)

    with pytest.MonkeyPatch.context() as context:
        context.setattr(Handler, "do_GET", some_then_none)
        with pytest.raises(DataError, match=facts(second, "120000 bytes")):
            download(both, tmp_path)
    before = len(server.requests)
    download(both, tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT
    assert server.requests[before:] == ["bytes=120000-"]


def test_a_part_from_an_address_that_is_gone_does_not_keep_the_others(server, tmp_path):
    second = server.address.replace("file.npz", "elsewhere/file.npz")
    both = source(server, addresses=(server.address, second))
    (tmp_path / "downloads").mkdir()
    part = tmp_path / "downloads" / "file.npz.part"
    part.write_bytes(CONTENT[:1000])
    note = {"address": server.address, "validator": '"1"'}
    part.with_suffix(".json").write_text(json.dumps(note))
    assert downloads._validator_of(part, server.address)
    server.status = [404]
    download(both, tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT


def test_nobody_answers(tmp_path, monkeypatch):
    """The waiting time is short, at either address."""
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    addresses = ("http://127.0.0.1:9/file.npz", "http://127.0.0.1:9/elsewhere/file.npz")
    with pytest.raises(DataError, match=facts(addresses[1], "Connection refused")):
        download(Source(addresses, "set/file.npz"), tmp_path)
    assert 0 < sum(pauses) < 10


def test_a_web_page_is_not_a_data_set(server, tmp_path):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(DataError, match=facts(server.address, "web page")):
        download(source(server), tmp_path)


def test_a_full_disk_is_said_before_a_byte_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=facts(tmp_path / "downloads", "0.00 GB")):
        download(source(server), tmp_path)
    assert not (tmp_path / "downloads" / "file.npz.part").exists()


def test_a_folder_that_cannot_be_written(server):
    from pathlib import Path

    with pytest.raises(OutputError, match=facts("/proc/downloads")):
        download(source(server), Path("/proc"))


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_a_packed_file_that_the_server_calls_encoded_arrives_packed(server, tmp_path, encoding):
    """Some servers do this with .gz files, whatever the client accepts."""
    server.content, server.encoding, server.breaks = gzip.compress(CONTENT), encoding, 1
    sha256 = hashlib.sha256(server.content).hexdigest()
    download(source(server, size=len(server.content), checksum=f"sha256:{sha256}", unpack=unpack_gzip), tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-"]


def test_packed_files_are_unpacked_whole_or_not_at_all(server, tmp_path):
    server.content = gzip.compress(CONTENT)
    packed = source(server, checksum=None, unpack=unpack_gzip)
    download(packed, tmp_path)
    assert target(tmp_path).read_bytes() == CONTENT
    target(tmp_path).unlink()
    (tmp_path / "downloads" / "file.npz.sha256").unlink()
    whole = server.content
    for damaged in (whole[:-1000], whole[:-8] + bytes(4) + whole[-4:]):  # it ends early; another check sum
        server.content = damaged
        with pytest.raises(DataError, match=facts("file.npz", "damaged", "removed")):
            download(packed, tmp_path)
        assert list(target(tmp_path).parent.iterdir()) == []
        assert "file.npz.part" not in leftovers(tmp_path)
        (tmp_path / "downloads" / "file.npz.sha256").unlink()


def test_cars_appear_all_at_once(server, tmp_path):
    official.write_cars(tmp_path / "made")
    official.write_cars_archive(tmp_path / "made.tar.gz", tmp_path / "made")
    whole = (tmp_path / "made.tar.gz").read_bytes()
    cars = source(server, target="cars", checksum=None, unpack=unpack_cars)
    server.content = whole[: len(whole) * 2 // 3]
    with pytest.raises(DataError, match=facts("file.npz", "damaged")):
        download(cars, tmp_path)
    assert not (tmp_path / "cars").exists()
    (tmp_path / "downloads" / "file.npz.sha256").unlink()
    server.content = whole
    download(cars, tmp_path)
    assert len(list((tmp_path / "cars").glob("*.mat"))) == official.CARS


def test_an_accepted_sum_of_a_folder_is_that_of_its_files(server, tmp_path):
    official.write_cars(tmp_path / "made")
    official.write_cars_archive(tmp_path / "made.tar.gz", tmp_path / "made")
    server.content = (tmp_path / "made.tar.gz").read_bytes()
    found = f"sha256:{hashlib.sha256(server.content).hexdigest()}"
    cars = source(server, target="cars", unpack=unpack_cars, inspect=lambda packed: "cars")
    download(cars, tmp_path, [found])
    assert downloads.accepted_sum(cars, tmp_path)["sum"] == found
    (tmp_path / "cars" / "converted").mkdir()  # by the first loading
    assert downloads.accepted_sum(cars, tmp_path)["sum"] == found
    (tmp_path / "cars" / "car_000_mesh.mat").write_bytes(b"another")
    assert downloads.accepted_sum(cars, tmp_path) is None


PROGRAM = """
import sys
from pathlib import Path
from disentanglement_challenge.cli import run_script
from disentanglement_challenge.data import download
download._BLOCK = 10_000
source = download.Source((sys.argv[2],), "set/file.npz", checksum="sha256:" + sys.argv[3])
run_script(lambda: download.download(source, Path(sys.argv[1])), debug=False)
"""


def start(server, tmp_path):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, tmp_path, server.address, SHA256],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.processes
def test_a_killed_download_goes_on_where_it_was(server, tmp_path):
    server.pause = 0.05
    partial = tmp_path / "downloads" / "file.npz.part"
    process = start(server, tmp_path)
    while not partial.exists() or partial.stat().st_size < 100_000:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    server.pause = 1.0  # so that the download is still running when the second process asks
    other = start(server, tmp_path)
    _, error = other.communicate()
    assert other.returncode == 1
    assert_error_line(error, "file.npz", "another process")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = partial.stat().st_size
    assert 100_000 <= kept < 300_000
    assert not target(tmp_path).exists()
    server.pause = 0.0
    process = start(server, tmp_path)
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert target(tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == f"bytes={kept}-"


def command(*arguments, data_path):
    return subprocess.run(
        [sys.executable, "-m", "disentanglement_challenge.data", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "DISENTANGLEMENT_LIB_DATA": str(data_path)},
        capture_output=True,
        text=True,
    )


@pytest.mark.processes
def test_the_list_says_what_is_here(tmp_path):
    official.write_dsprites(tmp_path)
    result = command("list", data_path=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = {line.split()[1]: line for line in result.stdout.splitlines() if line.startswith("│")}
    assert set(LOADERS) <= set(rows)
    assert "1,036,800" in rows["mpi3d_real"]
    assert "6 6 2 3 3 40 40" in rows["mpi3d_real"]
    assert "CC BY 4.0" in rows["mpi3d_real"]
    assert "not here" in rows["mpi3d_real"]
    assert "4 4 2 3 3 40 40" in rows["mpi3d_real_complex"]
    assert "here, converted on first use" in rows["dsprites_full"]
    assert "incomplete" in rows["scream_dsprites"]
    assert "made on first use" in rows["mpi3d_embedded_full"]


@pytest.mark.processes
def test_an_unknown_name_on_the_command_line(tmp_path):
    result = command("download", "shapes3", data_path=tmp_path)
    assert result.returncode == 1
    assert_error_line(result.stderr, "data set 'shapes3'", "mpi3d_toy", "did you mean 'shapes3d'")


def test_every_data_set_that_is_published_has_an_address_and_a_place():
    """The places are disentanglement_lib's (DSPRITES_PATH and so on), relative to its folder."""
    places = {
        name: sorted({source.target for source in entry.sources})[0]
        for name, entry in CATALOGUE.items()
        if entry.sources
    }
    assert places == {
        "mpi3d_toy": "mpi3d_toy/mpi3d_toy.npz",
        "mpi3d_realistic": "mpi3d_realistic/mpi3d_realistic.npz",
        "mpi3d_real": "mpi3d_real/mpi3d_real.npz",
        "mpi3d_real_complex": "real3d_complicated_shapes_ordered.npz",
        **dict.fromkeys(
            ("dsprites_full", "dsprites_noshape", "color_dsprites", "noisy_dsprites", "scream_dsprites"),
            "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
        ),
        "cars3d": "cars",
        "smallnorb": "small_norb/smallnorb-5x01235x9x18x6x2x96x96-testing-cat.mat",
        "shapes3d": "3dshapes/look-at-object-room_floor-hueXwall-hueXobj-hueXobj-sizeXobj-shapeXview-azi.npz",
    }
    assert len(CATALOGUE["smallnorb"].sources) == 6
    assert [source.target for source in CATALOGUE["scream_dsprites"].sources][1] == "scream/scream.jpg"
    for entry in CATALOGUE.values():
        for published in entry.sources:
            assert all(address.startswith("http") for address in published.addresses)
            assert published.checksum is None or re.fullmatch(
                r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", published.checksum
            )
    assert set(CATALOGUE) | {"folder"} == set(LOADERS)
