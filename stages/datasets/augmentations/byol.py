"""BYOL's augmentation: the first view is always blurred, the second seldom, but solarised at times (its appendix B)."""

from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, RandomResizedCrop

from stages.datasets.augmentations.crop_flip import CropFlip
from stages.datasets.photometric import Photometric


class BYOL(CropFlip):
    """Bicubic crops of 8 to 100%; the blur's kernel covers a tenth of the image.

    Brightness and contrast are torchvision's: the authors' code adds to the first and stretches each channel apart.
    """

    smallest = 2  # The blur reflects an image's border.

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.crop = RandomResizedCrop(size, interpolation=InterpolationMode.BICUBIC, antialias=True)
        radius = max(1, size // 20)
        self.first = Photometric(0.4, 0.4, 0.2, 0.1, radius, blur_probability=1.0)
        self.second = Photometric(0.4, 0.4, 0.2, 0.1, radius, blur_probability=0.1, solarize_probability=0.2)

    def batch(self, images: Tensor, view: int = 0) -> Tensor:
        return (self.first if view == 0 else self.second)(images)
