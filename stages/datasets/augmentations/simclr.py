"""SimCLR's augmentation at full colour strength: crops, strong jitter, greyscale, blur and flip (its appendix A)."""

from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, RandomResizedCrop

from stages.datasets.augmentations.crop_flip import CropFlip
from stages.datasets.photometric import Photometric


class SimCLR(CropFlip):
    """Both views alike: bicubic crops of 8 to 100%; the blur's kernel covers a tenth of the image."""

    smallest = 2  # The blur reflects an image's border.

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.crop = RandomResizedCrop(size, interpolation=InterpolationMode.BICUBIC, antialias=True)
        self.colours = Photometric(0.8, 0.8, 0.8, 0.2, blur_radius=max(1, size // 20))

    def batch(self, images: Tensor, view: int = 0) -> Tensor:
        return self.colours(images)
