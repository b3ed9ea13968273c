"""``efficientnet_b0``: torchvision's, with the classifier and its dropout taken off; the embedding is the 1280-d pool.

Stochastic depth is part of its blocks and stays: in training, images skip some of them by chance.
"""

from torch import Tensor
from torchvision.models import efficientnet_b0

from stages.architectures import Backbone
from stages.errors import unknown

NAMES = ("efficientnet_b0",)

LAYERS = {"L1": "features.1", "L2": "features.2", "L3": "features.3", "L4": "features.5", "L5": "features.8"}
"""The last map of each resolution, from 1/2 to 1/32 of the image's side."""


class EfficientNet(Backbone):
    """EfficientNet-B0's features and global average pool, [B, 1280]; key names are torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.features = efficientnet_b0().features
        self.dimension, self.layer_paths = 1280, LAYERS

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))

    def feature_map(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images)
        return features


def build(name: str, size: int) -> EfficientNet:
    if name not in NAMES:
        raise unknown("architecture", name, NAMES)
    return EfficientNet()
