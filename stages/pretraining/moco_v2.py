"""MoCo v2: "Improved Baselines with Momentum Contrastive Learning" (Chen et al., 2020), after MoCo (CVPR 2020).

Each query has to find the key of its own image's other view among those of the last images, which a memory bank keeps.
Keys are made by a moving average of the encoder and its head. The defaults are those of the authors' code for 200
epochs. Batches are not shuffled between GPUs ("shuffling BN"): the batch norms of queries and keys see the same images,
which can leak which of them belong together.
"""

import dataclasses
from typing import Annotated

import torch
from lightly.models.modules.heads import MoCoProjectionHead
from torch import Tensor
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.artifacts.heads import tensors_of
from stages.errors import above_zero, at_least, below_one
from stages.pretraining import Pretraining
from stages.similarity.queue import AnchorQueue
from stages.training.batches import Batch
from stages.training.momentum import ema_update, frozen
from stages.training.recipe import DropLast, Epochs, LearningRate, Schedule, TrainingRecipe

AUGMENTATION = "moco-v2"
HEADS = "projector"


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    epochs: Epochs = 200
    drop_last: DropLast = True
    learning_rate: LearningRate = 0.03
    schedule: Schedule = "cosine"
    temperature: Annotated[float, "of the contrastive softmax"] = 0.2
    queue_length: Annotated[int, "keys in the memory bank, the negatives of every query"] = 65_536
    momentum: Annotated[float, "of the key encoder: the share of its weights that a step keeps"] = 0.999
    projection_dimension: Annotated[int, "outputs of the projection head"] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(temperature=self.temperature)
        at_least(1, queue_length=self.queue_length, projection_dimension=self.projection_dimension)
        below_one(momentum=self.momentum)


class MoCoV2(Pretraining):
    """The encoder behind a two-layer head, a key encoder and head that follow them, and the memory bank of keys.

    The bank is ours and not the one in lightly's loss, which no checkpoint holds and which drops the end of a batch
    that does not fit.
    """

    views = 2

    def __init__(self, encoder: Encoder, options: Options, classes: int) -> None:
        super().__init__(encoder, options, classes)
        self.head = MoCoProjectionHead(encoder.dimension, encoder.dimension, options.projection_dimension)
        self.key_encoder, self.key_head = frozen(encoder), frozen(self.head)
        self.queue = AnchorQueue(options.queue_length, options.projection_dimension)
        self.queue.embeddings.copy_(F.normalize(torch.randn_like(self.queue.embeddings)))

    def forward(self, batch: Batch) -> Tensor:
        query = F.normalize(self.head(self.encoder(batch.views[0])))
        key = self._keys(batch.views[1])
        self.queue.hold(key)
        return info_nce((query * key).sum(dim=1), self.queue.similarities(query), self.options.temperature)

    @torch.no_grad()
    def _keys(self, images: Tensor) -> Tensor:
        return F.normalize(self.key_head(self.key_encoder(images)))

    def after_step(self, progress: float) -> None:
        # The authors do this before they make the next keys, from the same weights; their first time changes nothing.
        ema_update(self.key_encoder, self.encoder, self.options.momentum)
        ema_update(self.key_head, self.head, self.options.momentum)
        self.queue.write_held()

    def heads(self) -> dict[str, Tensor]:
        """The projector, by whose outputs a student may know the encoder."""
        return tensors_of(projector=self.head)


def info_nce(own: Tensor, others: Tensor, temperature: float) -> Tensor:
    """The cross entropy of finding one's own key, mean over the batch (MoCo, equation 1; a scalar).

    Args:
        own: cosine similarities [B] of the queries to their own keys.
        others: those to the keys of other images [B, K].
    """
    logits = torch.cat([own[:, None], others], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
