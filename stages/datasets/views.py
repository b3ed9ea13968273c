"""The evaluation views of a packed split, as a torch dataset."""

from torch import Tensor
from torch.utils.data import Dataset

from stages.datasets.augmentations import Augmentation
from stages.datasets.packed import PackedImages


class CenterViews(Dataset[Tensor]):
    """Image i in its view without chance, uint8 [3, size, size]."""

    def __init__(self, pack: PackedImages, augmentation: Augmentation, interpolation: str = "bilinear") -> None:
        self.pack, self.augmentation, self.interpolation = pack, augmentation, interpolation

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, index: int) -> Tensor:
        return self.augmentation.center(self.pack.image(index), self.interpolation)
