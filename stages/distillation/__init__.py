"""Ways to train a student from a teacher, one module a method, each with ``Options`` and a `Distillation`.

A method learns from the teacher's embeddings, unless its module says otherwise. ``TEACHER = "assignments"``: from the
clusters of the teacher's embeddings, of which its options name the number, ``clusters``. ``TEACHER = "networks"``: from
the networks that the teacher was trained with, which the method runs itself. ``TEACHER = "online"``: from a teacher
that the method trains along with the student. ``AUGMENTATION`` and ``HEADS`` are as in `stages.pretraining`.
"""

import dataclasses
from typing import Any

from torch import Tensor

from stages.architectures import Encoder
from stages.training.batches import Batch
from stages.training.networks import Networks
from stages.training.objective import Objective


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a method may need to know beside its options: the teacher's dimension, how many training images.

    ``clusters`` is their number where the teacher is known by its clusters, else 0; ``networks`` are the teacher's
    where the method runs them itself; ``teacher`` is a fresh encoder where the method trains it along.
    """

    teacher_dimension: int
    images: int
    clusters: int = 0
    networks: Networks | None = None
    teacher: Encoder | None = None


class Distillation(Objective):
    """An objective built from a fresh student, the setting and the method's options."""

    def __init__(self, student: Encoder, setting: Setting, options: Any) -> None:
        super().__init__()
        self.student = student
        self.options = options

    def advice(self) -> str:
        return f"{super().advice()} and their teacher's embeddings"

    def teacher_heads(self) -> dict[str, Tensor]:
        """What a later method may need of a teacher that was trained along, beside its backbone."""
        return {}


def teacher_of(batch: Batch) -> Tensor:
    """What the distill stage has put in the batch: the teacher's embeddings [B, D], or its images' clusters [B].

    No gradient flows to it.
    """
    assert batch.frozen_output is not None
    return batch.frozen_output.detach()
