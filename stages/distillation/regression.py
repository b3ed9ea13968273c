"""Regression, CompRess's "Reg" (section 4.2): a linear layer on the student, mean squared error with the teacher.

FitNets' regression, of the embedding alone. The authors released no code for it, and the paper does not print its
optimizer: the recipe is that of CompRess.
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


class Regression(Distillation):
    """Mean squared error between the projected student and the teacher's embeddings as they are."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        super().__init__(student, setting, options)
        self.head = nn.Linear(student.dimension, setting.teacher_dimension)

    def forward(self, batch: Batch) -> Tensor:
        return F.mse_loss(self.head(self.student(batch.views[0])), teacher_of(batch))
