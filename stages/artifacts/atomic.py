"""Files that exist only when they are whole."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from stages.errors import UserError


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; it becomes ``path`` if the block ends well and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = partial_of(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def partial_of(path: Path) -> Path:
    """What ``path`` is called until it is whole; a program that is killed leaves it behind."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def atomic_with_digest(path: Path) -> Iterator[Path]:
    """Like `atomic`, and leave the content's sha256 in ``<path>.sha256`` (as ``sha256sum`` writes it).

    The digest is what the workflow compares: a large file's date says nothing about its content.
    """
    sidecar = _sidecar(path)
    with atomic(path) as temporary:
        yield temporary
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        # Killed from here on, there is no digest rather than that of the file before this one.
        sidecar.unlink(missing_ok=True)
    write_text(sidecar, f"{digest}  {path.name}\n")


def digest_beside(path: Path) -> str:
    """The digest that `atomic_with_digest` left beside ``path``; without one, an error."""
    sidecar = _sidecar(path)
    if not sidecar.exists():
        raise UserError(f"{sidecar}: is missing, {path.name} was not written to its end; run the stage again")
    return sidecar.read_text().split()[0]


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole."""
    with atomic(path) as temporary:
        temporary.write_text(text)
