"""SimDis-On: "Simple Distillation Baselines for Improving Small Self-supervised Models" (Gu, Liu and Tian, 2021).

The student of SimDis-Off, with a teacher that is trained along, by BYOL, on the same views of the same images. The
student learns from the teacher as it is at each step; nothing of the student reaches the teacher. The defaults are
those of the paper for 100 epochs, with the two views of its online baseline.
"""

import dataclasses

from torch import Tensor

from stages.architectures import Encoder
from stages.distillation import Setting
from stages.prediction.options import SimDisOptions
from stages.prediction.simdis import SimDis
from stages.pretraining import byol
from stages.training.batches import Batch

AUGMENTATION = "byol"
TEACHER = "online"
HEADS = "networks"


@dataclasses.dataclass(frozen=True)
class Options(SimDisOptions):
    """Nothing but what it shares with SimDis-Off."""


class SimDisOn(SimDis):
    """The student, and BYOL for the teacher: the loss is the sum of both, so that one optimizer trains them."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        assert setting.teacher is not None
        alone = byol.Options(
            momentum=options.momentum,
            hidden_dimension=options.hidden_dimension,
            projection_dimension=options.projection_dimension,
        )
        # Before anything of the student's is drawn, so that its views do not change what the teacher begins with.
        teacher = byol.BYOL(setting.teacher, alone, classes=0)
        super().__init__(student, setting, options, options.projection_dimension)
        self.teacher = teacher

    def forward(self, batch: Batch) -> Tensor:
        online, targets = self.teacher.projections(batch.views), self.teacher.targets(batch.views)
        student = self.student_loss(batch.views, {"t": online, "tema": targets})
        return student + self.teacher.loss(online, targets)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        self.teacher.after_step(progress)

    def teacher_heads(self) -> dict[str, Tensor]:
        return self.teacher.heads()
