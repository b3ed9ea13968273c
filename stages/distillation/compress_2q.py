"""CompRess with a memory bank each, "Ours-2q" (Abbasi Koohpayegani et al., NeurIPS 2020, section 3).

The student's anchors are embeddings of a key student, a moving average of the student; both banks hold the same images
in the same slots. The key student keeps its own batch-norm statistics: only parameters are averaged, as in the
authors' code.
"""

import dataclasses
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.architectures import Encoder
from stages.distillation import Distillation, Setting, teacher_of
from stages.errors import below_one
from stages.similarity.anchors import anchors_of
from stages.similarity.divergence import divergence
from stages.similarity.options import SimilarityOptions
from stages.training.batch_norms import batch_norms_in
from stages.training.batches import Batch
from stages.training.momentum import ema_update, frozen


@dataclasses.dataclass(frozen=True)
class Options(SimilarityOptions):
    momentum: Annotated[
        float, "of the key student; 0: the student's own embeddings are its anchors, there is no key student"
    ] = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        below_one(momentum=self.momentum)


class CompRess2q(Distillation):
    """Two aligned memory banks, read before the batch is written, so anchors are of earlier batches."""

    def __init__(self, student: Encoder, setting: Setting, options: Options) -> None:
        super().__init__(student, setting, options)
        self.student_anchors = anchors_of(options, student.dimension)
        self.teacher_anchors = anchors_of(options, setting.teacher_dimension)
        self.key_student = frozen(student) if options.momentum > 0 else None

    def train(self, mode: bool = True) -> "CompRess2q":
        """As usual, but for the key student: of it only the batch norms train, so its embeddings are not of chance."""
        super().train(mode)
        if self.key_student is not None:
            self.key_student.eval()
            for norm in batch_norms_in(self.key_student):
                norm.train(mode)
        return self

    def forward(self, batch: Batch) -> Tensor:
        images = batch.views[0]
        student = F.normalize(self.student(images))
        teacher = F.normalize(teacher_of(batch))
        self.student_anchors.hold(self._keys(images, student))
        self.teacher_anchors.hold(teacher)
        return divergence(student, self.student_anchors, teacher, self.teacher_anchors, self.options)

    @torch.no_grad()
    def _keys(self, images: Tensor, student: Tensor) -> Tensor:
        return student if self.key_student is None else F.normalize(self.key_student(images))

    def after_step(self, progress: float) -> None:
        self.student_anchors.write_held()
        self.teacher_anchors.write_held()
        if self.key_student is not None:
            ema_update(self.key_student, self.student, self.options.momentum)
