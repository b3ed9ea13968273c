"""STL-10: 5,000 train, 8,000 val and 100,000 unlabelled photos of 96 x 96 pixels, 10 classes (Coates, 2011)."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from stages.datasets.archives import Archive, unpacked
from stages.datasets.encoded import split_of_arrays
from stages.datasets.layouts import reading, require_entries
from stages.datasets.sources import Split

FOLDER = "stl10_binary"

IMAGES = {"train_images": {"train": (5_000, 8_000), "unlabeled": (100_000, 8_000), "train+unlabeled": (105_000, 8_000)}}

LABELS = {"train_images": {"train": "one", "unlabeled": "none", "train+unlabeled": "none for some"}}
"""A label that some images lack is of no use to an evaluation."""


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds stl10_binary/; empty: download"] = ""
    train_images: Annotated[
        Literal["train", "unlabeled", "train+unlabeled"],
        "those to train on; the unlabelled serve to pretrain and distil, not to evaluate",
    ] = "train"


def download(options: Options, downloads: Path) -> Path:
    from torchvision.datasets import STL10

    return unpacked(downloads / "stl10", [Archive(STL10.url, STL10.tgz_md5)])


def read(options: Options, split: str) -> Split:
    """The split, the official test images as val, in the class's order, as PNG files; label -1 of the unlabelled."""
    from torchvision.datasets import STL10

    folder = Path(options.path)
    files = [STL10.class_names_file, *(name for name, _ in (*STL10.train_list, *STL10.test_list))]
    require_entries(folder, [f"{FOLDER}/{name}" for name in files], STL10.url)
    with reading(folder / FOLDER, STL10.url):
        images = STL10(folder, split=options.train_images if split == "train" else "test")
    return split_of_arrays(images.classes, images.data.transpose(0, 2, 3, 1), images.labels)
