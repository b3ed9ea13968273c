"""The similarity loss and its gradient in one pass over blocks of anchors, without a [B, K] matrix.

With logits s_k = s.a_k / T and u_k = t.b_k / T' of one image's student and teacher embeddings s and t, and the
anchors a_k and b_k,

    KL(softmax(u) || softmax(s)) = sum_k softmax(u)_k (u_k - s_k) - log sum_k exp u_k + log sum_k exp s_k
    d KL / d s                   = (sum_k softmax(s)_k a_k - sum_k softmax(u)_k a_k) / T

Each sum runs over anchors, so it can be had block by block, under the running maximum of the logits (Milakov and
Gimelshein, "Online normalizer calculation for softmax", 2018). The gradient is known with the loss, and all that waits
for the backward pass is [B, D].
"""

import dataclasses
import importlib.util
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from stages.errors import UserError
from stages.similarity.options import Precision

BLOCK = 2048
"""Anchors at once: logits of a usual batch of 256 then stay in a CPU's cache."""

BLOCKS = {"cuda": 16_384}
"""Anchors at once on a kind of device that wants more: each block is two dozen calls, which take a GPU longer than
their work where that is little. Three matrices of a block are held, in single precision 50 MB for 256 images.
"""


def similarity_kl(
    student: Tensor,
    student_anchors: Tensor,
    teacher: Tensor,
    teacher_anchors: Tensor,
    temperatures: tuple[float, float],
    *,
    leave_out_own: bool = False,
    own: tuple[Tensor, Tensor] | None = None,
    precision: Precision = "single",
) -> Tensor:
    """KL(p(teacher) || p(student)), summed over anchors, mean over the batch (CompRess, section 3; SEED, section 3.2).

    p is the softmax over anchors of similarity / temperature. It is a true KL: the teacher's entropy is subtracted, so
    that the least loss is 0. That is also the loss where there is no anchor. Embeddings in half precision are
    computed in single.

    Args:
        student: embeddings [B, D]; gradient flows to these alone, once.
        student_anchors: [K, D].
        teacher: embeddings [B, D'] of the same images.
        teacher_anchors: [K, D'], of the same images as ``student_anchors``.
        temperatures: the student's and the teacher's.
        leave_out_own: anchor i is not one for image i.
        own: one more anchor for each image, as the student's [B, D] and the teacher's [B, D'] are compared with it.
        precision: half rounds the operands of all products but those with ``own``, and is by Triton (`kernel`).

    Raises:
        UserError: half precision is asked for where the kernel cannot run.
    """
    if own is None and len(student_anchors) - leave_out_own <= 0:
        return student.sum() * 0
    dtype = torch.promote_types(student.dtype, torch.float32)
    problem = Problem(
        student.detach().to(dtype),
        student_anchors.detach(),
        teacher.detach().to(dtype),
        teacher_anchors.detach(),
        temperatures,
        leave_out_own,
        student.requires_grad and torch.is_grad_enabled(),
        precision,
    )
    rows = None if own is None else (own[0].detach().to(dtype), own[1].detach().to(dtype))
    return _Fused.apply(student.to(dtype), problem, rows)


@dataclasses.dataclass(frozen=True)
class Problem:
    """The arguments of `similarity_kl`, and whether the gradient is wanted."""

    student: Tensor
    student_anchors: Tensor
    teacher: Tensor
    teacher_anchors: Tensor
    temperatures: tuple[float, float]
    leave_out_own: bool
    with_gradient: bool
    precision: Precision = "single"


@dataclasses.dataclass(frozen=True)
class Sums:
    """The sums over some of the anchors; with index 0 the student's weights exp(s_k - shift), with 1 the teacher's.

    shift: [2, B], the largest logit, or the lowest number where there is no anchor.
    total: [2, B], of the weights.
    cross: [B], of the teacher's weights times (u_k - s_k).
    output: [2, B, D], of the weights times the student's anchors; D is 0 where no gradient is wanted.
    """

    shift: Tensor
    total: Tensor
    cross: Tensor
    output: Tensor

    def merged(self, other: "Sums") -> "Sums":
        """The sums over the anchors of both."""
        shift = torch.maximum(self.shift, other.shift)
        mine, its = torch.exp(self.shift - shift), torch.exp(other.shift - shift)
        return Sums(
            shift,
            self.total * mine + other.total * its,
            self.cross * mine[1] + other.cross * its[1],
            self.output * mine[..., None] + other.output * its[..., None],
        )

    def loss(self) -> Tensor:
        """The mean divergence over the batch."""
        log_sums = self.shift + self.total.log()
        return (self.cross / self.total[1] - log_sums[1] + log_sums[0]).mean()

    def gradient(self, temperature: float) -> Tensor:
        """The gradient [B, D] of `loss` for the student's embeddings, whose temperature it is."""
        student, teacher = self.output / self.total[..., None]
        return (student - teacher) / (temperature * len(student))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, problem: Problem, own: tuple[Tensor, Tensor] | None) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            sums = _sums(problem)
            if own is not None:
                sums = sums.merged(own_sums(problem, own))
        if problem.with_gradient:
            ctx.save_for_backward(sums.gradient(problem.temperatures[0]))
        return sums.loss()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return upstream * gradient, None, None


def _sums(problem: Problem) -> Sums:
    """The sums over all anchors, in the precision that is asked for."""
    if problem.precision == "single":
        return blocked_sums(problem)
    if not half_precision_runs_on(problem.student.device):
        raise UserError(
            f"--precision half needs an NVIDIA GPU of compute capability 8.0 or later and a PyTorch with Triton; this "
            f"is {problem.student.device}: leave it at single"
        )
    from stages.similarity import kernel

    return kernel.sums(problem)


def half_precision_runs_on(device: torch.device) -> bool:
    """Whether there is a kernel for the device: tiles need the shared memory of NVIDIA's Ampere or later."""
    return (
        device.type == "cuda"
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and importlib.util.find_spec("triton") is not None
    )


def blocked_sums(problem: Problem, block: int = 0) -> Sums:
    """The sums over all anchors, ``block`` of them at a time, by default as many as suit the device."""
    block = block or BLOCKS.get(problem.student.device.type, BLOCK)
    student = problem.student / problem.temperatures[0]
    teacher = problem.teacher / problem.temperatures[1]
    sums = _none(student, problem.with_gradient)
    for start in range(0, len(problem.student_anchors), block):
        near = problem.student_anchors[start : start + block].to(student.dtype)
        far = problem.teacher_anchors[start : start + block].to(student.dtype)
        logits = student.new_empty(2, len(student), len(near))
        torch.mm(student, near.T, out=logits[0])
        torch.mm(teacher, far.T, out=logits[1])
        difference = logits[1] - logits[0]
        if problem.leave_out_own:
            logits.diagonal(-start, 1, 2).fill_(-torch.inf)
        # An image whose only anchor here is left out has no finite logit.
        shift = logits.amax(dim=2).clamp(min=torch.finfo(logits.dtype).min)
        weights = logits.sub_(shift[..., None]).exp_()
        output = weights @ near if problem.with_gradient else sums.output
        sums = sums.merged(Sums(shift, weights.sum(dim=2), difference.mul_(weights[1]).sum(dim=1), output))
    return sums


def own_sums(problem: Problem, own: tuple[Tensor, Tensor]) -> Sums:
    """The sums over one anchor for each image, ``own``: its weight is 1."""
    near, far = own
    logits = torch.stack(
        [
            (problem.student * near).sum(dim=1) / problem.temperatures[0],
            (problem.teacher * far).sum(dim=1) / problem.temperatures[1],
        ]
    )
    output = near if problem.with_gradient else near[:, :0]
    return Sums(logits, torch.ones_like(logits), logits[1] - logits[0], output.expand(2, -1, -1))


def _none(student: Tensor, with_gradient: bool) -> Sums:
    """The sums over no anchor."""
    count, dimension = student.shape
    return Sums(
        student.new_full((2, count), torch.finfo(student.dtype).min),
        student.new_zeros(2, count),
        student.new_zeros(count),
        student.new_zeros(2, count, dimension if with_gradient else 0),
    )
