"""A split's images as a detector sees them: whole, at their own sizes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages.datasets.augmentations import to_float
from stages.datasets.packed import PackedImages
from stages.detection import Detections
from stages.progress import track
from stages.training.batches import Batch, reading
from stages.training.recipe import Recipe

Sample = tuple[Tensor, int]
"""An image, uint8 [3, H, W], and its place in the split."""


class _Pictures(Dataset[Sample]):
    """The decoded images, by their places or, in training, by (epoch, place)."""

    def __init__(self, pack: PackedImages) -> None:
        self.pack = pack

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, position: int | tuple[int, int]) -> Sample:
        index = position[1] if isinstance(position, tuple) else position
        return self.pack.image(index), index


def stream(pack: PackedImages, recipe: Recipe, *, seed: int, workers: int, first: int) -> Iterator[Batch]:
    """All batches from the step ``first`` on; a batch's views are its images, a view [3, H, W] each."""
    yield from reading(_Pictures(pack), _collate, range(len(pack)), recipe, seed=seed, workers=workers, first=first)


def _collate(samples: Sequence[Sample]) -> Batch:
    images, indices = zip(*samples, strict=True)
    return Batch(views=images, indices=torch.tensor(indices), labels=torch.empty(0))


@torch.inference_mode()
def detected(detector: torch.nn.Module, pack: PackedImages, device: torch.device, workers: int) -> Detections:
    """What ``detector`` finds in each image of the split, one by one, so that none is padded for another's sake."""
    detector.eval()
    loader = DataLoader(_Pictures(pack), batch_size=None, num_workers=workers)
    found = []
    for image, index in track(loader, f"detecting in {pack.name}-{pack.split}", total=len(pack), unit="images"):
        (answer,) = detector([to_float(image.to(device))])
        found.append({**answer, "images": torch.full_like(answer["labels"], index)})
    whole = {key: torch.cat([each[key] for each in found]).cpu().numpy() for key in found[0]}
    return Detections(whole["images"], whole["boxes"], whole["labels"] - 1, whole["scores"])
