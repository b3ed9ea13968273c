"""CUB-200-2011: 5,994 train and 5,794 val photos of 200 species of birds (Wah et al., 2011)."""

import dataclasses
from pathlib import Path
from typing import Annotated, TypeVar

from stages.datasets.archives import Archive, unpacked
from stages.datasets.encoded import split_of_files
from stages.datasets.layouts import require_entries
from stages.datasets.sources import Split
from stages.errors import UserError

T = TypeVar("T")

FOLDER = "CUB_200_2011"

IMAGES = (5_994, 5_794)

ARCHIVE = Archive(
    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz", md5="97eceeb196236b17998738112f37df78"
)

LISTS = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds CUB_200_2011/; empty: download"] = ""


def download(options: Options, downloads: Path) -> Path:
    return unpacked(downloads / "cub200", [ARCHIVE])


def read(options: Options, split: str) -> Split:
    """The split, the official test images as val, in the order of images.txt, their files as they are."""
    require_entries(Path(options.path), [f"{FOLDER}/{name}" for name in (*LISTS, "images")], ARCHIVE.url)
    root = Path(options.path) / FOLDER
    classes, images, labels, train = (_read(root / name) for name in LISTS)
    numbers = {number: index for index, number in enumerate(classes)}
    wanted = "1" if split == "train" else "0"
    labelled = []
    for image, file in images.items():
        if _of(train, image, root / LISTS[3]) == wanted:
            label = _of(labels, image, root / LISTS[2])
            labelled.append((str(root / "images" / file), _of(numbers, label, root / LISTS[0])))
    return split_of_files(classes.values(), labelled)


def _read(path: Path) -> dict[str, str]:
    """A file of lines of a number and what it stands for."""
    lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines, start=1):
        if len(line) != 2:
            raise UserError(f"{path}: line {number} is {' '.join(line)!r}; expected a number, a space and a value")
    return {number: value.strip() for number, value in lines}


def _of(table: dict[str, T], number: str, path: Path) -> T:
    if number not in table:
        raise UserError(f"{path}: has no line of number {number}; expected the file as it is in {ARCHIVE.url}")
    return table[number]
