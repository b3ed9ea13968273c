"""Images decoded, and told whether they can be: by Pillow, and JPEGs' pixels by torchvision, which is quicker."""

import functools
import io
import itertools
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from stages.command_line import leave_termination_to_the_run
from stages.datasets.sources import Images

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor
    from torch.utils.data import Dataset

LOT = 16
"""How many images a process reads and passes on together."""

JPEG = b"\xff\xd8\xff"
"""How a JPEG file begins."""


class UndecodableError(Exception):
    """Why some bytes are no image."""


def decoded(encoded: bytes) -> "Image.Image":
    """The image, RGB of 8 bits, whatever its file's mode.

    Raises:
        UndecodableError: the bytes are no image, or not all of one.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(encoded)) as file:
            return _eight_bit(file).convert("RGB")
    except UnidentifiedImageError as error:
        raise UndecodableError("not an image of a known format" if encoded else "empty") from error
    except MemoryError:
        raise
    # Pillow's readers, one for each format, raise errors of any kind when they stumble over damaged data.
    except Exception as error:
        raise UndecodableError(" ".join(str(error).split()) or type(error).__name__) from error


def pixels(encoded: NDArray[np.uint8]) -> "Tensor":
    """The image of `decoded`, uint8 [3, H, W]; in memory [H, W, 3], from which crops are resized fastest.

    Raises:
        UndecodableError: the bytes are no image, or not all of one.
    """
    import torch

    image = _jpeg_pixels(encoded)
    return torch.from_numpy(np.array(decoded(encoded.tobytes()))).permute(2, 0, 1) if image is None else image


def _jpeg_pixels(encoded: NDArray[np.uint8]) -> "Tensor | None":
    """The same pixels by torchvision, if it is a JPEG in colour or grey: Pillow has its own way from CMYK to RGB.

    Both use libjpeg-turbo. torchvision's decoder is deprecated for torchcodec's, which takes and gives the same.
    """
    import torch
    from torchvision.io import decode_jpeg

    if encoded[: len(JPEG)].tobytes() != JPEG:
        return None
    try:
        image = decode_jpeg(torch.from_numpy(encoded))
    except RuntimeError:  # What is wrong with it, Pillow says.
        return None
    if len(image) == 1:
        # Not expanded: three channels in the memory of one cannot be copied to page-locked memory.
        return image.permute(1, 2, 0).repeat(1, 1, 3).permute(2, 0, 1)
    return image if len(image) == 3 else None


def _eight_bit(image: "Image.Image") -> "Image.Image":
    """Pillow would clip the values of a grey image of 16 bits, not scale them.

    Those of 32 bits, which TIFF has, are in no range that is known.
    """
    from PIL import Image

    if image.mode in ("I", "F"):
        raise UndecodableError("its pixels have 32 bits; expected 8 or 16")
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode.startswith("I;16") else image


def checked(images: Images, workers: int) -> Iterator[tuple[bytes, str]]:
    """All images in order, each with why it does not decode, or nothing.

    They are read and decoded once, by ``workers`` processes ahead of time, or by this one.
    """
    from torch.utils.data import DataLoader

    lots: DataLoader[Any] = DataLoader(
        cast("Dataset[int]", range(len(images))),
        batch_size=LOT,
        num_workers=workers,
        collate_fn=functools.partial(_check, images),
        worker_init_fn=_begin,
    )
    for found in itertools.chain.from_iterable(lots):
        if isinstance(found, OSError):
            raise found
        yield found


def _begin(worker: int) -> None:
    leave_termination_to_the_run()
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    """A run that is killed tells nobody: a process that has images to hand over would wait for it for ever."""
    if run := multiprocessing.parent_process():
        run.join()
        os._exit(1)


def _check(images: Images, rows: Sequence[int]) -> list[tuple[bytes, str] | OSError]:
    return [_look_at(images, row) for row in rows]


def _look_at(images: Images, row: int) -> tuple[bytes, str] | OSError:
    """An error is handed over, not raised: on its way from a process it would lose the file's name."""
    try:
        image = images[row]
    except OSError as error:
        return error
    return image, _fault(image)


def _fault(encoded: bytes) -> str:
    try:
        decoded(encoded)
    except UndecodableError as error:
        return str(error)
    return ""
