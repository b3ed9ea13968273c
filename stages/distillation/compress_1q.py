"""CompRess with the teacher's memory bank for both, "Ours-1q" (Abbasi Koohpayegani et al., NeurIPS 2020, section 3).

The student needs the teacher's dimension: one linear layer, trained with it and thrown away (confirmed by the authors
in the issues of their repository; the paper does not describe it).
"""

import dataclasses

from torch import Tensor, nn
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.distillation import Distillation, Setting, teacher_of
from stages.similarity.anchors import anchors_of
from stages.similarity.divergence import divergence
from stages.similarity.options import SimilarityOptions
from stages.training.batches import Batch


@dataclasses.dataclass(frozen=True)
class Options(SimilarityOptions):
    """Nothing but what it shares with Ours-2q."""


class CompRess1q(Distillation):
    """Anchors are the teacher's; they are read before the batch is written, so anchors are of earlier batches."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        super().__init__(student, setting, options)
        self.head = nn.Linear(student.dimension, setting.teacher_dimension)
        self.anchors = anchors_of(options, setting.teacher_dimension)

    def forward(self, batch: Batch) -> Tensor:
        student = F.normalize(self.head(self.student(batch.views[0])))
        teacher = F.normalize(teacher_of(batch))
        self.anchors.hold(teacher)
        return divergence(student, self.anchors, teacher, self.anchors, self.options)

    def after_step(self, progress: float) -> None:
        self.anchors.write_held()
