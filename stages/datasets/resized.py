"""Splits whose large images are made small before they are packed, as training at 224 pixels needs no more of them."""

import dataclasses
import io

from stages.datasets.decoding import UndecodableError, decoded
from stages.datasets.sources import Images, Split
from stages.errors import UserError

QUALITY = 90
"""Of the new JPEGs, on Pillow's scale of 1 to 95; colour has half the resolution, as in most photos."""


@dataclasses.dataclass(frozen=True)
class Resized:
    """The ``images``, those with a longer short side brought to ``short_side`` pixels, the others as they are."""

    images: Images
    short_side: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> bytes:
        return _resized(self.images[index], self.short_side)


def resized(split: Split, short_side: int, what: str) -> Split:
    """The split, called ``what``, with its images at ``short_side`` pixels.

    Raises:
        UserError: the images have boxes, whose corners are in pixels.
    """
    if split.boxes:
        raise UserError(
            f"{what}: it has boxes, in pixels; expected a short_side of 0, which leaves the images as they are"
        )
    return dataclasses.replace(split, images=Resized(split.images, short_side))


def _resized(encoded: bytes, short_side: int) -> bytes:
    """As torchvision's ``Resize(short_side)`` makes it of a Pillow image, in JPEG; what does not decode, unchanged."""
    from PIL import Image

    try:
        image = decoded(encoded)
    except UndecodableError:
        return encoded  # the packing finds and names it
    shorter = min(image.size)
    if shorter <= short_side:
        return encoded
    width, height = (short_side * side // shorter for side in image.size)
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.BILINEAR).save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
