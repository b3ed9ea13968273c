"""``alexnet``: torchvision's without dropout, as in CompRess; the embedding is fc7 after its ReLU, 4096-d.

Its two dropout layers, before fc6 and before fc7, are there with a share of 0, which `supervised` can raise.
"""

import torch
from torch import Tensor
from torchvision.models import alexnet

from stages.architectures import Backbone
from stages.errors import UserError, unknown

NAMES = ("alexnet",)

SMALLEST = 63
"""Fewer pixels leave the last max-pool without a window."""

LAYERS = {
    "conv1": "features.1",
    "conv2": "features.4",
    "conv3": "features.7",
    "conv4": "features.9",
    "conv5": "features.11",
    "fc6": "classifier.2",
    "fc7": "classifier.5",
}
"""Each after its ReLU and before any max-pool; c1 to c5, f6 and f7 in CompRess's Table 5."""


class AlexNet(Backbone):
    """AlexNet up to fc7's ReLU, [B, 4096], none of it negative; key names are torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        model = alexnet(dropout=0.0)
        self.features, self.avgpool, self.classifier = model.features, model.avgpool, model.classifier[:-1]
        self.dimension, self.layer_paths = 4096, LAYERS

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
        return features

    def feature_map(self, images: Tensor) -> Tensor:
        """conv5 after its ReLU, before the max-pool: what Fast R-CNN pools its regions from."""
        features: Tensor = self.features[:-1](images)
        return features


def build(name: str, size: int) -> AlexNet:
    if name not in NAMES:
        raise unknown("architecture", name, NAMES)
    if size < SMALLEST:
        raise UserError(f"alexnet cannot see images of {size} pixels; expected a size of at least {SMALLEST}")
    return AlexNet()
