"""The evaluation views of a packed split, as a torch dataset and in batches."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from stages.architectures import Encoder
from stages.datasets.augmentations import Augmentation, to_float
from stages.datasets.packed import PackedImages
from stages.progress import track


class CenterViews(Dataset[Tensor]):
    """Image i in its view without chance, uint8 [3, size, size]."""

    def __init__(self, pack: PackedImages, augmentation: Augmentation, interpolation: str = "bilinear") -> None:
        self.pack, self.augmentation, self.interpolation = pack, augmentation, interpolation

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, index: int) -> Tensor:
        return self.augmentation.center(self.pack.image(index), self.interpolation)


def center_views(
    pack: PackedImages,
    augmentation: Augmentation,
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
    views: Dataset[Tensor] = CenterViews(pack, augmentation, encoder.contract.interpolation)
    views = views if rows is None else Subset(views, rows)
    loader = DataLoader(views, batch_size=batch_size, num_workers=workers, pin_memory=torch.cuda.is_available())
    for images in track(loader, title, total=len(loader), unit="batches"):
        yield to_float(images.to(encoder.mean.device, non_blocking=True))
