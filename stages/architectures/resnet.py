"""ResNets of any width: ``resnet<depth>[_x<factor>][_<variant>]``, as in ``resnet18``, ``resnet50_x4``,
``resnet18_x0.5_cifar``; ``_x4`` is four times as wide. The variants, of which a name has at most one, at its end:

- ``cifar``: for small images, the stem is a 3x3 convolution of stride 1, without a max-pool, as in SimCLR's on CIFAR;
- ``samepool``: the max-pool pads as TensorFlow's SAME, as in SimCLR's TensorFlow checkpoints, whose convolutions pad
  as PyTorch's;
- ``same``: the max-pool and all strided convolutions pad as SAME, as in BYOL's Haiku checkpoints.

Key names are torchvision's in all of them, so its state dicts load, less the classifier; the initialisation is He's,
without zeroed residual branches, as in CompRess's training.
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
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
    "resnet200": (Bottleneck, (3, 24, 36, 3)),
}

PATTERN = (
    r"(resnet(?:18|34|50|101|152|200))(?:_x(0\.(?:0[1-9]|[1-9])\d*|[1-9]\d*(?:\.\d+)?))?(?:_(cifar|samepool|same))?"
)
"""Depth, width and variant; below a hundredth, the stem would have no channel."""

NAMES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet200",
    "resnet18_x0.5",
    "resnet50_x4",
    "resnet18_cifar",
    "resnet18_samepool",
    "resnet18_same",
    "resnet18_x0.5_cifar",
)
"""Some of those that the pattern allows, to be named where another is asked for."""

LAYERS = {"L1": "relu", "L2": "layer1", "L3": "layer2", "L4": "layer3", "L5": "layer4"}
"""The stem after its ReLU, and the four stages, by the names of CompRess's Table 5; the embedding is the mean of L5."""


class ResNet(Backbone):
    """A ResNet whose stem has ``width`` channels; the embedding is the global average pool, [B, 8 width expansion]."""

    def __init__(
        self, block: type[BasicBlock | Bottleneck], depths: tuple[int, ...], width: int, variant: str | None = None
    ) -> None:
        super().__init__()
        if variant == "cifar":
            self.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = _pool(variant)
        channels = width
        for number, depth in enumerate(depths, start=1):
            planes = width * 2 ** (number - 1)
            blocks = []
            for position in range(depth):
                stride = 2 if number > 1 and position == 0 else 1
                blocks.append(block(channels, planes, stride, _shortcut(channels, planes * block.expansion, stride)))
                channels = planes * block.expansion
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.dimension, self.layer_paths = channels, LAYERS
        if variant == "same":
            _pad_strided_convolutions_as_same(self)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))

    def feature_map(self, images: Tensor) -> Tensor:
        """The output of the last residual stage."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number in range(1, 5):
            features = self.get_submodule(f"layer{number}")(features)
        return features


def _shortcut(channels: int, planes: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == planes:
        return None
    return nn.Sequential(nn.Conv2d(channels, planes, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(planes))


def _pool(variant: str | None) -> nn.Module:
    """What follows the stem's convolution."""
    if variant == "cifar":
        return nn.Identity()
    if variant in ("same", "samepool"):
        from timm.layers.pool2d_same import MaxPool2dSame

        return MaxPool2dSame(kernel_size=3, stride=2)
    return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)


def _pad_strided_convolutions_as_same(module: nn.Module) -> None:
    """Put a `Conv2dSame` in the place of every strided convolution of more than a pixel; at stride 1 both pad alike."""
    from timm.layers.conv2d_same import Conv2dSame

    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.stride[0] > 1 and child.kernel_size[0] > 1:
            same = Conv2dSame(child.in_channels, child.out_channels, child.kernel_size[0], child.stride[0], bias=False)
            module.add_module(name, same)
        _pad_strided_convolutions_as_same(child)


def build(name: str, size: int) -> ResNet:
    """The ResNet of the depth, width and variant that ``name`` tells."""
    match = re.fullmatch(PATTERN, name)
    if match is None:
        raise unknown("architecture", name, NAMES)
    block, depths = DEPTHS[match[1]]
    return ResNet(block, depths, width=round(64 * float(match[2] or 1)), variant=match[3])
