"""Detections against the boxes that are there: average precision by PASCAL VOC's rules and by COCO's."""

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.average_precision import Curve, curve
from stages.datasets.sources import Boxes
from stages.detection import Detections

OVERLAP = 0.5
"""The intersection over union from which a detection has found an object, in VOC."""


def voc_curve(found: Detections, truth: Boxes, kind: int) -> Curve:
    """VOC's curve of the class ``kind``, of which at least one object in ``truth`` has to be clear.

    From the surest on, each detection goes to the object of its class and image that it overlaps most. By half or more,
    it is right if it is the first to find it, and wrong if not; neither, if the object is difficult.
    """
    objects = _by_image(truth, kind)
    rows = np.flatnonzero(found.classes == kind)
    rows = rows[np.argsort(-found.scores[rows], kind="stable")]
    claimed: set[int] = set()
    right, counted = np.zeros(len(rows), dtype=np.bool_), np.ones(len(rows), dtype=np.bool_)
    for place, row in enumerate(rows):
        candidates = objects.get(int(found.images[row]))
        if candidates is None:
            continue
        overlaps = overlap(found.corners[row], truth.corners[candidates])
        best = int(candidates[np.argmax(overlaps)])
        if overlaps.max() >= OVERLAP:
            counted[place] = not truth.difficult[best]
            right[place] = best not in claimed
            claimed.add(best)
    return curve(found.scores[rows][counted], right[counted], clear(truth, kind))


def clear(boxes: Boxes, kind: int) -> int:
    """How many objects of the class ``kind`` are not difficult."""
    return int(np.count_nonzero((boxes.classes == kind) & ~boxes.difficult))


def overlap(corners: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """The intersection over union of a box [4] with each of ``others`` [M, 4]."""
    box, boxes = corners.astype(np.float64), others.astype(np.float64)
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared)


def coco_scores(found: Detections, truth: Boxes, kinds: Sequence[int]) -> dict[str, float]:
    """COCO's AP, over overlaps from 0.5 to 0.95, and that at 0.5 and at 0.75, as means over the classes ``kinds``.

    Difficult objects are COCO's crowds: what is within them counts neither for nor against a detector.
    """
    if not len(found.scores):
        return dict.fromkeys(("ap", "ap50", "ap75"), 0.0)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # pycocotools reports to stdout, and takes a match with the object 0 for none.
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = {
            "images": [{"id": image} for image in range(len(truth.offsets) - 1)],
            "categories": [{"id": kind} for kind in kinds],
            "annotations": [
                {**each, "id": row + 1, "iscrowd": int(truth.difficult[row])}
                for row, each in enumerate(_entries(_images(truth), truth.corners, truth.classes))
            ],
        }
        objects.createIndex()
        answers = _entries(found.images, found.corners, found.classes)
        scored = [{**each, "score": float(score)} for each, score in zip(answers, found.scores, strict=True)]
        evaluation = COCOeval(objects, objects.loadRes(scored), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("ap", "ap50", "ap75"), map(float, evaluation.stats), strict=False))


def _entries(
    images: NDArray[np.int64], corners: NDArray[np.float32], classes: NDArray[np.int64]
) -> list[Mapping[str, object]]:
    """Boxes as COCO writes them: corner, width and height."""
    sized = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    return [
        {"image_id": int(image), "category_id": int(kind), "bbox": [x, y, width, height], "area": width * height}
        for image, kind, (x, y, width, height) in zip(images, classes, sized.tolist(), strict=True)
    ]


def _images(boxes: Boxes) -> NDArray[np.int64]:
    """Each object's image."""
    return np.repeat(np.arange(len(boxes.offsets) - 1), np.diff(boxes.offsets))


def _by_image(boxes: Boxes, kind: int) -> dict[int, NDArray[np.int64]]:
    """The objects of the class ``kind``, by their image."""
    rows = np.flatnonzero(boxes.classes == kind)
    images = _images(boxes)[rows]
    return {int(image): rows[images == image] for image in np.unique(images)}
