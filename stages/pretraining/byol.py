"""BYOL: "Bootstrap Your Own Latent" (Grill et al., NeurIPS 2020).

An online network predicts what a target network, a moving average of it, makes of another view; there are no negatives.
The defaults are those of the authors' code for 1000 epochs (for 300: learning_rate 4.8, weight_decay 1e-6, momentum
0.99; for 100: 7.2, 1e-6, 0.99). As in that code, the two networks are initialised differently, each view is a batch of
its own to the batch norms, and the target network keeps its own batch-norm statistics.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import torch
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor

from stages.architectures import Encoder
from stages.artifacts.heads import tensors_of
from stages.errors import at_least, zero_to_one
from stages.prediction.distance import squared_distance
from stages.pretraining import Pretraining
from stages.training.batches import Batch
from stages.training.large_batches import LargeBatchRecipe
from stages.training.momentum import cosine_momentum, ema_update, frozen, frozen_reinitialised
from stages.training.recipe import Epochs, WeightDecay

AUGMENTATION = "byol"
HEADS = "networks"


@dataclasses.dataclass(frozen=True)
class Options(LargeBatchRecipe):
    epochs: Epochs = 1000
    learning_rate: Annotated[float, "at its highest; the paper's is 0.2 times batch_size / 256"] = 3.2
    weight_decay: WeightDecay = 1.5e-6
    momentum: Annotated[float, "of the target network at the start; it rises to 1 as half a cosine"] = 0.996
    hidden_dimension: Annotated[int, "hidden units of the projector and of the predictor"] = 4096
    projection_dimension: Annotated[int, "outputs of the projector and of the predictor"] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, hidden_dimension=self.hidden_dimension, projection_dimension=self.projection_dimension)
        zero_to_one(momentum=self.momentum)


class BYOL(Pretraining):
    """Encoder, projector and predictor, trained to predict the frozen target encoder and projector that follow them."""

    views = 2

    def __init__(self, encoder: Encoder, options: Options, classes: int) -> None:
        super().__init__(encoder, options, classes)
        hidden, outputs = options.hidden_dimension, options.projection_dimension
        self.projector = BYOLProjectionHead(encoder.dimension, hidden, outputs)
        self.predictor = BYOLPredictionHead(outputs, hidden, outputs)
        self.target_encoder = frozen_reinitialised(encoder)
        self.target_projector = frozen(BYOLProjectionHead(encoder.dimension, hidden, outputs))

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(self.projections(batch.views), self.targets(batch.views))

    def projections(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Those of the online network [B, D], for each view."""
        return [self.projector(self.encoder(view)) for view in views]

    @torch.no_grad()
    def targets(self, views: Sequence[Tensor]) -> list[Tensor]:
        """The projections of the target network [B, D], for each view."""
        return [self.target_projector(self.target_encoder(view)) for view in views]

    def loss(self, projections: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """The squared distance of unit predictions and the targets of the other view: a scalar, 0 to 8."""
        return squared_distance([self.predictor(projection) for projection in projections], targets[::-1])

    def after_step(self, progress: float) -> None:
        momentum = cosine_momentum(self.options.momentum, progress)
        ema_update(self.target_encoder, self.encoder, momentum)
        ema_update(self.target_projector, self.projector, momentum)

    def heads(self) -> dict[str, Tensor]:
        """The projector and the target network, by which `stages.training.networks` makes a teacher of the encoder."""
        return tensors_of(
            projector=self.projector,
            target_backbone=self.target_encoder.backbone,
            target_projector=self.target_projector,
        )
