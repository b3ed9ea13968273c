"""SimReg: "SimReg: Regression as a Simple Yet Effective Tool for Self-supervised Knowledge Distillation" (BMVC 2021).

The student's embedding goes through a four-layer head, which is thrown away, to meet the teacher's by cosine
similarity. The recipe is the authors'; their augmentation crops from 20% of the area (ours, crop-flip, from 8%).
"""

import dataclasses

from torch import Tensor, nn
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.distillation import Distillation, Setting, teacher_of
from stages.training.batches import Batch
from stages.training.recipe import DropLast, LearningRate, Schedule, TrainingRecipe


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    drop_last: DropLast = True
    learning_rate: LearningRate = 0.05
    schedule: Schedule = "cosine"


class SimReg(Distillation):
    """2 - 2 cos between the head's output and the teacher's embedding, mean over the batch."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        super().__init__(student, setting, options)
        inner, outer = student.dimension, 2 * student.dimension
        self.head = nn.Sequential(
            nn.Linear(inner, outer),
            nn.BatchNorm1d(outer),
            nn.ReLU(inplace=True),
            nn.Linear(outer, inner),
            nn.Linear(inner, outer),
            nn.BatchNorm1d(outer),
            nn.ReLU(inplace=True),
            nn.Linear(outer, setting.teacher_dimension),
        )

    def forward(self, batch: Batch) -> Tensor:
        student = self.head(self.student(batch.views[0]))
        return 2 - 2 * F.cosine_similarity(student, teacher_of(batch)).mean()
