"""SwAV: "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (Caron et al., NeurIPS 2020).

Every view predicts the code of another view of its image: which prototypes it belongs to, when all are used equally.
Codes come from the two full crops alone, predictions from small crops as well. The defaults are the authors' recipe for
batches of 4096 (their learning rate starts at 0.3 and ends at 0.0048, ours at and with 0); theirs for 256 is
batch_size 256, learning_rate 0.6, warmup_epochs 0, queue_length 3840, freeze_prototypes_steps 5005.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import torch
from lightly.loss import SwaVLoss
from lightly.models.modules.heads import SwaVProjectionHead
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from stages.architectures import Encoder
from stages.artifacts.heads import tensors_of
from stages.datasets.augmentations.swav import FULL_CROPS
from stages.errors import above_zero, at_least
from stages.pretraining import Pretraining
from stages.similarity.queue import AnchorQueue
from stages.training.batches import Batch
from stages.training.large_batches import LargeBatchRecipe
from stages.training.optimizers import optimizer_of
from stages.training.recipe import Epochs, ExcludeNormAndBias, LearningRate, Recipe, WeightDecay

AUGMENTATION = "swav"
HEADS = "projector"


@dataclasses.dataclass(frozen=True)
class Options(LargeBatchRecipe):
    epochs: Epochs = 200
    learning_rate: LearningRate = 4.8
    weight_decay: WeightDecay = 1e-6
    exclude_norm_and_bias: ExcludeNormAndBias = False
    small_crops: Annotated[int, "views beside the two full ones; small where the augmentation is swav"] = 6
    prototypes: Annotated[int, "number of prototypes"] = 3000
    freeze_prototypes_steps: Annotated[int, "steps from the start in which the prototypes are not trained"] = 313
    temperature: Annotated[float, "of the softmax that predicts a code"] = 0.1
    epsilon: Annotated[float, "smoothness of the codes, their entropy's weight in the Sinkhorn algorithm"] = 0.05
    sinkhorn_iterations: Annotated[int, "iterations of the Sinkhorn algorithm"] = 3
    queue_length: Annotated[int, "earlier images whose codes are found along with the batch's; 0: none"] = 0
    queue_start_epoch: Annotated[int, "epochs before the queue begins to fill; it is used once full"] = 15
    hidden_dimension: Annotated[int, "hidden units of the projection head"] = 2048
    projection_dimension: Annotated[int, "outputs of the projection head"] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(temperature=self.temperature, epsilon=self.epsilon)
        at_least(0, small_crops=self.small_crops, freeze_prototypes_steps=self.freeze_prototypes_steps)
        at_least(0, queue_length=self.queue_length, queue_start_epoch=self.queue_start_epoch)
        at_least(1, sinkhorn_iterations=self.sinkhorn_iterations, projection_dimension=self.projection_dimension)
        at_least(1, hidden_dimension=self.hidden_dimension)
        at_least(2, prototypes=self.prototypes)


class SwAV(Pretraining):
    """The encoder behind a two-layer head and unit prototypes.

    lightly's prototypes are not used: they have a bias, the authors' have none.
    """

    def __init__(self, encoder: Encoder, options: Options, classes: int) -> None:
        super().__init__(encoder, options, classes)
        self.views = FULL_CROPS + options.small_crops
        dimension = options.projection_dimension
        self.head = SwaVProjectionHead(encoder.dimension, options.hidden_dimension, dimension)
        self.prototypes = nn.Linear(dimension, options.prototypes, bias=False)
        # Each row is an image, with the embeddings of its full crops side by side.
        self.queue = AnchorQueue(options.queue_length, FULL_CROPS * dimension) if options.queue_length else None
        self.loss = SwaVLoss(options.temperature, options.sinkhorn_iterations, options.epsilon)
        self.frozen = False
        self._normalise_prototypes()

    def forward(self, batch: Batch) -> Tensor:
        embeddings = self._embeddings(batch.views)
        if self.queue is not None:
            self.queue.hold(torch.cat(embeddings.chunk(self.views)[:FULL_CROPS], dim=1))
        scores = self.prototypes(embeddings).chunk(self.views)
        loss: Tensor = self.loss(list(scores[:FULL_CROPS]), list(scores[FULL_CROPS:]), self._queue_scores())
        return loss.squeeze()

    def _embeddings(self, views: Sequence[Tensor]) -> Tensor:
        """Unit embeddings [V B, D] of all views: one batch for each size in the encoder, one in all in the head."""
        groups = [group for group in (views[:FULL_CROPS], views[FULL_CROPS:]) if group]
        return F.normalize(self.head(torch.cat([self.encoder(torch.cat(list(group))) for group in groups])))

    def _queue_scores(self) -> list[Tensor] | None:
        """Earlier embeddings against the prototypes of now, [Q, P] for each full crop; None until the queue is full."""
        if self.queue is None or self.queue.written < self.options.queue_length:
            return None
        earlier = self.queue.embeddings.chunk(FULL_CROPS, dim=1)
        return [embeddings @ self.prototypes.weight.detach().T for embeddings in earlier]

    def optimizer(self, recipe: Recipe) -> Optimizer:
        optimizer = optimizer_of(self, recipe, apart=self.prototypes)
        optimizer.register_step_pre_hook(lambda *_: self._keep_frozen())
        return optimizer

    def before_step(self, optimizer: Optimizer, recipe: Recipe, step: int, steps_per_epoch: int) -> float:
        self.frozen = step < self.options.freeze_prototypes_steps
        return super().before_step(optimizer, recipe, step, steps_per_epoch)

    def _keep_frozen(self) -> None:
        """Take the gradient from prototypes that are frozen, so that the optimizer leaves them alone.

        They have one: gradients are averaged over processes on the condition that every parameter has one.
        """
        if self.frozen:
            self.prototypes.weight.grad = None

    def after_step(self, progress: float) -> None:
        self._normalise_prototypes()
        # Progress is that of the step's end, so it is beyond the start from the first step of that epoch on.
        started = progress * self.options.epochs > self.options.queue_start_epoch + 1e-9
        if self.queue is not None and started:
            self.queue.write_held()

    def heads(self) -> dict[str, Tensor]:
        """The projector, by whose outputs a student may know the encoder."""
        return tensors_of(projector=self.head)

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight))
