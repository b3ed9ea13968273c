"""CIFAR-10 and CIFAR-100, which torchvision reads the same way."""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.datasets.archives import Archive, unpacked
from stages.datasets.encoded import split_of_arrays
from stages.datasets.layouts import reading, require_entries
from stages.datasets.sources import Split

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10


def download(dataset: "type[CIFAR10]", place: Path) -> Path:
    return unpacked(place, [Archive(dataset.url, dataset.tgz_md5)])


def read(dataset: "type[CIFAR10]", folder: Path, split: str) -> Split:
    """The split, the official test images as val, in the class's order, as PNG files of 32 x 32 pixels."""
    files = [name for name, _ in (*dataset.train_list, *dataset.test_list)]
    require_entries(
        folder, [f"{dataset.base_folder}/{name}" for name in (*files, dataset.meta["filename"])], dataset.url
    )
    with reading(folder / dataset.base_folder, dataset.url):
        images = dataset(folder, train=split == "train")
    return split_of_arrays(images.classes, images.data, images.targets)
