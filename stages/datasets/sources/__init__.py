"""Where a dataset's images come from: one module a source, each with ``Options`` and ``read(options, split)``."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Split:
    """A split as its source gives it: class names, ``labels`` int64 [N], and N encoded images (PNG, JPEG, ...).

    ``sizes`` int64 [N] are the images' lengths in bytes, so that a packed file is laid out before it is filled.
    """

    classes: tuple[str, ...]
    labels: "NDArray[np.int64]"
    sizes: "NDArray[np.int64]"
    images: Iterator[bytes]
