"""Fashion-MNIST: 60,000 train and 10,000 val grey pictures of 28 x 28 pixels, of 10 clothes (Xiao et al., 2017)."""

import dataclasses
from pathlib import Path
from typing import Annotated

from stages.datasets.archives import Archive, unpacked
from stages.datasets.encoded import split_of_arrays
from stages.datasets.layouts import reading, require_entries
from stages.datasets.sources import Split

FOLDER = "FashionMNIST/raw"

IMAGES = (60_000, 10_000)


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds FashionMNIST/raw/, unzipped; empty: download"] = ""


def download(options: Options, downloads: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    server = FashionMNIST.mirrors[0]
    archives = [Archive(f"{server}{name}", md5, FOLDER) for name, md5 in FashionMNIST.resources]
    return unpacked(downloads / "fashion-mnist", archives)


def read(options: Options, split: str) -> Split:
    """The split, the official test images as val, in the class's order, as grey PNG files."""
    from torchvision.datasets import FashionMNIST

    folder = Path(options.path)
    require_entries(
        folder, [f"{FOLDER}/{Path(name).stem}" for name, _ in FashionMNIST.resources], FashionMNIST.mirrors[0]
    )
    with reading(folder / FOLDER, FashionMNIST.mirrors[0]):
        images = FashionMNIST(folder, train=split == "train")
    return split_of_arrays(images.classes, images.data.numpy(), images.targets.tolist())
