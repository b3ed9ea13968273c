"""Imagenette: 9,469 train and 3,925 val photos of 10 easily told classes of ImageNet (fastai, version 2)."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from stages.datasets.archives import Archive, unpacked
from stages.datasets.encoded import split_of_files
from stages.datasets.layouts import reading, require_entries
from stages.datasets.sources import Split

FOLDER = {"variant": {"full": "imagenette2", "320px": "imagenette2-320", "160px": "imagenette2-160"}}

IMAGES = (9_469, 3_925)


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds imagenette2/ or, of a variant, imagenette2-320/; empty: download"] = ""
    variant: Annotated[Literal["full", "320px", "160px"], "the photos' shorter side; full: as in ImageNet"] = "full"


def download(options: Options, downloads: Path) -> Path:
    from torchvision.datasets import Imagenette

    url, md5 = Imagenette._ARCHIVES[options.variant]
    return unpacked(downloads / f"imagenette-{options.variant}", [Archive(url, md5)])


def read(options: Options, split: str) -> Split:
    """The split in the class's order, its files as they are."""
    from torchvision.datasets import Imagenette

    folder = Path(options.path)
    url, _ = Imagenette._ARCHIVES[options.variant]
    require_entries(folder, [f"{Path(url).stem}/{part}" for part in ("train", "val")], url)
    with reading(folder / Path(url).stem / split, url):
        images = Imagenette(folder, split=split, size=options.variant)
    return split_of_files([names[0] for names in images.classes], images._samples)
