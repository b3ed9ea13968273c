"""A folder of images, ``<path>/{train,val}/<class>/*``: the layout of torchvision's ImageFolder."""

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Annotated

from stages.datasets.encoded import split_of_files
from stages.datasets.sources import Split
from stages.errors import UserError

logger = logging.getLogger("stages")

FOLDER = ("train", "val")

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds train/ and val/, each with one folder a class"]


def read(options: Options, split: str) -> Split:
    """The split's images in the order of their paths, their bytes as they are; links count as what they lead to.

    What is hidden does not count. Images of a class that is alone have no label, -1: it would tell them from nothing.
    """
    folder = Path(options.path) / split
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one folder a class in it")
    entries = _entries(str(folder))
    classes = [entry.name for entry in entries if entry.is_dir()]
    if not classes:
        raise UserError(
            f"{folder}: no class folder in it; expected one for each class, or one for all images if they have no "
            f"labels, such as {folder / 'all'}/"
        )
    if odd := [name for name in classes if name.encode(errors="ignore").decode() != name]:
        raise UserError(f"{folder}/{os.fsencode(odd[0])!r}: a class whose name is not UTF-8; rename its folder")
    if beside := [entry.path for entry in entries if not entry.is_dir() and _is_named_as_image(entry)]:
        more = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
        raise UserError(f"{beside[0]}{more}: not in a class folder; move them into one, or out of {folder}")
    others: Counter[str] = Counter()
    first = 0 if len(classes) > 1 else -1
    labelled = [(file, label) for label, name in enumerate(classes, first) for file in _images(folder / name, others)]
    if others:
        counts = ", ".join(f"{count} of {ending or 'no ending'}" for ending, count in others.most_common())
        logger.warning("%s: files whose names are not those of images are left out: %s", folder, counts)
    return split_of_files(classes, labelled)


def _images(folder: Path, others: Counter[str]) -> list[str]:
    files = list(_files(str(folder), others))
    if not files:
        raise UserError(f"{folder}: holds no image; expected files ending in {', '.join(sorted(EXTENSIONS))}")
    return files


def _files(folder: str, others: Counter[str], above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """The images in a folder and in those below; of the other files, ``others`` gets how many have which ending."""
    status = Path(folder).stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise UserError(f"{folder}: a link to a folder that it lies in, so that its images have no end; remove it")
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _files(entry.path, others, above | {here})
        elif _is_named_as_image(entry) and entry.is_file():
            yield entry.path
        else:
            others[Path(entry.name).suffix.lower()] += 1


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    """What is in a folder and not hidden, by name.

    A link that leads nowhere is an error: it may have been an image, or a whole class.
    """
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=attrgetter("name"))
    for entry in entries:
        if entry.is_symlink():
            try:
                entry.stat()
            except OSError as error:
                raise UserError(
                    f"{entry.path}: a link to {Path(entry.path).readlink()} that leads nowhere ({error.strerror}); "
                    "mend or remove it or, if only the container does not see its target, bind that by apptainer-args"
                ) from None
    return entries


def _is_named_as_image(entry: "os.DirEntry[str]") -> bool:
    return entry.name.lower().endswith(EXTENSIONS)
