"""SimCLR: "A Simple Framework for Contrastive Learning of Visual Representations" (Chen et al., ICML 2020).

The normalised temperature-scaled cross entropy between two views of each image, over the batch. The defaults are the
paper's: batches of 4096 with LARS, 100 epochs as in its comparisons (its best results take 1000).
"""

import dataclasses
from typing import Annotated

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor

from stages.architectures import Encoder
from stages.artifacts.heads import tensors_of
from stages.errors import above_zero, at_least
from stages.pretraining import Pretraining
from stages.training.batches import Batch
from stages.training.large_batches import LargeBatchRecipe
from stages.training.recipe import Epochs, WeightDecay

AUGMENTATION = "simclr"
HEADS = "projector"


@dataclasses.dataclass(frozen=True)
class Options(LargeBatchRecipe):
    epochs: Epochs = 100
    learning_rate: Annotated[float, "at its highest; the paper's is 0.3 times batch_size / 256"] = 4.8
    weight_decay: WeightDecay = 1e-6
    temperature: Annotated[float, "of the contrastive softmax"] = 0.1
    projection_dimension: Annotated[int, "outputs of the projection head"] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(temperature=self.temperature)
        at_least(1, projection_dimension=self.projection_dimension)


class SimCLR(Pretraining):
    """The encoder behind a two-layer projection head with batch norm."""

    views = 2

    def __init__(self, encoder: Encoder, options: Options, classes: int) -> None:
        super().__init__(encoder, options, classes)
        self.head = SimCLRProjectionHead(encoder.dimension, encoder.dimension, options.projection_dimension)
        self.loss = NTXentLoss(temperature=options.temperature)

    def forward(self, batch: Batch) -> Tensor:
        # Both views in one batch: its batch-norm statistics are those of all of its images, as in the paper.
        projections = self.head(self.encoder(torch.cat([batch.views[0], batch.views[1]])))
        first, second = projections.chunk(2)
        loss: Tensor = self.loss(first, second)
        return loss

    def heads(self) -> dict[str, Tensor]:
        """The projector, by whose outputs a student may know the encoder."""
        return tensors_of(projector=self.head)
