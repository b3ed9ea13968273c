"""Where a dataset's images come from: one module a source, each with ``Options`` and ``read(options, split)``.

A source whose images have several labels each says ``LABELS = "several"``.
"""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Boxes:
    """The objects of N images, for detection: image i's are the rows ``offsets[i]`` to ``offsets[i + 1]``.

    ``corners`` float32 [M, 4] are x1, y1, x2, y2 in pixels from the image's upper left corner, x2 and y2 beyond the
    object; ``classes`` int64 [M]; ``difficult`` bool [M], those that count neither for nor against a detector.
    """

    offsets: "NDArray[np.int64]"
    corners: "NDArray[np.float32]"
    classes: "NDArray[np.int64]"
    difficult: "NDArray[np.bool_]"


@dataclasses.dataclass(frozen=True)
class Split:
    """A split as its source gives it: class names, ``labels``, and N encoded images (PNG, JPEG, ...).

    ``labels`` are int64 [N] or, of images with several classes each, int8 [N, C]: 1 of a class that is there, 0 of one
    that is not, -1 of one that is there but difficult. ``sizes`` int64 [N] are the images' lengths in bytes, so that a
    packed file is laid out before it is filled.
    """

    classes: tuple[str, ...]
    labels: "NDArray[np.int64] | NDArray[np.int8]"
    sizes: "NDArray[np.int64]"
    images: Iterator[bytes]
    boxes: Boxes | None = None
