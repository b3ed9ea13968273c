"""Files from the internet that arrive whole: resumed where a connection broke, and tried again with growing pauses."""

import contextlib
import fcntl
import http.client
import logging
import math
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import IO

from stages.artifacts.atomic import write_text
from stages.errors import UserError
from stages.progress import track

logger = logging.getLogger("stages")

ATTEMPTS = 6
FIRST_PAUSE_S = 1.0
TIMEOUT_S = 60.0
CHUNK = 2**20
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""The HTTP statuses that another attempt may not meet."""


class _BrokenError(Exception):
    """The connection ended before the file did, for the reason given; another attempt may go on from there."""


def fetch(url: str, path: Path, otherwise: str) -> None:
    """Download ``url`` to ``path``; ``<path>.partial`` holds what has arrived, and is where the next run goes on.

    ``otherwise`` is what the user can do where it cannot be downloaded.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url}: expected an address that begins with http:// or https://, or a folder")
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("ab") as file:
        wait_for_others(file)
        if path.exists():  # another job's download, while this one waited
            if _length(file) == 0:
                partial.unlink(missing_ok=True)
            return
        _receive_all(url, file, partial, otherwise)
        file.flush()
        os.fsync(file.fileno())
        partial.replace(path)
    _validator_of(partial).unlink(missing_ok=True)


def wait_for_others(file: IO[bytes]) -> None:
    """Wait until no other job has ``file`` to itself, then have it until it is closed."""
    # Some file systems of clusters have no locks; there, two jobs that want the same file at once are on their own.
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


def _receive_all(url: str, file: IO[bytes], partial: Path, otherwise: str) -> None:
    """Receive what ``file`` still lacks, in as many attempts as bring it further."""
    failures, furthest = 0, _length(file)
    while True:
        try:
            return _receive(url, file, _validator_of(partial), otherwise)
        except _BrokenError as error:
            # Not further than the attempt before it: a server that cannot resume may break at other places for ever.
            failures = 1 if _length(file) > furthest else failures + 1
            furthest = max(furthest, _length(file))
            if failures == ATTEMPTS:
                raise UserError(
                    f"{url}: {error}; given up after {ATTEMPTS} attempts; received {_length(file)} bytes, kept in "
                    f"{partial}: run again to go on from there, or {otherwise}"
                ) from None
            pause = FIRST_PAUSE_S * 2 ** (failures - 1)
            logger.info("%s: %s after %d bytes; trying again in %.0f s", url, error, _length(file), pause)
            time.sleep(pause)


def _receive(url: str, file: IO[bytes], validator: Path, otherwise: str) -> None:
    """Append what ``file`` lacks, in one attempt."""
    start = _length(file)
    request = urllib.request.Request(url, headers={"User-Agent": "distillery", **_range(start, validator)})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            if response.status != HTTPStatus.PARTIAL_CONTENT:
                start = 0
            elif _first_byte(response) != start:
                _start_anew(file)
                raise _BrokenError("the server sent another part than it was asked for")
            file.truncate(start)
            _remember(response, validator)
            total = _total(response, start)
            _copy(response, file, start, total, Path(url).name)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return  # killed between the last byte and the file's last name
            _start_anew(file)
        elif error.code not in PASSING:
            raise UserError(
                f"{url}: the server answered {error.code} {error.reason}; if the file has moved, {otherwise}"
            ) from None
        raise _BrokenError(f"the server answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _BrokenError(f"no connection ({error.reason})") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _BrokenError(f"the connection broke ({error or type(error).__name__})") from None
    if total is not None and _length(file) < total:
        raise _BrokenError(f"the server stopped at {_length(file)} of {total} bytes")


def _copy(response: http.client.HTTPResponse, file: IO[bytes], start: int, total: int | None, what: str) -> None:
    """Append the response, and show how far it is."""
    chunks = iter(lambda: response.read(CHUNK), b"")
    if total is not None:
        chunks = iter(track(chunks, f"downloading {what}", math.ceil((total - start) / CHUNK), "MiB"))
    for chunk in chunks:
        file.write(chunk)


def _range(start: int, validator: Path) -> dict[str, str]:
    """The headers that ask for the bytes from ``start`` on, if the file is still the one that the first ones are of."""
    if start == 0 or not validator.exists():
        return {}
    return {"Range": f"bytes={start}-", "If-Range": validator.read_text().strip()}


def _remember(response: http.client.HTTPResponse, validator: Path) -> None:
    """Write down what tells this version of the file from a later one; without it, the download cannot be resumed."""
    tag = response.headers.get("ETag", "")
    version = response.headers.get("Last-Modified") if tag.startswith("W/") or not tag else tag
    if version:
        write_text(validator, f"{version}\n")
    else:
        validator.unlink(missing_ok=True)


def _validator_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _total(response: http.client.HTTPResponse, start: int) -> int | None:
    length = response.headers.get("Content-Length")
    return None if length is None else start + int(length)


def _length(file: IO[bytes]) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _start_anew(file: IO[bytes]) -> None:
    file.truncate(0)
