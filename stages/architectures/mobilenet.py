"""``mobilenet_v2``, ``mobilenet_v3_small``, ``mobilenet_v3_large``: torchvision's, with the classifier taken off.

The embedding is the global average pool of the last convolution, in all of them: 1280-d, 576-d, 960-d. The hidden layer
of MobileNet-V3's classifier is no part of it: nothing but a supervised head would train it.
"""

from torch import Tensor
from torchvision import models

from stages.architectures import Backbone
from stages.errors import unknown

NAMES = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")

DIMENSIONS = {"mobilenet_v2": 1280, "mobilenet_v3_small": 576, "mobilenet_v3_large": 960}

LAYERS = {
    "mobilenet_v2": (1, 3, 6, 13, 18),
    "mobilenet_v3_small": (0, 1, 3, 8, 12),
    "mobilenet_v3_large": (1, 3, 6, 12, 16),
}
"""Where in ``features`` L1 to L5 are: the last map of each resolution, from 1/2 to 1/32 of the image's side."""


class MobileNet(Backbone):
    """A MobileNet's features and global average pool, [B, D]; key names are torchvision's."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.features = getattr(models, name)().features
        self.dimension = DIMENSIONS[name]
        self.layer_paths = {f"L{level}": f"features.{place}" for level, place in enumerate(LAYERS[name], start=1)}

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))

    def feature_map(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images)
        return features


def build(name: str, size: int) -> MobileNet:
    if name not in NAMES:
        raise unknown("architecture", name, NAMES)
    return MobileNet(name)
