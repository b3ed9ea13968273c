"""A folder of images, ``<path>/{train,val}/<class>/*``: the layout of torchvision's ImageFolder."""

import dataclasses
from pathlib import Path
from typing import Annotated

from stages.datasets.sources import Split
from stages.errors import UserError

EXTENSIONS = {".jpeg", ".jpg", ".png", ".webp"}


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds train/ and val/, each with one folder a class"]


def read(options: Options, split: str) -> Split:
    """The split's images in the order of their paths, their bytes as they are."""
    import numpy as np

    root = Path(options.path)
    classes = _classes(root / "train")
    if (found := _classes(root / split)) != classes:
        odd = sorted(set(found) ^ set(classes))[0]
        raise UserError(
            f"{root / split}: its classes are not those of {root / 'train'}: {odd!r} is in one of them only"
        )
    files = [(file, label) for label, name in enumerate(classes) for file in _images(root / split / name)]
    return Split(
        classes=tuple(classes),
        labels=np.array([label for _, label in files], dtype=np.int64),
        sizes=np.array([file.stat().st_size for file, _ in files]),
        images=(file.read_bytes() for file, _ in files),
    )


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one folder a class in it")
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def _images(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
    if not files:
        raise UserError(f"{folder}: holds no image; expected files ending in {', '.join(sorted(EXTENSIONS))}")
    return files
