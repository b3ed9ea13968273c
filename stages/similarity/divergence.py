"""How far the student's similarities to the anchors are from the teacher's."""

from torch import Tensor
from torch.nn import functional as F

from stages.similarity.options import SimilarityOptions


def divergence(student: Tensor, teacher: Tensor, options: SimilarityOptions) -> Tensor:
    """The loss that ``options`` ask for, a scalar.

    Args:
        student: cosine similarities [B, K] of the student's embeddings to K anchors.
        teacher: those of the teacher's embeddings of the same images, to the same anchors in the same order.
    """
    if options.divergence == "squared":
        return squared_difference(student, teacher)
    return similarity_kl(student, teacher, options.temperature)


def similarity_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(p(teacher) || p(student)), summed over anchors, mean over the batch (CompRess, section 3).

    p is the softmax over anchors of similarity / temperature, with one temperature on both sides. It is a true KL: the
    teacher's entropy is subtracted, so that the least loss is 0.
    """
    return F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher.detach() / temperature, dim=1),
        log_target=True,
        reduction="batchmean",
    )


def squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference, without softmax or temperature; 0 where there are no anchors yet."""
    differences = student - teacher.detach()
    return differences.square().sum() / max(1, differences.numel())
