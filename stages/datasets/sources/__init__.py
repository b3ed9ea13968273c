"""Where a dataset's images come from: one module a source, each with ``Options`` and ``read(options, split)``.

A source that can be downloaded has an option ``path``, by default empty, and ``download(options, downloads)``: it
brings the files into the folder ``downloads`` and returns what to take as the ``path`` then. ``FOLDER`` is the part of
``path`` that the source reads, or the parts of which it reads those that are there, if not all of it; ``EXTENSIONS``
are how files in them end that it takes for images, hidden ones aside, if it looks at no others. ``IMAGES`` are about
how many train and val images there are, for the plan. A source whose images have several labels each says
``LABELS = "several"``. What an option decides is by the option's name and value: ``{"variant": {"small": ...}}``.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Images(Protocol):
    """Encoded images (PNG, JPEG, ...), each read when it is asked for, by any process: a list of bytes is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> bytes: ...


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
    """A split as its source gives it: class names, ``labels``, and N encoded images.

    ``labels`` are int64 [N], -1 of an image without one, or, of images with several classes each, int8 [N, C]: 1 of a
    class that is there, 0 of one that is not, -1 of one that is there but difficult. ``names`` are what to call the
    images when something is wrong with them, such as their paths; without, they are called by their number.
    """

    classes: tuple[str, ...]
    labels: "NDArray[np.int64] | NDArray[np.int8]"
    images: Images
    boxes: Boxes | None = None
    names: Sequence[str] | None = None
