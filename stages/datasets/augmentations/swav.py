"""SwAV's multi-crop: two full crops of 14 to 100%, then small ones of 5 to 14%, with SimCLR's changes of colour."""

from torch import Tensor
from torchvision.transforms.v2 import RandomResizedCrop

from stages.datasets.augmentations.crop_flip import CropFlip, crop_and_flip
from stages.datasets.photometric import Photometric

FULL_CROPS = 2


class SwAV(CropFlip):
    """Views from the third on have 96/224 of the full size; the blur's kernel is the same for both, as the authors'."""

    smallest = 4  # The blur reflects an image's border, and a small crop of 3 would have one pixel.

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.small_size = round(size * 96 / 224)
        self.crop = RandomResizedCrop(size, scale=(0.14, 1.0), antialias=True)
        self.small_crop = RandomResizedCrop(self.small_size, scale=(0.05, 0.14), antialias=True)
        self.colours = Photometric(0.8, 0.8, 0.8, 0.2, blur_radius=max(1, size // 20))

    def sample(self, image: Tensor, view: int = 0) -> Tensor:
        return crop_and_flip(image, self.crop if view < FULL_CROPS else self.small_crop)

    def batch(self, images: Tensor, view: int = 0) -> Tensor:
        return self.colours(images)
