"""The supervised baseline: cross entropy with the labels, through a linear classifier that is thrown away."""

import dataclasses
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.pretraining import Pretraining
from stages.training.batches import Batch
from stages.training.recipe import TrainingRecipe

LABELS = "one"


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    """torchvision's reference recipe for ResNet-18, whose weights CompRess compares with."""

    epochs: Annotated[int, "passes over the training images"] = 90
    learning_rate: Annotated[float, "at its highest"] = 0.1
    milestones: Annotated[tuple[int, ...], "epochs after which the step schedule lowers the learning rate"] = (30, 60)
    gamma: Annotated[float, "factor of the step schedule"] = 0.1


class Supervised(Pretraining):
    """The encoder behind a linear classifier."""

    def __init__(self, encoder: Encoder, options: Options, classes: int) -> None:
        super().__init__(encoder, options, classes)
        self.classifier = nn.Linear(encoder.dimension, classes)

    def forward(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.classifier(self.encoder(batch.views[0])), batch.labels)
