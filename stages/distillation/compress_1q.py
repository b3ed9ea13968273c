"""CompRess with the teacher's memory bank for both, "Ours-1q" (Abbasi Koohpayegani et al., NeurIPS 2020, section 3).

The student needs the teacher's dimension: one linear layer, trained with it and thrown away (confirmed by the authors
in the issues of their repository; the paper does not describe it).
"""

import dataclasses
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.distillation import Distillation, teacher_of
from stages.errors import above_zero
from stages.similarity.kl import similarity_kl
from stages.similarity.queue import AnchorQueue
from stages.training.batches import Batch
from stages.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Options(Recipe):
    temperature: Annotated[float, "of both softmaxes; the paper uses 0.04, and 0.007 for SwAV teachers"] = 0.04
    queue_length: Annotated[int, "anchors in the memory bank"] = 128_000

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(temperature=self.temperature)


class CompRess1q(Distillation):
    """Anchors are the teacher's; they are read before the batch is written, so no image is its own anchor."""

    def __init__(self, student: Encoder, teacher_dimension: int, options: Options) -> None:
        super().__init__(student, teacher_dimension, options)
        self.head = nn.Linear(student.dimension, teacher_dimension)
        self.queue = AnchorQueue(options.queue_length, teacher_dimension)
        self.temperature = options.temperature

    def forward(self, batch: Batch) -> Tensor:
        student = F.normalize(self.head(self.student(batch.views[0])))
        teacher = F.normalize(teacher_of(batch))
        self.queue.hold(teacher)
        return similarity_kl(student, self.queue.anchors, teacher, self.queue.anchors, self.temperature)

    def after_step(self, progress: float) -> None:
        self.queue.write_held()
