"""How a dataset's images are varied in training, one module an augmentation, and how they are shown in evaluation."""

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from stages import plugins
from stages.errors import UserError, at_least


class Augmentation:
    """An augmentation at one image size. Images are RGB; normalisation is the encoder's own (`stages.architectures`).

    ``sample`` runs once per image and view where images are read, ``batch`` on the whole batch where the model is; both
    are told the view's number, for augmentations whose views differ;
    ``center`` is the one view without chance, for embeddings and evaluation. Chance is torch's global generator alone,
    which its callers seed by position: so a resumed run sees what an unbroken one would have seen. In ``batch``, where
    several processes train, it is drawn for the whole batch, of which each has its rows (`stages.processes`).
    """

    sample_is_random: bool
    transform: str

    smallest = 1
    """The least size that it works at."""

    def __init__(self, size: int) -> None:
        at_least(self.smallest, size=size)
        self.size = size

    def sample(self, image: Tensor, view: int = 0) -> Tensor:
        """A decoded image, uint8 [3, H, W], to a crop, uint8 [3, size, size]; a view may have a size of its own."""
        raise NotImplementedError

    def batch(self, images: Tensor, view: int = 0) -> Tensor:
        """Crops, float32 [B, 3, size, size] in 0..1, to augmented crops of the same shape and range."""
        return images

    def center(self, image: Tensor, interpolation: str = "bilinear") -> Tensor:
        """A decoded image, uint8 [3, H, W], to its evaluation view, uint8 [3, size, size]."""
        raise NotImplementedError


def squashed(image: Tensor, size: int, interpolation: str) -> Tensor:
    """All of an image, uint8 [3, H, W], whatever its shape, as a square of ``size``."""
    return F.resize(image, [size, size], interpolation=F.InterpolationMode(interpolation), antialias=True)


def flipped_by_chance(image: Tensor) -> Tensor:
    """The image or, with probability 1/2, its mirror image."""
    return F.horizontal_flip(image) if torch.rand(()) < 0.5 else image


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 to float32 0..1."""
    return images.to(torch.float32) / 255


def require_repeatable(name: str) -> None:
    """Refuse an augmentation that draws on whole batches: only without can a view of an image be had again.

    Its module's ``REPEATABLE`` says so.
    """
    if not _is_repeatable(name):
        known = ", ".join(filter(_is_repeatable, plugins.names(__name__)))
        raise UserError(f"{name} draws on whole batches, so no view of an image can be had again; expected {known}")


def _is_repeatable(name: str) -> bool:
    return getattr(plugins.module(__name__, "augmentation", name), "REPEATABLE", False)


def named(name: str, size: int) -> Augmentation:
    """The augmentation called ``name``, for images of ``size`` pixels."""
    module = plugins.module(__name__, "augmentation", name)
    return plugins.class_in(module, Augmentation)(size)
