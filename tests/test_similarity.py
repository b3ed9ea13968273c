"""The similarity loss against a double loop, the queue against a ring of Python lists."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stages.similarity import fused
from stages.similarity.anchors import MinibatchAnchors, anchors_of
from stages.similarity.divergence import divergence
from stages.similarity.options import SimilarityOptions
from stages.similarity.queue import AnchorQueue
from tests.training_fixtures import naive_similarity_kl, naive_squared_difference

TEMPERATURES = (0.007, 0.04, 0.2, 1.0)
SIZES = ((1, 1, 1, 1), (1, 5, 3, 2), (3, 7, 5, 11), (7, 13, 17, 2), (5, 31, 2, 9))
"""Images, anchors, and the dimensions of the student and the teacher."""


def similarity_kl(student: Tensor, student_anchors: Tensor, teacher: Tensor, anchors: Tensor, t: float) -> Tensor:
    """The loss with one temperature."""
    return fused.similarity_kl(student, student_anchors, teacher, anchors, (t, t))


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


def queue_of(anchors: Tensor) -> AnchorQueue:
    """A memory bank that is full of ``anchors`` [K, D]."""
    queue = AnchorQueue(*anchors.shape).to(anchors.dtype)
    queue.write(anchors)
    return queue


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


@pytest.mark.parametrize("options", [SimilarityOptions(), SimilarityOptions(divergence="squared")])
@pytest.mark.parametrize("kind", ["queue", "minibatch"])
def test_no_gradient_reaches_anchors_or_teacher(kind: str, options: SimilarityOptions) -> None:
    student, teacher, keys = (unit(torch.Generator().manual_seed(n), 3, 5).float().requires_grad_() for n in range(3))
    anchors = MinibatchAnchors() if kind == "minibatch" else AnchorQueue(7, 5)
    anchors.hold(keys)
    divergence(student, anchors, teacher, anchors, options).backward()
    assert student.grad is not None
    assert student.grad.any()
    assert teacher.grad is keys.grad is None
    assert not any(buffer.requires_grad for buffer in anchors.buffers())


# the squared difference


@pytest.mark.parametrize("sizes", SIZES)
def test_the_squared_difference_and_its_gradient_are_those_of_a_double_loop(sizes: tuple[int, int, int, int]) -> None:
    student, student_anchors, teacher, anchors = problem(*sizes)
    student.requires_grad_()
    near, far = queue_of(student_anchors), queue_of(anchors)
    # The temperature is of the softmaxes, so it does not matter.
    for options in (SimilarityOptions(divergence="squared"), SimilarityOptions(divergence="squared", temperature=1.0)):
        found = divergence(student, near, teacher, far, options)
        expected = naive_squared_difference(student, student_anchors, teacher, anchors)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        gradients = [torch.autograd.grad(loss, student)[0] for loss in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


# the anchors


@settings(deadline=None)
@given(batch=st.integers(2, 9), seed=st.integers(0, 2**31))
def test_the_anchors_of_a_minibatch_are_its_other_images_in_their_order(batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries, keys = unit(generator, batch, 4), unit(generator, batch, 4)
    anchors = anchors_of(SimilarityOptions(anchors="minibatch"), 4)
    anchors.hold(keys)
    found = anchors.similarities(queries)
    for row, query in enumerate(queries):
        expected = [float(torch.dot(query, key)) for column, key in enumerate(keys) if column != row]
        assert found[row].tolist() == pytest.approx(expected)
    anchors.write_held()
    assert not anchors.state_dict(), "nothing is kept from one batch to the next"


@settings(deadline=None)
@given(length=st.integers(1, 13), sizes=st.lists(st.integers(1, 9), max_size=6))
def test_with_a_warm_start_the_anchors_are_the_slots_written_so_far(length: int, sizes: list[int]) -> None:
    queue = anchors_of(SimilarityOptions(queue_length=length, warm_start=True), 2)
    assert isinstance(queue, AnchorQueue)
    cold = anchors_of(SimilarityOptions(queue_length=length), 2)
    seen: list[list[float]] = []
    queries = torch.eye(2)
    for number, size in enumerate(sizes):
        found = queue.similarities(queries)
        assert sorted(found.T.tolist()) == sorted(seen[-length:]), "identity queries show the anchors themselves"
        for each in (queue, cold):
            each.hold(rows_from(100 * number, size))
            each.write_held()
        seen += rows_from(100 * number, size).tolist()
    if len(seen) >= length:
        assert torch.equal(queue.similarities(queries), cold.similarities(queries)), "once full, no difference"


@pytest.mark.parametrize("kind", ["kl", "squared"])
def test_without_any_anchor_the_loss_is_zero_with_a_gradient_of_zeros(kind: str) -> None:
    options = SimilarityOptions(queue_length=7, warm_start=True, divergence=kind)  # type: ignore[arg-type]
    queue = anchors_of(options, 5)
    student, teacher = (unit(torch.Generator().manual_seed(n), 3, 5).float().requires_grad_() for n in range(2))
    loss = divergence(student, queue, teacher, queue, options)
    loss.backward()
    assert loss == 0
    assert student.grad is not None
    assert not student.grad.any()


# the queue


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
    ring = Ring(queue.embeddings.tolist())
    for number, size in enumerate(sizes):
        rows = rows_from(100 * number, size)
        queue.write(rows)
        ring.write(rows.tolist())
        assert queue.embeddings.tolist() == ring.rows
        assert int(queue.written) % length == ring.next


@settings(deadline=None)
@given(length=st.integers(1, 13), before=st.lists(st.integers(0, 30), max_size=5), after=st.integers(0, 30))
def test_a_restored_queue_goes_on_at_its_position(length: int, before: list[int], after: int) -> None:
    queue, restored = AnchorQueue(length, 2), AnchorQueue(length, 2)
    for number, size in enumerate(before):
        queue.write(rows_from(100 * number, size))
    restored.load_state_dict(copy.deepcopy(queue.state_dict()))
    for each in (queue, restored):
        each.write(rows_from(1000, after))
    assert torch.equal(queue.embeddings, restored.embeddings)


def test_what_is_held_is_written_later_and_without_its_gradient() -> None:
    queue = AnchorQueue(5, 2)
    before = queue.embeddings.clone()
    queue.hold(rows_from(0, 2).requires_grad_())
    assert torch.equal(queue.embeddings, before)
    assert queue.held is not None
    assert not queue.held.requires_grad, "or it would keep the student's graph alive"
    queue.write_held()
    assert torch.equal(queue.embeddings, torch.cat([rows_from(0, 2), before[2:]]))
    assert not queue.embeddings.requires_grad


def test_the_first_anchors_are_of_unit_norm_in_expectation() -> None:
    torch.manual_seed(0)
    squares = AnchorQueue(4000, 32).embeddings.square().sum(dim=1)
    assert squares.mean() == pytest.approx(1, abs=0.02)
    assert squares.std() > 0.05, "uniform in a cube, not on the sphere"
