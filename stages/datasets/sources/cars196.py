"""Cars196 (Stanford Cars): 8,144 train and 8,041 val photos of 196 models of cars (Krause et al., 2013)."""

import dataclasses
from pathlib import Path
from typing import Annotated

from stages.datasets.encoded import split_of_files
from stages.datasets.layouts import reading, require_entries
from stages.datasets.sources import Split

FOLDER = "stanford_cars"

IMAGES = (8_144, 8_041)

ENTRIES = (
    "devkit/cars_meta.mat",
    "devkit/cars_train_annos.mat",
    "cars_test_annos_withlabels.mat",
    "cars_train",
    "cars_test",
)

WHENCE = "Stanford Cars, which its authors offer no more (https://github.com/pytorch/vision/issues/7545 names copies)"


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds stanford_cars/; its authors offer no download any more"]


def read(options: Options, split: str) -> Split:
    """The split, the official test images as val, in the class's order, their files as they are."""
    from torchvision.datasets import StanfordCars

    folder = Path(options.path)
    require_entries(folder, [f"{FOLDER}/{entry}" for entry in ENTRIES], WHENCE)
    with reading(folder / FOLDER, WHENCE):
        images = StanfordCars(folder, split="train" if split == "train" else "test")
    return split_of_files(images.classes, [(path, int(label)) for path, label in images._samples])
