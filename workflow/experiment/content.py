"""The fingerprint of a folder of the user's own: names and bytes count, dates do not.

Bytes are read once: a file of the size and date that were seen before is known by the digest that was taken then.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

MEMORY = Path(".snakemake") / "distillery" / "content.json"


@functools.cache
def fingerprint(folder: str, parts: tuple[str, ...] = (".",)) -> str:
    """A digest of the files and folders ``parts`` of ``folder``, taken once a run.

    Of what is not there, the empty one, and its stage complains.
    """
    seen = json.loads(MEMORY.read_text()) if MEMORY.exists() else {}
    files = (found for part in parts for found in _files(Path(folder, part)))
    digests = {path: _digest(path, status, seen) for path, status in files}
    if any(seen.get(path) != digest for path, digest in digests.items()):
        _remember({**seen, **digests})
    prefix = f"{Path(folder)}/"
    lines = (f"{path.removeprefix(prefix)} {digest[-1]}" for path, digest in sorted(digests.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _files(part: Path) -> Iterator[tuple[str, os.stat_result]]:
    if part.is_file():
        yield str(part), part.stat()
    elif part.is_dir():
        yield from _files_under(str(part))


def _files_under(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The files of a folder, without a `Path` for each: of a million, they alone would take half a minute."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_under(entry.path)
            elif entry.is_file():
                yield entry.path, entry.stat()


def _digest(path: str, status: os.stat_result, seen: dict[str, list[object]]) -> list[object]:
    """[size, date, sha256] of a file, read only if its size or date is new."""
    known = seen.get(path)
    if known and known[:2] == [status.st_size, status.st_mtime_ns]:
        return known
    with Path(path).open("rb") as file:
        return [status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]


def _remember(digests: dict[str, list[object]]) -> None:
    MEMORY.parent.mkdir(parents=True, exist_ok=True)
    temporary = MEMORY.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(digests))
    temporary.replace(MEMORY)
