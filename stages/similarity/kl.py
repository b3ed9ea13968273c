"""CompRess's loss: the student is to rank the anchors as the teacher does."""

from torch import Tensor
from torch.nn import functional as F


def similarity_kl(
    student: Tensor, student_anchors: Tensor, teacher: Tensor, teacher_anchors: Tensor, temperature: float
) -> Tensor:
    """KL(p(teacher) || p(student)), summed over anchors, mean over the batch (CompRess, section 3; a scalar).

    p is the softmax over anchors of similarity / temperature, with one temperature on both sides. It is a true KL: the
    teacher's entropy is subtracted, so that the least loss is 0.

    Args:
        student: unit embeddings [B, M].
        student_anchors: what they are compared with [K, M]; no gradient flows to them.
        teacher: unit embeddings [B, N] of the same images.
        teacher_anchors: [K, N], in equal slots the same images as in ``student_anchors``.
    """
    student_logits = student @ student_anchors.detach().T / temperature
    teacher_logits = teacher.detach() @ teacher_anchors.detach().T / temperature
    return F.kl_div(
        F.log_softmax(student_logits, dim=1),
        F.log_softmax(teacher_logits, dim=1),
        log_target=True,
        reduction="batchmean",
    )
