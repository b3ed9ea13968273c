"""How far the student's similarities to the anchors are from the teacher's."""

from torch import Tensor

from stages.similarity.anchors import Anchors
from stages.similarity.fused import similarity_kl
from stages.similarity.options import SimilarityOptions


def divergence(
    student: Tensor, student_anchors: Anchors, teacher: Tensor, teacher_anchors: Anchors, options: SimilarityOptions
) -> Tensor:
    """The loss that ``options`` ask for, a scalar.

    Args:
        student: unit embeddings [B, D]; gradient flows to these alone.
        student_anchors: K anchors of their dimension.
        teacher: the teacher's unit embeddings [B, D'] of the same images.
        teacher_anchors: its embeddings of the same K images in the same order.
    """
    if options.divergence == "squared":
        return squared_difference(student_anchors.similarities(student), teacher_anchors.similarities(teacher))
    return similarity_kl(
        student,
        student_anchors.current,
        teacher,
        teacher_anchors.current,
        (options.temperature, options.temperature),
        leave_out_own=student_anchors.leave_out_own,
        precision=options.precision,
    )


def squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference, without softmax or temperature; 0 where there are no anchors yet."""
    differences = student - teacher.detach()
    return differences.square().sum() / max(1, differences.numel())
