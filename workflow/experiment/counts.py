"""How many images a dataset has, as far as that is known before it is packed."""

import functools
import itertools
import math
import sys
from pathlib import Path

from experiment import content, source
from experiment.datasets import Dataset, image_endings


def images(dataset: Dataset, split: str, enough: int | None = None) -> int | None:
    """How many images a split is to have, those of a folder counted up to ``enough``; None where it is not known."""
    share = dataset.options[f"{split}_fraction"]
    if folder := split_folder(dataset, split):
        most = None if enough is None else min(sys.maxsize, math.ceil((enough + 1) / share))
        there = _images_in(folder.absolute(), most)
    else:
        there = said_images(dataset).get(split)
    return None if there is None else max(1, round(share * there))


def said_images(dataset: Dataset) -> dict[str, int]:
    """The images of each split that the source says it has; nothing of a folder."""
    module = source.plugin_module("stages.datasets.sources", dataset.source)
    said = tuple(source.by_option(source.literal(module, "IMAGES", ()), dataset.options))
    val = dataset.options.get("val_images")
    return dict(zip(("train", "val"), said if val is None else (sum(said) - val, val), strict=False))


def split_folder(dataset: Dataset, split: str) -> Path | None:
    """Where a folder has the images of a split, or is to have them; nothing of other sources."""
    return Path(dataset.options["path"], split) if dataset.source == "folder" else None


@functools.cache
def _images_in(folder: Path, enough: int | None) -> int | None:
    try:
        return sum(1 for _ in itertools.islice(content.files_under(str(folder), image_endings("folder")), enough))
    except OSError:  # It is not there, or may not be read, which its fingerprint will name.
        return None
