"""Checkpoints are those they were: the hash of each one's first download is kept, and every later file is held to it.

The lock file is made as by ``sha256sum``, one line a file, so that ``sha256sum --check`` reads it too.
"""

import hashlib
import re
from pathlib import Path

from stages.checkpoints.catalogue import Entry
from stages.downloads import wait_for_others
from stages.errors import UserError


def verify(entry: Entry, file: Path, lock: Path) -> str:
    """The file's sha256, held against all that is known of it; a `UserError` says which it contradicts."""
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    with file.open("rb") as opened:
        md5 = hashlib.file_digest(opened, "md5").hexdigest() if entry.md5_prefix else ""
    if not md5.startswith(entry.md5_prefix):
        raise _other_file(entry, file, f"md5 is {md5}; its authors' begins with {entry.md5_prefix}")
    if entry.sha256 and sha256 != entry.sha256:
        raise _other_file(entry, file, f"sha256 is {sha256}; the catalogue has {entry.sha256}")
    locked = _read(lock).get(entry.place, sha256)
    if sha256 != locked:
        raise _other_file(
            entry,
            file,
            f"sha256 is {sha256}; {lock} recorded {locked} at the first download",
            f", or take the line of {entry.place} out of {lock} if you trust this file",
        )
    return sha256


def record(entry: Entry, sha256: str, lock: Path) -> None:
    """Keep the hash, unless it is there; other jobs may be writing theirs."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        wait_for_others(file)
        if entry.place not in _read(lock):
            file.write(f"{sha256}  {entry.place}\n".encode())


def _read(lock: Path) -> dict[str, str]:
    """The hashes, by the file's place among the downloads."""
    if not lock.exists():
        return {}
    hashes = {}
    for number, line in enumerate(lock.read_text().splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if match is None:
            raise UserError(f"{lock}: line {number} is {line!r}; expected a sha256, two spaces and a file: mend it")
        hashes[match[2]] = match[1]
    return hashes


def _other_file(entry: Entry, file: Path, difference: str, otherwise: str = "") -> UserError:
    return UserError(
        f"{file}: not the file that {entry.name} is: its {difference}; delete it and run again for another copy"
        f"{otherwise}"
    )
