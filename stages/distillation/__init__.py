"""Ways to train a student from a teacher, one module a method, each with ``Options`` and a `Distillation`."""

from typing import Any

from torch import Tensor

from stages.architectures import Encoder
from stages.training.batches import Batch
from stages.training.objective import Objective


class Distillation(Objective):
    """An objective built from a fresh student, the teacher's embedding dimension and the method's options."""

    def __init__(self, student: Encoder, teacher_dimension: int, options: Any) -> None:
        super().__init__()
        self.student = student
        self.options = options


def teacher_of(batch: Batch) -> Tensor:
    """The batch's teacher embeddings [B, D], which the distill stage has put there."""
    assert batch.teacher is not None
    return batch.teacher
