"""Splits of images that lie in files, and of images that come as arrays; neither is held in memory encoded."""

import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.datasets.sources import Split


@dataclasses.dataclass(frozen=True)
class Files:
    """Images as the bytes of files."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> bytes:
        return Path(self.paths[index]).read_bytes()


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Images as PNG, without loss, of the ``pixels`` uint8 [N, H, W] or [N, H, W, 3]."""

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(self.pixels[index])).save(buffer, format="PNG")
        return buffer.getvalue()


def split_of_files(classes: Iterable[str], labelled: Sequence[tuple[str, int]]) -> Split:
    """The split of the files ``(path, label)``, called by their paths."""
    paths = [path for path, _ in labelled]
    return Split(
        classes=tuple(classes),
        labels=np.array([label for _, label in labelled], dtype=np.int64),
        images=Files(paths),
        names=paths,
    )


def split_of_arrays(classes: Iterable[str], pixels: NDArray[np.uint8], labels: Iterable[int]) -> Split:
    """The split of the images ``pixels``, uint8 [N, H, W] or [N, H, W, 3]."""
    return Split(classes=tuple(classes), labels=np.array(list(labels), dtype=np.int64), images=Arrays(pixels))
