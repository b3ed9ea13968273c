"""MoCo v2's augmentation: crops of 20 to 100%, colour jitter, greyscale, blur and flip (`aug-plus` in its code)."""

from torch import Tensor
from torchvision.transforms.v2 import RandomResizedCrop

from stages.datasets.augmentations.crop_flip import CropFlip
from stages.datasets.photometric import Photometric


class MoCoV2(CropFlip):
    """Both views alike. The blur's kernel covers a tenth of the image, as SimCLR's, which MoCo v2 takes it from."""

    smallest = 2  # The blur reflects an image's border.

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.crop = RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True)
        self.colours = Photometric(0.4, 0.4, 0.4, 0.1, blur_radius=max(1, size // 20))

    def batch(self, images: Tensor, view: int = 0) -> Tensor:
        return self.colours(images)
