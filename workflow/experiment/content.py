"""The fingerprint of a folder of the user's own: names and bytes count, dates do not.

Bytes are read once: a file of the size and date that were seen before is known by the digest that was taken then, and
a folder whose files all are, by the fingerprint.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

from experiment.atomic import write_text
from experiment.errors import ConfigError

MEMORY = Path(".snakemake") / "distillery" / "content"

File = tuple[str, int, int]
"""The path of a file, its size in bytes, and its date in nanoseconds."""


@functools.cache
def fingerprint(folder: str, parts: tuple[str, ...], endings: tuple[str, ...]) -> str:
    """A digest of the files and folders ``parts`` of ``folder``, taken once a run.

    Of what is not there, the empty one: `require` refuses it before a job reads it. With ``endings``, files in folders
    count as `files_under` has them.

    Raises:
        ConfigError: a folder or a file of it may not be read.
    """
    try:
        return _fingerprint(folder, parts, endings)
    except PermissionError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; give yourself access, or take it away") from error


def _fingerprint(folder: str, parts: tuple[str, ...], endings: tuple[str, ...]) -> str:
    memory = MEMORY / f"{_digest([json.dumps([folder, *parts, *endings])])}.jsonl"
    seen = _recall(memory)
    seen_state, seen_fingerprint = next(seen, ("", ""))
    if _state(_files(folder, parts, endings)) == seen_state:
        return str(seen_fingerprint)
    digests = _digests(_files(folder, parts, endings), next(seen, {}))
    prefix = f"{Path(folder)}/"
    found = _digest(f"{path.removeprefix(prefix)} {sha256}" for path, (*_, sha256) in sorted(digests.items()))
    _remember(memory, [_state((path, size, date) for path, (size, date, _) in digests.items()), found], digests)
    return found


def require(where: str, folder: str, parts: tuple[str, ...]) -> None:
    """
    Raises:
        ConfigError: the folder is not there, as when its disk is not mounted, or has none of the parts that are read.
    """
    if not Path(folder).is_dir():
        raise ConfigError(f"{where}: no such folder {folder}; mount it or correct the path")
    if not any(Path(folder, part).exists() for part in parts):
        raise ConfigError(f"{where}: {folder} has no {' or '.join(parts)}; mount it or correct the path")


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _files(folder: str, parts: Iterable[str], endings: tuple[str, ...]) -> Iterator[File]:
    for part in parts:
        path = Path(folder, part)
        if path.is_file():
            yield str(path), path.stat().st_size, path.stat().st_mtime_ns
        elif path.is_dir():
            for entry in files_under(str(path), endings):
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns


def files_under(
    folder: str, endings: tuple[str, ...], above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator["os.DirEntry[str]"]:
    """The files of a folder and of those below, by their names; links count as what they lead to.

    With ``endings``, in small letters, those that end so, in whatever letters, and nothing that is hidden. What a link
    leads to that is not there, or that it lies in, is left out. There is no `Path` for each file: of a million, they
    alone would take half a minute.
    """
    status = Path(folder).stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=attrgetter("name"))
    for entry in ordered:
        if endings and entry.name.startswith("."):
            continue
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link that leads to itself
            continue
        if is_folder:
            yield from files_under(entry.path, endings, above | {here})
        elif entry.is_file() and (not endings or entry.name.lower().endswith(endings)):
            yield entry


def _state(files: Iterable[File]) -> str:
    """What tells whether any file may have changed; of a million, no more than a folder of them is held at once."""
    state = hashlib.sha256()
    for path, size, date in files:
        state.update(f"{path}\0{size} {date}\n".encode(errors="surrogateescape"))
    return state.hexdigest()


def _digests(files: Iterable[File], seen: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """[size, date, sha256] of each file, read only if its size or date is new."""
    digests = {}
    for path, size, date in files:
        known = seen.get(path)
        digests[path] = known if known and known[:2] == [size, date] else [size, date, _sha256(path)]
    return digests


def _sha256(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recall(memory: Path) -> Iterator[Any]:
    """What was remembered, a line when it is asked for: [state, fingerprint], then the digests by path."""
    if memory.exists():
        with memory.open() as file:
            yield from map(json.loads, file)


def _remember(memory: Path, *lines: Any) -> None:
    write_text(memory, "".join(f"{json.dumps(line)}\n" for line in lines))
