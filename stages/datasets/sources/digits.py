"""scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels, shipped with the package."""

import dataclasses
from typing import Annotated

from stages.datasets.encoded import split_of_arrays
from stages.datasets.sources import Split
from stages.errors import UserError, seeds

IMAGES = (1_347, 450)


@dataclasses.dataclass(frozen=True)
class Options:
    val_images: Annotated[int, "images of the stratified val split; the others are the train split"] = 450
    split_seed: Annotated[int, "seed of the split"] = 0

    def __post_init__(self) -> None:
        seeds(split_seed=self.split_seed)


def read(options: Options, split: str) -> Split:
    """The ``train`` or ``val`` part of a fixed stratified split, as grey-scale PNG files."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    classes, images = len(digits.target_names), len(digits.target)
    if not classes <= options.val_images <= images - classes:
        raise UserError(f"--val-images is {options.val_images}; expected {classes} to {images - classes}")
    train, val = train_test_split(
        np.arange(len(digits.target)),
        test_size=options.val_images,
        stratify=digits.target,
        random_state=options.split_seed,
    )
    rows = train if split == "train" else val
    pixels = np.rint(digits.images[rows] * 255 / 16).astype(np.uint8)
    return split_of_arrays(map(str, digits.target_names), pixels, digits.target[rows])
