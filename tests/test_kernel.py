"""The kernel, in Triton's interpreter, against the blocked sums in float64."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.similarity import fused

pytest.importorskip("triton", reason="this torch comes without Triton")
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend

from stages.errors import UserError
from stages.similarity import kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def unit(seed: int, rows: int, dimension: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dimension, generator=generator, dtype=torch.float64))


def problem(
    images: int,
    anchors: int,
    temperature: float,
    *,
    leave_out_own: bool,
    gradient: bool,
    dimensions: tuple[int, int] = (70, 20),
) -> fused.Problem:
    """A student and a teacher of these dimensions; the teacher's temperature is half of the student's."""
    student, teacher = dimensions
    sides = unit(0, images, student), unit(1, anchors, student), unit(2, images, teacher), unit(3, anchors, teacher)
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


@pytest.fixture
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter runs one after the other."""
    monkeypatch.setattr(kernel, "PROGRAMS", 16)


@pytest.mark.usefixtures("few_programs")
@pytest.mark.parametrize(
    ("images", "anchors", "leave_out_own", "dimensions"),
    [
        pytest.param(130, 300, False, (70, 20), id="two blocks of rows"),
        pytest.param(257, 257, True, (64, 128), id="three blocks of rows, full depths, each without its own"),
    ],
)
def test_a_batch_of_several_blocks_of_rows_has_the_rows_of_each(
    images: int, anchors: int, leave_out_own: bool, dimensions: tuple[int, int]
) -> None:
    exact = problem(images, anchors, 0.04, leave_out_own=leave_out_own, gradient=True, dimensions=dimensions)
    found, expected = kernel.sums(single(exact), chunk=128), fused.blocked_sums(exact)
    torch.testing.assert_close(found.shift.double(), expected.shift, rtol=0, atol=0.05)
    torch.testing.assert_close(found.loss().double(), expected.loss(), rtol=1e-3, atol=0)
    one, other = (sums.gradient(0.04).double() for sums in (found, expected))
    # Each row for itself: no block's error is hidden among the others.
    assert ((one - other).norm(dim=1) <= 1e-2 * other.norm(dim=1)).all()


@pytest.mark.usefixtures("few_programs")
def test_anchors_may_be_in_half_precision_themselves() -> None:
    exact = problem(3, 130, 0.04, leave_out_own=False, gradient=True)
    near, far = exact.student_anchors.half(), exact.teacher_anchors.half()
    stored = dataclasses.replace(single(exact), student_anchors=near, teacher_anchors=far)
    wide = dataclasses.replace(stored, student_anchors=near.float(), teacher_anchors=far.float())
    assert all(
        torch.equal(*pair) for pair in zip(*(vars(kernel.sums(each)).values() for each in (stored, wide)), strict=True)
    )


def test_the_kernel_is_called_where_it_is_asked_for_and_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = single(problem(3, 20, 0.04, leave_out_own=False, gradient=True))
    called: list[fused.Problem] = []
    monkeypatch.setattr(kernel, "sums", lambda problem: called.append(problem) or fused.blocked_sums(problem))
    monkeypatch.setattr(fused, "half_precision_runs_on", lambda _: True)
    sides = exact.student, exact.student_anchors, exact.teacher, exact.teacher_anchors
    fused.similarity_kl(*sides, exact.temperatures)
    assert not called
    fused.similarity_kl(*sides, exact.temperatures, precision="half")
    assert len(called) == 1
    monkeypatch.setattr(fused, "half_precision_runs_on", lambda _: False)
    with pytest.raises(UserError, match=r"^--precision half needs an NVIDIA GPU .*: leave it at single$"):
        fused.similarity_kl(*sides, exact.temperatures, precision="half")


def test_the_kernel_gives_the_same_twice() -> None:
    exact = single(problem(2, 200, 0.04, leave_out_own=False, gradient=True))
    assert all(torch.equal(*pair) for pair in zip(*(vars(kernel.sums(exact)).values() for _ in range(2)), strict=True))


@pytest.mark.parametrize("default", ["0", "1"])
def test_tritons_default_for_fused_multiply_adds_changes_nothing(default: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", default)
    backend = CUDABackend(GPUTarget("cuda", 80, 32))
    assert backend.parse_options(dict(kernel.LAUNCH)).enable_fp_fusion
