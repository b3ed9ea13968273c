"""CIFAR-10: 50,000 train and 10,000 val photos of 32 x 32 pixels, of 10 classes (Krizhevsky, 2009)."""

import dataclasses
from pathlib import Path
from typing import Annotated

from stages.datasets import cifar
from stages.datasets.sources import Split

FOLDER = "cifar-10-batches-py"

IMAGES = (50_000, 10_000)


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds cifar-10-batches-py/; empty: download"] = ""


def download(options: Options, downloads: Path) -> Path:
    from torchvision.datasets import CIFAR10

    return cifar.download(CIFAR10, downloads / "cifar10")


def read(options: Options, split: str) -> Split:
    from torchvision.datasets import CIFAR10

    return cifar.read(CIFAR10, Path(options.path), split)
