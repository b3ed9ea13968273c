"""The similarity loss against a double loop, the queue against a ring of Python lists."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stages.similarity.kl import similarity_kl
from stages.similarity.queue import AnchorQueue
from tests.training_fixtures import naive_similarity_kl

TEMPERATURES = (0.007, 0.04, 0.2, 1.0)
SIZES = ((1, 1, 1, 1), (1, 5, 3, 2), (3, 7, 5, 11), (7, 13, 17, 2), (5, 31, 2, 9))
"""Images, anchors, and the dimensions of the student and the teacher."""


def unit(generator: torch.Generator, rows: int, dimension: int) -> Tensor:
    return F.normalize(torch.randn(rows, dimension, generator=generator, dtype=torch.float64))


def problem(images: int, anchors: int, student: int, teacher: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Unit embeddings: student, its anchors, teacher, its anchors."""
    generator = torch.Generator().manual_seed(seed)
    return (
        unit(generator, images, student),
        unit(generator, anchors, student),
        unit(generator, images, teacher),
        unit(generator, anchors, teacher),
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_loss_and_its_gradient_are_those_of_a_double_loop(
    sizes: tuple[int, int, int, int], temperature: float
) -> None:
    student, *others = problem(*sizes)
    student.requires_grad_()
    found, expected = (loss(student, *others, temperature) for loss in (similarity_kl, naive_similarity_kl))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_gradient_is_that_of_finite_differences(temperature: float) -> None:
    student, *others = problem(3, 7, 5, 11)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda own: similarity_kl(own, *others, temperature), (student,), atol=1e-4)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_single_precision_is_as_close_as_its_logits_allow(temperature: float) -> None:
    exact = problem(6, 50, 12, 20)
    found = similarity_kl(*(tensor.float() for tensor in exact), temperature)
    torch.testing.assert_close(found.double(), similarity_kl(*exact, temperature), rtol=1e-4, atol=1e-6)


@settings(deadline=None)
@given(
    sizes=st.tuples(*(st.integers(1, 12),) * 4),
    temperature=st.floats(0.007, 1),
    seed=st.integers(0, 2**31),
)
def test_the_loss_is_never_negative(sizes: tuple[int, int, int, int], temperature: float, seed: int) -> None:
    assert similarity_kl(*problem(*sizes, seed=seed), temperature) >= -1e-12


@settings(deadline=None)
@given(dimension=st.integers(2, 12), anchors=st.integers(2, 20), seed=st.integers(0, 2**31))
def test_the_loss_is_zero_for_a_rotated_teacher_and_positive_once_a_similarity_differs(
    dimension: int, anchors: int, seed: int
) -> None:
    _, _, teacher, teacher_anchors = problem(4, anchors, dimension, dimension, seed)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator, dtype=torch.float64))[0]
    student, student_anchors = teacher @ rotation, teacher_anchors @ rotation
    assert abs(similarity_kl(student, student_anchors, teacher, teacher_anchors, 0.1)) < 1e-10
    student_anchors[0] = -student_anchors[0]
    assert similarity_kl(student, student_anchors, teacher, teacher_anchors, 0.1) > 1e-10


def test_no_gradient_reaches_anchors_or_teacher() -> None:
    tensors = [tensor.requires_grad_() for tensor in problem(3, 7, 5, 11)]
    similarity_kl(*tensors, 0.04).backward()
    assert [tensor.grad is not None for tensor in tensors] == [True, False, False, False]


class Ring:
    """The queue in plain Python: slot by slot, one embedding after the other."""

    def __init__(self, rows: list[list[float]]) -> None:
        self.rows, self.next = rows, 0

    def write(self, rows: list[list[float]]) -> None:
        for row in rows:
            self.rows[self.next] = row
            self.next = (self.next + 1) % len(self.rows)


def rows_from(start: int, count: int) -> Tensor:
    """Embeddings [count, 2] that no two writes share."""
    return torch.arange(start, start + count, dtype=torch.float32)[:, None] + torch.tensor([0.0, 0.5])


@settings(deadline=None)
@given(length=st.integers(1, 13), sizes=st.lists(st.integers(0, 30), max_size=12))
def test_the_queue_is_a_ring(length: int, sizes: list[int]) -> None:
    queue = AnchorQueue(length, 2)
    ring = Ring(queue.anchors.tolist())
    for number, size in enumerate(sizes):
        rows = rows_from(100 * number, size)
        queue.write(rows)
        ring.write(rows.tolist())
        assert queue.anchors.tolist() == ring.rows
        assert int(queue.position) == ring.next


@settings(deadline=None)
@given(length=st.integers(1, 13), before=st.lists(st.integers(0, 30), max_size=5), after=st.integers(0, 30))
def test_a_restored_queue_goes_on_at_its_position(length: int, before: list[int], after: int) -> None:
    queue, restored = AnchorQueue(length, 2), AnchorQueue(length, 2)
    for number, size in enumerate(before):
        queue.write(rows_from(100 * number, size))
    restored.load_state_dict(copy.deepcopy(queue.state_dict()))
    for each in (queue, restored):
        each.write(rows_from(1000, after))
    assert torch.equal(queue.anchors, restored.anchors)


def test_what_is_held_is_written_later_and_without_its_gradient() -> None:
    queue = AnchorQueue(5, 2)
    before = queue.anchors.clone()
    queue.hold(rows_from(0, 2).requires_grad_())
    assert torch.equal(queue.anchors, before)
    assert queue.held is not None
    assert not queue.held.requires_grad, "or it would keep the student's graph alive"
    queue.write_held()
    assert torch.equal(queue.anchors, torch.cat([rows_from(0, 2), before[2:]]))
    assert not queue.anchors.requires_grad


def test_the_first_anchors_are_of_unit_norm_in_expectation() -> None:
    torch.manual_seed(0)
    squares = AnchorQueue(4000, 32).anchors.square().sum(dim=1)
    assert squares.mean() == pytest.approx(1, abs=0.02)
    assert squares.std() > 0.05, "uniform in a cube, not on the sphere"
