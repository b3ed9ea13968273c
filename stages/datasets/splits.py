"""A dataset's splits before they are packed: held against each other, and drawn from."""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stages.datasets.sources import Boxes, Images, Split
from stages.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rows:
    """Some of the ``images``."""

    images: Images
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> bytes:
        return self.images[int(self.rows[index])]


def require_same_classes(splits: Mapping[str, Split], name: str) -> None:
    """Raise the error for a class that only some of the ``splits`` know or have images of."""
    for (lacking, split), (having, other) in itertools.permutations(splits.items(), 2):
        if odd := sorted({*other.classes} - {*split.classes}):
            raise UserError(
                f"dataset {name}: its {lacking} split has no class {odd[0]!r}, which its {having} split has; expected "
                "the same classes in both"
            )
    for split_name, split in splits.items():
        _require_labels(split, f"dataset {name}: its {split_name} split")
        if empty := without_image(split):
            raise UserError(
                f"dataset {name}: its {split_name} split has no image of the class {empty[0]!r}; expected some of "
                f"each of its {len(split.classes)} classes"
            )


def _require_labels(split: Split, what: str) -> None:
    """Raise the error for labels that are not one an image, or of no class."""
    if len(split.labels) != len(split.images):
        raise UserError(f"{what} has {len(split.images)} images and {len(split.labels)} labels; expected as many")
    if split.labels.ndim == 1 and len(split.labels):
        lowest, highest, last = int(split.labels.min()), int(split.labels.max()), len(split.classes) - 1
        if lowest < -1 or highest > last:
            raise UserError(f"{what} has labels from {lowest} to {highest}; expected 0 to {last}, or -1 for none")


def without_image(split: Split) -> list[str]:
    """The classes that no image of the split has; of a split without any labels, none."""
    if split.labels.ndim > 1 or not (split.labels >= 0).any():
        return []
    counts = np.bincount(split.labels[split.labels >= 0], minlength=len(split.classes))
    return [split.classes[label] for label in np.flatnonzero(counts == 0)]


def drawn(split: Split, share: float, seed: int) -> Split:
    """A random ``share`` of the images, in the order of the split, at least one; a smaller share is part of a larger.

    Classes are drawn as they come, as in CompRess's ablations (section 4.5: "25% of ImageNet (randomly sampled ...)").
    """
    if share == 1:
        return split
    images = len(split.labels)
    order = np.random.default_rng(seed).permutation(images)
    return subset(split, np.sort(order[: max(1, round(share * images))]))


def subset(split: Split, rows: NDArray[np.int64]) -> Split:
    """The images ``rows`` [n] of the split, with all that is known of them."""
    return Split(
        classes=split.classes,
        labels=split.labels[rows],
        images=Rows(split.images, rows),
        boxes=_boxes(split.boxes, rows) if split.boxes else None,
        names=[split.names[row] for row in rows] if split.names else None,
    )


def _boxes(boxes: Boxes, rows: NDArray[np.int64]) -> Boxes:
    counts = np.diff(boxes.offsets)[rows]
    objects = np.concatenate(
        [np.arange(0), *(np.arange(boxes.offsets[row], boxes.offsets[row + 1]) for row in rows)]
    ).astype(np.int64)
    return Boxes(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        corners=boxes.corners[objects],
        classes=boxes.classes[objects],
        difficult=boxes.difficult[objects],
    )
