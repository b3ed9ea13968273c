"""The kernel, in Triton's interpreter, against the blocked sums in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.similarity import fused

pytest.importorskip("triton", reason="this torch comes without Triton")
from stages.similarity import kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def unit(seed: int, rows: int, dimension: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dimension, generator=generator, dtype=torch.float64))


def problem(images: int, anchors: int, temperature: float, *, leave_out_own: bool, gradient: bool) -> fused.Problem:
    """A student of 70 dimensions and a teacher of 20, whose temperature is half of the student's."""
    sides = unit(0, images, 70), unit(1, anchors, 70), unit(2, images, 20), unit(3, anchors, 20)
    temperatures = temperature, temperature / 2
    return fused.Problem(*(side.to(DEVICE) for side in sides), temperatures, leave_out_own, gradient)


def single(exact: fused.Problem) -> fused.Problem:
    sides = exact.student, exact.student_anchors, exact.teacher, exact.teacher_anchors
    return fused.Problem(
        *(side.float() for side in sides), exact.temperatures, exact.leave_out_own, exact.with_gradient
    )


@pytest.mark.parametrize(
    ("images", "anchors", "temperature", "leave_out_own", "gradient"),
    [
        pytest.param(3, 300, 0.04, False, True, id="two chunks, the last with a part of a tile"),
        pytest.param(1, 1, 0.2, False, True, id="one image, one anchor"),
        pytest.param(5, 5, 0.007, True, True, id="each without its own"),
        pytest.param(3, 130, 0.0007, False, False, id="sharp, no gradient"),
    ],
)
def test_the_kernel_is_as_close_as_half_precision_allows(
    images: int, anchors: int, temperature: float, leave_out_own: bool, gradient: bool
) -> None:
    exact = problem(images, anchors, temperature, leave_out_own=leave_out_own, gradient=gradient)
    found, expected = kernel.sums(single(exact), chunk=256), fused.blocked_sums(exact)
    # A similarity of unit vectors is off by 1e-3 at the most, and a logit by that over the lower temperature.
    error = 1e-3 / (temperature / 2)
    torch.testing.assert_close(found.shift.double(), expected.shift, rtol=0, atol=error)
    torch.testing.assert_close(found.loss().double(), expected.loss(), rtol=1e-3, atol=0.1 * error)
    if not gradient:
        assert not found.output.numel()
        return
    gradients = [sums.gradient(temperature).double() for sums in (found, expected)]
    assert (gradients[0] - gradients[1]).norm() <= 1e-2 * gradients[1].norm() + 1e-6


def test_the_kernel_gives_the_same_twice() -> None:
    exact = single(problem(2, 200, 0.04, leave_out_own=False, gradient=True))
    assert all(torch.equal(*pair) for pair in zip(*(vars(kernel.sums(exact)).values() for _ in range(2)), strict=True))
