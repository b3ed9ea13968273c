"""ResNets of any width: ``resnet18``, ``resnet50``, ``resnet50_x4`` (four times as wide), ``resnet18_x0.5``.

Key names are torchvision's, so its state dicts load, less the classifier; the initialisation is He's, without zeroed
residual branches, as in CompRess's training.
"""

import re

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from stages.architectures import Backbone
from stages.errors import unknown

DEPTHS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(Backbone):
    """A ResNet whose stem has ``width`` channels; the embedding is the global average pool, [B, 8 width expansion]."""

    def __init__(self, block: type[BasicBlock | Bottleneck], depths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        channels = width
        for number, depth in enumerate(depths, start=1):
            planes = width * 2 ** (number - 1)
            blocks = []
            for position in range(depth):
                stride = 2 if number > 1 and position == 0 else 1
                blocks.append(block(channels, planes, stride, _shortcut(channels, planes * block.expansion, stride)))
                channels = planes * block.expansion
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.dimension = channels
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number in range(1, 5):
            features = self.get_submodule(f"layer{number}")(features)
        return features.mean(dim=(2, 3))


def _shortcut(channels: int, planes: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == planes:
        return None
    return nn.Sequential(nn.Conv2d(channels, planes, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(planes))


def build(name: str) -> ResNet:
    """``resnet<depth>``, or ``resnet<depth>_x<factor>`` for one ``factor`` times as wide."""
    match = re.fullmatch(r"(resnet\d+)(?:_x(\d+(?:\.\d+)?))?", name)
    if match is None or match[1] not in DEPTHS:
        raise unknown("architecture", name, [*DEPTHS, "resnet18_x0.5", "resnet50_x4"])
    block, depths = DEPTHS[match[1]]
    return ResNet(block, depths, width=round(64 * float(match[2] or 1)))
