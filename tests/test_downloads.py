"""Downloads that arrive whole: over broken connections, failing servers and changed files."""

import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from stages import downloads
from stages.errors import UserError
from tests.checkpoint_fixtures import FileServer

pytest_plugins = ["tests.checkpoint_fixtures"]

CONTENT = np.random.default_rng(0).bytes(3 * 2**20 + 12345)
OTHERWISE = "ask its owner"
OTHER = np.random.default_rng(1).bytes(3 * 2**20)
HALF = len(CONTENT) // 2


@pytest.fixture
def server(server: FileServer) -> FileServer:
    server.files["f.pth"] = CONTENT
    return server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "downloads/f.pth"


def assert_whole(path: Path, content: bytes = CONTENT) -> None:
    """The file is there, and nothing else is left."""
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def ranges(server: FileServer) -> list[str | None]:
    return [wanted for _, wanted in server.requests]


def test_a_file_arrives_whole(server: FileServer, path: Path) -> None:
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)
    assert ranges(server) == [None]


def test_a_file_is_whole_before_it_has_its_name(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a server that tells no length, it is whole when the connection ends."""
    server.lengths = False
    synced: list[int] = []
    monkeypatch.setattr(downloads.os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)
    assert synced[-1] == len(CONTENT)


def test_an_empty_file_is_a_file(server: FileServer, path: Path) -> None:
    server.files["f.pth"] = b""
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path, b"")


@pytest.mark.parametrize("versions", [{"ETag": '"1"'}, {"Last-Modified": "Fri, 20 Nov 2026 10:00:00 GMT"}])
def test_a_broken_download_goes_on_where_it_stopped(versions: dict[str, str], server: FileServer, path: Path) -> None:
    server.versions = versions
    server.faults = [("stop", HALF), ("stop", 1000)]
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)
    assert ranges(server) == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert server.sent == len(CONTENT)


def test_any_number_of_breaks_is_borne_as_long_as_something_arrives(
    server: FileServer, path: Path, pauses: list[float]
) -> None:
    server.faults = [("stop", 100_000)] * 20
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)
    assert pauses == [1.0] * 20


def test_a_server_that_keeps_failing_is_one_line_and_the_next_run_goes_on(
    server: FileServer, path: Path, pauses: list[float]
) -> None:
    server.faults = [("stop", HALF)] + [("stop", 0)] * downloads.ATTEMPTS
    with pytest.raises(UserError) as refused:
        downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    partial = path.with_name("f.pth.partial")
    message = str(refused.value)
    for part in (server.url("f.pth"), f"received {HALF} bytes", f"of {len(CONTENT)}", str(partial), "run again"):
        assert part in message
    assert "\n" not in message
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert not path.exists()
    assert partial.read_bytes() == CONTENT[:HALF]

    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)
    assert ranges(server)[-1] == f"bytes={HALF}-"
    assert server.sent == len(CONTENT)


def test_a_server_that_begins_anew_each_time_is_left(server: FileServer, path: Path, pauses: list[float]) -> None:
    """It breaks now earlier, now later: each second attempt gets further than the last, and none than the first."""
    server.ranges = False
    server.faults = [("stop", HALF - 1000 * (number % 2)) for number in range(50)]
    with pytest.raises(UserError, match=r"given up after 6 attempts"):
        downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert len(pauses) == downloads.ATTEMPTS - 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again_after_growing_pauses(
    status: int, server: FileServer, path: Path, pauses: list[float]
) -> None:
    server.faults = [("status", status)] * 3
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)
    assert pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_lasting_failure_is_one_line_at_once(status: int, server: FileServer, path: Path) -> None:
    server.faults = [("status", status)]
    with pytest.raises(UserError, match=rf"f\.pth: the server answered {status} .*ask its owner"):
        downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert len(server.requests) == 1
    assert not path.exists()


def test_a_server_that_does_not_answer_is_one_line(path: Path, pauses: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UserError, match=r"no connection \(.*refused\).*received 0 bytes"):
        downloads.fetch(f"http://127.0.0.1:{port}/f.pth", path, OTHERWISE)
    assert len(pauses) == downloads.ATTEMPTS - 1


def test_another_kind_of_address_is_one_line_at_once(path: Path, pauses: list[float]) -> None:
    with pytest.raises(UserError, match=r"s3://bucket/f\.pth: expected an address that begins with http://"):
        downloads.fetch("s3://bucket/f.pth", path, OTHERWISE)
    assert not pauses


@pytest.mark.usefixtures("pauses")
def test_a_server_that_hangs_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(downloads, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match="timed out"):
        downloads.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/f.pth", path, OTHERWISE)


@pytest.mark.parametrize("before", [CONTENT, CONTENT[:1000]])
def test_a_file_that_has_changed_meanwhile_is_downloaded_anew(before: bytes, server: FileServer, path: Path) -> None:
    server.files["f.pth"] = before
    server.faults = [("stop", len(before) // 2)] + [("stop", 0)] * downloads.ATTEMPTS
    with pytest.raises(UserError):
        downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    server.files["f.pth"], server.versions = OTHER, {"ETag": '"2"'}
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path, OTHER)


def test_without_ranges_the_download_starts_anew(server: FileServer, path: Path) -> None:
    server.ranges = False
    server.faults = [("stop", HALF)]
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)


@pytest.mark.parametrize("versions", [{}, {"ETag": 'W/"1"'}])
def test_what_cannot_be_told_from_a_later_version_is_not_resumed(
    versions: dict[str, str], server: FileServer, path: Path
) -> None:
    server.versions = versions
    server.faults = [("stop", HALF)]
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)
    assert ranges(server) == [None, None]


@pytest.mark.parametrize("shift", [-1, 1])
def test_another_part_than_asked_for_is_not_taken(shift: int, server: FileServer, path: Path) -> None:
    server.faults = [("stop", HALF), ("shift", shift)]
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)


@pytest.mark.parametrize(("arrived", "requests"), [(CONTENT, 1), (CONTENT + b"more", 2)])
def test_a_run_killed_after_the_last_byte_is_ended(
    arrived: bytes, requests: int, server: FileServer, path: Path
) -> None:
    path.parent.mkdir()
    path.with_name("f.pth.partial").write_bytes(arrived)
    path.with_name("f.pth.partial.version").write_text('"1"\n')
    downloads.fetch(server.url("f.pth"), path, OTHERWISE)
    assert_whole(path)
    assert len(server.requests) == requests


def test_two_jobs_that_want_the_same_file_download_it_once(server: FileServer, path: Path) -> None:
    threads = [threading.Thread(target=downloads.fetch, args=(server.url("f.pth"), path, OTHERWISE)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_whole(path)
    assert len(server.requests) == 1
