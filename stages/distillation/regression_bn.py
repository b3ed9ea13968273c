"""Regression with batch normalisation, CompRess's "Reg-BN" (section 4.2).

A linear layer takes the student's embedding to the teacher's dimension; both sides are standardised, dimension by
dimension, with the minibatch's statistics and without learned scale or shift; the loss is their mean squared error.
The authors released no code for it, and the paper does not print its optimizer: the recipe is that of CompRess.
"""

import dataclasses

from torch import Tensor, nn
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.distillation import Distillation, Setting, teacher_of
from stages.training.batches import Batch
from stages.training.recipe import TrainingRecipe


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    """Nothing but the recipe."""


class RegressionBN(Distillation):
    """Mean squared error between standardised embeddings."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        super().__init__(student, setting, options)
        self.head = nn.Linear(student.dimension, setting.teacher_dimension)

    def forward(self, batch: Batch) -> Tensor:
        return F.mse_loss(standardised(self.head(self.student(batch.views[0]))), standardised(teacher_of(batch)))


def standardised(embeddings: Tensor) -> Tensor:
    """Embeddings [B, D] with zero mean and unit variance over the batch, as `torch.nn.BatchNorm1d` without affine."""
    return F.batch_norm(embeddings, None, None, training=True)
