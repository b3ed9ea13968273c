"""A Faster R-CNN around an encoder, and its loss.

Fast R-CNN (Girshick, ICCV 2015) takes its regions from selective search; here a region proposal network finds them, as
in Faster R-CNN (Ren et al., NeurIPS 2015), trained along. Regions are pooled from the encoder's one last feature map,
without a pyramid. They go through AlexNet's own fc6 and fc7, and for architectures that have no layers between the map
and its pooling through two new ones of 1,024 units, as torchvision's.
"""

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from stages.architectures import Encoder
from stages.architectures.alexnet import AlexNet
from stages.datasets.augmentations import to_float
from stages.datasets.sources import Boxes
from stages.training.batch_norms import batch_norms_in
from stages.training.batches import Batch
from stages.training.objective import Objective

HIDDEN = 1024
"""Units of each new layer between a region's features and its class."""

REGIONS = 128
"""Of an image, that are trained on in a step, a quarter of them objects: Faster R-CNN's number on VOC."""

OVERLAP = 0.3
"""Of a detection with a surer one of its class, beyond which it is dropped: Fast and Faster R-CNN's (TEST.NMS)."""


class Detection(Objective):
    """The detector's four losses, summed: of regions proposed and classified, each by class and by place.

    Every second image, by chance, is seen in a mirror. Difficult objects are not trained on.
    """

    def __init__(
        self, encoder: Encoder, boxes: Boxes, classes: int, min_size: int, max_size: int, anchors: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.detector = detector(encoder, classes, min_size, max_size, anchors)
        self.boxes = boxes

    def forward(self, batch: Batch) -> Tensor:
        images = [to_float(view) for view in batch.views]
        targets = [self._target(index, batch.views[0].device) for index in batch.indices.tolist()]
        for place in torch.rand(len(images)).lt(0.5).nonzero().flatten().tolist():
            images[place], targets[place] = mirrored(images[place], targets[place])
        return torch.stack(list(self.detector(images, targets).values())).sum()

    def _target(self, index: int, device: torch.device) -> dict[str, Tensor]:
        """What is to be found in an image; class 0 is the background."""
        rows = slice(*self.boxes.offsets[index : index + 2])
        clear = ~self.boxes.difficult[rows]
        return {
            "boxes": torch.from_numpy(self.boxes.corners[rows][clear]).to(device),
            "labels": torch.from_numpy(self.boxes.classes[rows][clear] + 1).to(device),
        }


def mirrored(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The image [3, H, W] with left and right exchanged, and its boxes."""
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    width = image.shape[2]
    return image.flip(2), {**target, "boxes": torch.stack([width - x2, y1, width - x1, y2], dim=1)}


class FeatureMap(nn.Module):
    """The encoder's feature map. Its batch norms keep their statistics: a batch of two images has none to offer."""

    def __init__(self, encoder: Encoder, channels: int) -> None:
        super().__init__()
        self.backbone, self.out_channels = encoder.backbone, channels

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone.feature_map(images.contiguous(memory_format=torch.channels_last))

    def train(self, mode: bool = True) -> "FeatureMap":
        super().train(mode)
        for norm in batch_norms_in(self):
            norm.eval()
        return self


def detector(encoder: Encoder, classes: int, min_size: int, max_size: int, anchors: tuple[int, ...]) -> FasterRCNN:
    """The detector of ``classes`` and the background: images [3, H, W] in 0..1 to detections in their own pixels.

    Args:
        min_size: pixels to which an image's shorter side is scaled, unless the longer one would exceed ``max_size``.
        anchors: the sides of the squares, in scaled pixels, that proposals start from.

    Raises:
        UserError: the architecture gives no feature map of images of any size.
    """
    channels = _channels(encoder, min_size)
    side = 6 if isinstance(encoder.backbone, AlexNet) else 7
    head, hidden = _head(encoder, channels * side**2)
    return FasterRCNN(
        FeatureMap(encoder, channels),
        min_size=min_size,
        max_size=max_size,
        image_mean=encoder.contract.mean,
        image_std=encoder.contract.std,
        rpn_anchor_generator=AnchorGenerator((anchors,), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=side, sampling_ratio=2),
        box_head=head,
        box_predictor=FastRCNNPredictor(hidden, classes + 1),
        box_batch_size_per_image=REGIONS,
        box_nms_thresh=OVERLAP,
    )


@torch.no_grad()
def _channels(encoder: Encoder, min_size: int) -> int:
    """The feature map's channels, tried on one black image that is no square: some architectures fail only here."""
    encoder.eval()
    return encoder.backbone.feature_map(torch.zeros(1, 3, min_size, min_size + 32)).shape[1]


def _head(encoder: Encoder, inputs: int) -> tuple[nn.Module, int]:
    """From a region's features, flattened, to what it is classified by; and the length of that."""
    if isinstance(encoder.backbone, AlexNet):
        return nn.Sequential(nn.Flatten(), encoder.backbone.classifier), encoder.dimension
    return TwoMLPHead(inputs, HIDDEN), HIDDEN
