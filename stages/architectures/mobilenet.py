"""``mobilenet_v2``: torchvision's, with the classifier and its dropout taken off; the embedding is the 1280-d pool."""

from torch import Tensor
from torchvision.models import mobilenet_v2

from stages.architectures import Backbone
from stages.errors import unknown


class MobileNetV2(Backbone):
    """MobileNet-V2's features and global average pool, [B, 1280]; key names are torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.features = mobilenet_v2().features
        self.dimension = 1280

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images)
        return features.mean(dim=(2, 3))


def build(name: str) -> MobileNetV2:
    if name != "mobilenet_v2":
        raise unknown("architecture", name, ["mobilenet_v2"])
    return MobileNetV2()
