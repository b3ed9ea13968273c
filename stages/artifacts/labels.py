"""What packs and embeddings say of labels that an evaluation or a method cannot use."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import UserError


def single(labels: NDArray[Any], classes: int, path: Path, dataset: str) -> NDArray[np.int64]:
    """The ``labels`` [N] of images of one of ``classes`` each.

    Raises:
        UserError: images have several classes each (int8 [N, C]), or some have none (-1).
    """
    if labels.ndim != 1:
        raise UserError(
            f"{path}: the images of {dataset} have several labels each, of {classes} classes; this needs one label an "
            "image: choose another dataset, or a method or evaluation that takes several, such as voc-classification"
        )
    if unlabelled := int((labels < 0).sum()):
        raise UserError(
            f"{path}: {unlabelled} of {len(labels)} images of {dataset} have no label; they serve to pretrain without "
            "labels and to distil: choose another dataset"
        )
    return labels.astype(np.int64, copy=False)
