"""PKT: "Learning Deep Representations with Probabilistic Knowledge Transfer" (Passalis and Tefas, ECCV 2018).

Similarities within the minibatch, without softmax, temperature or memory bank: what CompRess compares with in section
4.3 to show that these three matter. The scale of the loss, a mean over all pairs, is as in the form that is generally
used (RepDistiller), with its weight of 30,000.
"""

import dataclasses
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.distillation import Distillation, teacher_of
from stages.errors import above_zero
from stages.training.batches import Batch
from stages.training.recipe import TrainingRecipe

EPSILON = 1e-7


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    weight: Annotated[float, "factor of the loss"] = 30_000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(weight=self.weight)


class PKT(Distillation):
    """The divergence of the student's distribution over the minibatch from the teacher's, for each of its images."""

    def forward(self, batch: Batch) -> Tensor:
        student = similarities(self.student(batch.views[0]))
        teacher = similarities(teacher_of(batch))
        return self.options.weight * (teacher * torch.log((teacher + EPSILON) / (student + EPSILON))).mean()


def similarities(embeddings: Tensor) -> Tensor:
    """Cosine similarities [B, B] of ``embeddings`` [B, D], shifted to 0..1 and scaled so that each row sums to 1."""
    unit = F.normalize(embeddings)
    shifted = (unit @ unit.T + 1) / 2
    return shifted / shifted.sum(dim=1, keepdim=True)
