"""The similarity loss against a double loop, the queue against a ring of Python lists."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stages.distillation import seed
from stages.errors import UserError
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


# one pass over blocks of anchors


def whole(
    student: Tensor, near: Tensor, teacher: Tensor, far: Tensor, temperatures: tuple[float, float], mask: Tensor
) -> Tensor:
    """The loss from whole matrices in float64, over the anchors of ``mask`` [B, K]."""
    logits = (student.double() @ near.double().T / temperatures[0]).masked_fill(~mask, -torch.inf)
    goals = (teacher.double() @ far.double().T / temperatures[1]).masked_fill(~mask, -torch.inf)
    logs, targets = logits.log_softmax(dim=1), goals.log_softmax(dim=1)
    return (targets.exp() * (targets - logs).masked_fill(~mask, 0)).sum() / len(student)


@settings(max_examples=60)
@given(
    images=st.integers(1, 6),
    anchors=st.integers(1, 20),
    block=st.integers(1, 25),
    temperature=st.sampled_from([0.0007, 0.007, 0.04, 1.0]),
    leave_out_own=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_blocks_of_any_size_give_the_loss_of_whole_matrices(
    images: int, anchors: int, block: int, temperature: float, leave_out_own: bool, seed: int
) -> None:
    anchors = max(2, images) if leave_out_own else anchors
    student, near, teacher, far = problem(images, anchors, 4, 3, seed)
    student.requires_grad_()
    temperatures = (temperature, temperature / 2)
    mask = ~torch.eye(images, anchors, dtype=torch.bool) if leave_out_own else torch.ones(images, anchors).bool()
    expected = whole(student, near, teacher, far, temperatures, mask)
    sums = fused.blocked_sums(
        fused.Problem(student.detach(), near, teacher, far, temperatures, leave_out_own, True), block
    )
    torch.testing.assert_close(sums.loss(), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        sums.gradient(temperature), torch.autograd.grad(expected, student)[0], rtol=1e-8, atol=1e-9
    )


@settings(max_examples=30)
@given(images=st.integers(1, 5), anchors=st.integers(0, 9), seed=st.integers(0, 2**31))
def test_an_own_anchor_is_one_more_for_each_image_alone(images: int, anchors: int, seed: int) -> None:
    student, near, teacher, far = problem(images, anchors, 4, 3, seed)
    own_near, _, own_far, _ = problem(images, 1, 4, 3, seed + 1)
    student.requires_grad_()
    mask = torch.cat([torch.eye(images), torch.ones(images, anchors)], dim=1).bool()
    everyone = torch.cat([own_near, near]), teacher, torch.cat([own_far, far])
    expected = whole(student, *everyone, (0.2, 0.05), mask)
    found = fused.similarity_kl(student, near, teacher, far, (0.2, 0.05), own=(own_near, own_far))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("temperature", [0.0007, 0.007])
def test_logits_far_apart_are_finite_in_single_precision(temperature: float) -> None:
    """The nearest anchors come first, so that every later weight underflows; and last, so that every earlier does."""
    student = F.normalize(torch.ones(2, 4)).requires_grad_()
    teacher = -student.detach()
    anchors = torch.cat([student.detach()[:1], -student.detach()[:1].expand(fused.BLOCK + 5, -1)])
    for order in (anchors, anchors.flip(0)):
        loss = similarity_kl(student, order, teacher, order, temperature)
        expected = whole(student, order, teacher, order, (temperature,) * 2, torch.ones(2, len(order)).bool())
        torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-4)
        gradients = [torch.autograd.grad(each, student)[0] for each in (loss, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_a_minibatch_of_one_has_no_anchor_and_a_loss_of_zero() -> None:
    student = F.normalize(torch.ones(1, 4)).requires_grad_()
    anchors = MinibatchAnchors()
    anchors.hold(student)
    loss = divergence(student, anchors, student, anchors, SimilarityOptions())
    loss.backward()
    assert loss == 0
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"temperature": 0.0005}, "temperature"),
        ({"temperature": 0.2, "teacher_temperature": 0.0001}, "teacher-temperature"),
    ],
)
def test_half_precision_is_refused_where_it_would_change_the_weights(options: dict[str, float], name: str) -> None:
    of = seed.Options if len(options) > 1 else SimilarityOptions
    of(**options)  # type: ignore[arg-type]
    of(precision="half")
    with pytest.raises(UserError, match=rf"^--precision half with --{name} 0\.000\d: .* or precision single$"):
        of(**options, precision="half")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    student, near, teacher, far = (each.to(dtype) for each in problem(3, 7, 5, 11))
    student.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = similarity_kl(student, near.float(), teacher, far.float(), 0.04)
    single = [each.detach().float() for each in (student, near, teacher, far)]
    expected = similarity_kl(single[0].requires_grad_(), *single[1:], 0.04)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    (gradient,) = torch.autograd.grad(found, student)
    assert torch.equal(gradient, torch.autograd.grad(expected, single[0])[0].to(dtype))


def test_what_waits_for_the_backward_pass_is_the_size_of_the_embeddings() -> None:
    student, *others = problem(3, 70, 5, 11)
    student.requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        loss = similarity_kl(student, *others, 0.04)
    assert [tensor.shape for tensor in kept] == [student.shape]
    with torch.no_grad():
        assert torch.equal(similarity_kl(student, *others, 0.04), loss)


def test_the_scale_of_the_loss_is_the_scale_of_its_gradient() -> None:
    student, *others = problem(3, 7, 5, 11)
    student.requires_grad_()
    once, thrice = (
        torch.autograd.grad(factor * similarity_kl(student, *others, 0.04), student)[0] for factor in (1, 3)
    )
    torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("warm_start", [False, True])
def test_reading_the_queue_copies_nothing(warm_start: bool) -> None:
    queue = AnchorQueue(5, 2, warm_start=warm_start)
    queue.write(rows_from(0, 3))
    assert queue.current.data_ptr() == queue.embeddings.data_ptr()
    assert len(queue.current) == (3 if warm_start else 5)


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
