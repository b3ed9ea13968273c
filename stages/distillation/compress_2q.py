"""CompRess with a memory bank each, "Ours-2q" (Abbasi Koohpayegani et al., NeurIPS 2020, section 3).

The student's anchors are embeddings of a key student, a moving average of the student; both banks hold the same images
in the same slots. The key student keeps its own batch-norm statistics: only parameters are averaged, as in the
authors' code.
"""

import copy
import dataclasses
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.distillation import Distillation, teacher_of
from stages.errors import UserError, above_zero
from stages.similarity.kl import similarity_kl
from stages.similarity.queue import AnchorQueue
from stages.training.batches import Batch
from stages.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Options(Recipe):
    temperature: Annotated[float, "of both softmaxes; the paper uses 0.04, and 0.007 for SwAV teachers"] = 0.04
    queue_length: Annotated[int, "anchors in each memory bank"] = 128_000
    momentum: Annotated[
        float, "of the key student; 0: the student's own embeddings are its anchors, there is no key student"
    ] = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(temperature=self.temperature)
        if not 0 <= self.momentum < 1:
            raise UserError(f"--momentum is {self.momentum:g}; expected 0 (no key student) or more, below 1")


class CompRess2q(Distillation):
    """Two aligned memory banks, read before the batch is written, so no image is its own anchor."""

    def __init__(self, student: Encoder, teacher_dimension: int, options: Options) -> None:
        super().__init__(student, teacher_dimension, options)
        self.temperature, self.momentum = options.temperature, options.momentum
        self.student_queue = AnchorQueue(options.queue_length, student.dimension)
        self.teacher_queue = AnchorQueue(options.queue_length, teacher_dimension)
        self.key_student = copy.deepcopy(student).requires_grad_(False) if self.momentum > 0 else None

    def forward(self, batch: Batch) -> Tensor:
        images = batch.views[0]
        student = F.normalize(self.student(images))
        teacher = F.normalize(teacher_of(batch))
        self.student_queue.hold(self._keys(images, student))
        self.teacher_queue.hold(teacher)
        return similarity_kl(student, self.student_queue.anchors, teacher, self.teacher_queue.anchors, self.temperature)

    @torch.no_grad()
    def _keys(self, images: Tensor, student: Tensor) -> Tensor:
        return student if self.key_student is None else F.normalize(self.key_student(images))

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.student_queue.write_held()
        self.teacher_queue.write_held()
        if self.key_student is not None:
            keys: list[Tensor] = list(self.key_student.parameters())
            queries: list[Tensor] = list(self.student.parameters())
            torch._foreach_lerp_(keys, queries, 1 - self.momentum)
