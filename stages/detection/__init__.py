"""Object detection on packs with boxes: the detector around an encoder, its images, and what it finds scored."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Detections:
    """What was found in a split's images: ``images`` int64 [M] are their places in the split.

    ``corners`` float32 [M, 4] and ``classes`` int64 [M] are as in `stages.datasets.sources.Boxes`; ``scores`` float32
    [M], of which the highest is surest.
    """

    images: "NDArray[np.int64]"
    corners: "NDArray[np.float32]"
    classes: "NDArray[np.int64]"
    scores: "NDArray[np.float32]"
