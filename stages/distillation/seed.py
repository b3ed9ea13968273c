"""SEED: "Self-supervised Distillation for Visual Representation" (Fang et al., ICLR 2021).

Like CompRess with one memory bank, the teacher's, and its own temperature for the teacher; and the image's own teacher
embedding is one more anchor, the first. Embeddings are the teacher's projections, by the head that its own training has
left. Two things differ from the authors' code: the loss here is the divergence, which is their cross entropy less the
teacher's entropy, so the gradient is the same; and their memory bank begins with unit vectors, ours with vectors of
unit norm in expectation.
"""

import dataclasses
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.distillation import Distillation, Setting, teacher_of
from stages.errors import above_zero, at_least
from stages.similarity.fused import similarity_kl
from stages.similarity.options import Precision, not_too_sharp
from stages.similarity.queue import AnchorQueue
from stages.training.batches import Batch
from stages.training.recipe import Epochs, LearningRate, Schedule, TrainingRecipe


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    epochs: Epochs = 200
    learning_rate: LearningRate = 0.03
    schedule: Schedule = "cosine"
    temperature: Annotated[float, "of the student's softmax"] = 0.2
    teacher_temperature: Annotated[float, "of the teacher's softmax; the authors' code uses 0.0001"] = 0.01
    queue_length: Annotated[int, "anchors in the memory bank"] = 65_536
    precision: Precision = "single"
    teacher_head: Annotated[
        bool, "learn from the teacher's projections, by its own head; false: from its embeddings, as CompRess does"
    ] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(temperature=self.temperature, teacher_temperature=self.teacher_temperature)
        at_least(1, queue_length=self.queue_length)
        not_too_sharp(self.precision, temperature=self.temperature, teacher_temperature=self.teacher_temperature)


class SEED(Distillation):
    """Anchors are the image's own teacher embedding and the teacher's memory bank, read before it is written."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        super().__init__(student, setting, options)
        self.head = nn.Sequential(
            nn.Linear(student.dimension, student.dimension),
            nn.ReLU(inplace=True),
            nn.Linear(student.dimension, setting.teacher_dimension),
        )
        self.queue = AnchorQueue(options.queue_length, setting.teacher_dimension)

    def forward(self, batch: Batch) -> Tensor:
        student = F.normalize(self.head(self.student(batch.views[0])))
        teacher = F.normalize(teacher_of(batch))
        self.queue.hold(teacher)
        anchors = self.queue.current
        temperatures = self.options.temperature, self.options.teacher_temperature
        return similarity_kl(
            student, anchors, teacher, anchors, temperatures, own=(teacher, teacher), precision=self.options.precision
        )

    def after_step(self, progress: float) -> None:
        self.queue.write_held()
