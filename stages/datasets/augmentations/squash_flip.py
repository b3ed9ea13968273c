"""The whole image, squashed to a square, and a horizontal flip: for images whose labels may be of what is at an edge.

VISSL's linear SVMs on VOC 2007 see images so (eval_resnet_8gpu_transfer_voc07_svm.yaml). The centre of an image leaves
out objects that its labels name: of 1,030 labels of a slice of VOC 2007, 51 were of nothing within it.
"""

from torch import Tensor

from stages.datasets.augmentations import Augmentation, flipped_by_chance, squashed

REPEATABLE = True


class SquashFlip(Augmentation):
    """All of the image, whatever its shape, flipped with probability 1/2; evaluated without the flip."""

    sample_is_random = True
    transform = "squashed to a square"

    def sample(self, image: Tensor, view: int = 0) -> Tensor:
        return flipped_by_chance(self.center(image))

    def center(self, image: Tensor, interpolation: str = "bilinear") -> Tensor:
        return squashed(image, self.size, interpolation)
