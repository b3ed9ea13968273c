"""A folder of images, ``<path>/{train,val}/<class>/*``: the layout of torchvision's ImageFolder."""

import dataclasses
from pathlib import Path
from typing import Annotated

from stages.datasets.encoded import split_of_files
from stages.datasets.sources import Split
from stages.errors import UserError

FOLDER = ("train", "val")

EXTENSIONS = {".jpeg", ".jpg", ".png", ".webp"}


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds train/ and val/, each with one folder a class"]


def read(options: Options, split: str) -> Split:
    """The split's images in the order of their paths, their bytes as they are."""
    folder = Path(options.path) / split
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one folder a class in it")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    labelled = [(str(file), label) for label, name in enumerate(classes) for file in _images(folder / name)]
    return split_of_files(classes, labelled)


def _images(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
    if not files:
        raise UserError(f"{folder}: holds no image; expected files ending in {', '.join(sorted(EXTENSIONS))}")
    return files
