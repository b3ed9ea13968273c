"""placeholder"""

from torch import Tensor
from torchvision.transforms.v2 import functional as F

from stages.datasets.augmentations import Augmentation


class AffineElastic(Augmentation):
    sample_is_random = False
    transform = "resize"

    def sample(self, image: Tensor) -> Tensor:
        return F.resize(image, [self.size, self.size], antialias=True)

    center = sample
