"""Datasets' archives: downloaded, held to their md5, and unpacked once."""

import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.downloads import fetch, wait_for_others
from stages.errors import UserError

logger = logging.getLogger("stages")


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file that unpacks into ``folder`` of its dataset's."""

    url: str
    md5: str
    folder: str = "."

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def unpacked(place: Path, archives: Sequence[Archive], renamed: Mapping[str, str] | None = None) -> Path:
    """The folder of what ``archives`` hold: ``<place>/unpacked``, which is there only when it is whole.

    The archives themselves are downloaded to ``place``, or were put there by hand, and are not kept once unpacked.
    ``renamed`` are entries of the folder, and what they are called from then on.
    """
    folder = place / "unpacked"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("ab") as lock:
        wait_for_others(lock)
        if not folder.is_dir():
            for archive in archives:
                _obtain(archive, place)
            _unpack(place, archives, renamed or {}, folder)
    return folder


def _obtain(archive: Archive, place: Path) -> None:
    path = place / archive.name
    fetch(archive.url, path, f"put it at {path}, or give the folder of the unpacked files as path")
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != archive.md5:
        raise UserError(
            f"{path}: not the file that {archive.url} was: its md5 is {md5}; expected {archive.md5}: delete it and run "
            "again for another copy"
        )


def _unpack(place: Path, archives: Sequence[Archive], renamed: Mapping[str, str], folder: Path) -> None:
    from torchvision.datasets.utils import extract_archive

    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for archive in archives:
            logger.info("unpacking %s", place / archive.name)
            (partial / archive.folder).mkdir(parents=True, exist_ok=True)
            extract_archive(str(place / archive.name), str(partial / archive.folder))
        for old, new in renamed.items():
            (partial / old).rename(partial / new)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for archive in archives:
        (place / archive.name).unlink()
