"""Views of a packed split that are the same in every run, as torch datasets and in batches."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from stages.architectures import Encoder
from stages.datasets import augmentations
from stages.datasets.augmentations import Augmentation, to_float
from stages.datasets.packed import PackedImages
from stages.progress import track
from stages.training.position import seed_cpu_here, view_position


class CenterViews(Dataset[Tensor]):
    """Image i in its evaluation view, without chance, uint8 [3, size, size]; ``transform`` says how it was made."""

    def __init__(self, pack: PackedImages, augmentation: Augmentation, interpolation: str = "bilinear") -> None:
        self.pack, self.augmentation, self.interpolation = pack, augmentation, interpolation
        self.transform = f"{augmentation.transform} at {augmentation.size}, {interpolation}"

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, index: int) -> Tensor:
        return self.augmentation.center(self.pack.image(index), self.interpolation)


class NumberedViews(Dataset[Tensor]):
    """Image i in view ``number``, from 0 on, of the augmentation called ``name``, uint8 [3, size, size].

    Runs can show the same one to their students, at a size of their own (`stages.training.batches`).

    Raises:
        UserError: the augmentation is not repeatable.
    """

    def __init__(self, pack: PackedImages, name: str, size: int, number: int) -> None:
        augmentations.require_repeatable(name)
        self.pack, self.augmentation, self.number = pack, augmentations.named(name, size), number
        self.transform = numbered_transform(name, size, number)

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, index: int) -> Tensor:
        image = self.pack.image(index)
        seed_cpu_here(*view_position(self.number, index))
        return self.augmentation.sample(image)


def numbered_transform(name: str, size: int, number: int) -> str:
    """How a cache of `NumberedViews` was made."""
    return f"view {number} of {name} at {size}"


def is_numbered(transform: str) -> bool:
    """Whether a cache that was made so is of `NumberedViews`."""
    return transform.startswith("view ")


def in_batches(
    views: CenterViews | NumberedViews,
    encoder: Encoder,
    *,
    rows: range | None = None,
    batch_size: int,
    workers: int,
    title: str,
) -> Iterator[Tensor]:
    """Yield the images ``rows``, by default all, as ``encoder`` takes them: float32 [B, 3, size, size] in 0..1 on its
    device, in their order.
    """
    chosen: Dataset[Tensor] = views if rows is None else Subset(views, rows)
    loader = DataLoader(chosen, batch_size=batch_size, num_workers=workers, pin_memory=torch.cuda.is_available())
    for images in track(loader, title, total=len(loader), unit="batches"):
        yield to_float(images.to(encoder.mean.device, non_blocking=True))
