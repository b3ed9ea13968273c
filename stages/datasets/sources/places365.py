"""Places365-Standard: 1,803,460 train and 36,500 val photos of 365 kinds of places (Zhou et al., 2017)."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from stages.datasets.archives import Archive, unpacked
from stages.datasets.encoded import split_of_files
from stages.datasets.layouts import reading, require_entries
from stages.datasets.sources import Split

SPLITS = {"train": "train-standard", "val": "val"}

FOLDER = {
    "variant": {
        "small": (
            "categories_places365.txt",
            "places365_train_standard.txt",
            "places365_val.txt",
            "data_256_standard",
            "val_256",
        ),
        "large": (
            "categories_places365.txt",
            "places365_train_standard.txt",
            "places365_val.txt",
            "data_large_standard",
            "val_large",
        ),
    }
}

IMAGES = (1_803_460, 36_500)


@dataclasses.dataclass(frozen=True)
class Options:
    path: Annotated[str, "the folder that holds the lists and data_256_standard/, val_256/; empty: download"] = ""
    variant: Annotated[Literal["small", "large"], "small: 256 x 256 pixels; large: high resolution"] = "small"


def download(options: Options, downloads: Path) -> Path:
    from torchvision.datasets import Places365

    files = [Places365._DEVKIT_META["standard"]]
    files += [Places365._IMAGES_META[split, options.variant == "small"] for split in SPLITS.values()]
    # The archive of the train images says neither standard nor challenge, and torchvision reads both from one folder.
    train = f"data_{_size(options)}"
    return unpacked(
        downloads / f"places365-{options.variant}",
        [Archive(f"{Places365._BASE_URL}{name}", md5) for name, md5 in files],
        renamed={train: f"{train}_standard"},
    )


def read(options: Options, split: str) -> Split:
    """The split in the class's order, its files as they are."""
    from torchvision.datasets import Places365

    folder, size, url = Path(options.path), _size(options), Places365._BASE_URL
    lists = [Places365._CATEGORIES_META[0], *(Places365._FILE_LIST_META[name][0] for name in SPLITS.values())]
    require_entries(folder, [*lists, f"data_{size}_standard", f"val_{size}"], url)
    with reading(folder, url):
        images = Places365(folder, split=SPLITS[split], small=options.variant == "small")
    classes = sorted(images.class_to_idx, key=images.class_to_idx.__getitem__)
    return split_of_files(classes, images.imgs)


def _size(options: Options) -> str:
    return "256" if options.variant == "small" else "large"
