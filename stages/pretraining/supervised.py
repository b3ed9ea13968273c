"""The supervised baseline: cross entropy with the labels, through a linear classifier that is thrown away."""

import dataclasses
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.errors import below_one
from stages.pretraining import Pretraining
from stages.training.batches import Batch
from stages.training.recipe import Epochs, Gamma, LearningRate, Milestones, TrainingRecipe

LABELS = "one"


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    """torchvision's reference recipe for ResNet-18, whose weights CompRess compares with."""

    epochs: Epochs = 90
    learning_rate: LearningRate = 0.1
    milestones: Milestones = (30, 60)
    gamma: Gamma = 0.1
    dropout: Annotated[
        float, "share dropped by the architecture's own dropout layers (AlexNet's) or, without any, of the embedding"
    ] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        below_one(dropout=self.dropout)


class Supervised(Pretraining):
    """The encoder behind a linear classifier, with dropout where the architecture's authors have it."""

    def __init__(self, encoder: Encoder, options: Options, classes: int) -> None:
        super().__init__(encoder, options, classes)
        self.dropout, self.classifier = nn.Dropout(0.0), nn.Linear(encoder.dimension, classes)
        if options.dropout:
            own = [module for module in encoder.modules() if isinstance(module, nn.Dropout)]
            for layer in own or [self.dropout]:
                layer.p = options.dropout

    def forward(self, batch: Batch) -> Tensor:
        logits = self.classifier(self.dropout(self.encoder(batch.views[0])))
        return F.cross_entropy(logits, batch.labels)
