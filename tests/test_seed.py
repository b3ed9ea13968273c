"""SEED against the authors' cross entropy, written out anchor by anchor."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stages.distillation import Setting, seed
from tests.training_fixtures import FlatStudent, batch_of, images_seeded

TEACHER, LENGTH = 5, 13
SIZES = [5, 3, 7, 2, 6, 20]
"""Of the batches: the queue is wrapped around twice, the second time by one batch longer than it."""


def objective_of(**changed: Any) -> seed.SEED:
    torch.manual_seed(0)
    options = seed.Options(**{"queue_length": LENGTH, "teacher_temperature": 0.1, **changed})
    return seed.SEED(FlatStudent(9), Setting(TEACHER, 50), options).double()  # type: ignore[arg-type]


def problem(number: int, size: int) -> tuple[Tensor, Tensor]:
    """Images and what the teacher says of them, not normalised."""
    generator = torch.Generator().manual_seed(number)
    teacher = 5 * torch.randn(size, TEACHER, generator=generator, dtype=torch.float64)
    return images_seeded(number, size, 4).double(), teacher


def head(objective: seed.SEED, images: Tensor) -> Tensor:
    """The student's unit embedding in the teacher's dimension, by hand."""
    first, _, second = objective.head
    hidden = (objective.student(images) @ first.weight.T + first.bias).clamp(min=0)
    return F.normalize(hidden @ second.weight.T + second.bias)


def log_softmax(values: list[Tensor]) -> list[Tensor]:
    largest = max(value.item() for value in values)
    total = sum((torch.exp(value - largest) for value in values), torch.zeros((), dtype=torch.float64))
    return [value - largest - torch.log(total) for value in values]


def cross_entropy(
    student: Tensor, teacher: Tensor, anchors: Tensor, temperature: float, teacher_temperature: float
) -> tuple[Tensor, float]:
    """The authors' loss, the image's own teacher embedding before the anchors; and the mean entropy of its targets."""
    total, entropy = torch.zeros((), dtype=torch.float64), 0.0
    for own, target in zip(student, teacher, strict=True):
        every = [target, *anchors]
        logs = log_softmax([torch.dot(own, anchor) / temperature for anchor in every])
        goals = [math.exp(value) for value in log_softmax([target @ anchor / teacher_temperature for anchor in every])]
        for goal, log in zip(goals, logs, strict=True):
            total = total - goal * log
            entropy -= goal * math.log(goal) if goal > 0 else 0.0
    return total / len(student), entropy / len(student)


def test_the_loss_is_the_authors_less_the_teachers_entropy_and_the_gradient_theirs() -> None:
    objective = objective_of()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    ring = [row.clone() for row in objective.queue.embeddings]
    written = 0
    for number, size in enumerate(SIZES):
        images, raw = problem(number, size)
        teacher = F.normalize(raw)
        theirs, entropy = cross_entropy(head(objective, images), teacher, torch.stack(ring), 0.2, 0.1)
        gradients = torch.autograd.grad(theirs, list(objective.parameters()))
        found = objective(batch_of(images, raw))
        torch.testing.assert_close(found, theirs - entropy, rtol=1e-9, atol=1e-12)
        optimizer.zero_grad()
        found.backward()
        for parameter, gradient in zip(objective.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-12)
        optimizer.step()
        assert torch.equal(objective.queue.embeddings, torch.stack(ring)), "read, not written yet"
        objective.after_step(0.5)
        for row in teacher:
            ring[written % LENGTH] = row
            written += 1
        torch.testing.assert_close(objective.queue.embeddings, torch.stack(ring), rtol=0, atol=0)


def test_the_order_of_the_queue_does_not_matter() -> None:
    objective = objective_of()
    images, raw = problem(0, 6)
    found = objective(batch_of(images, raw))
    with torch.no_grad():
        objective.queue.embeddings.copy_(objective.queue.embeddings[torch.randperm(LENGTH)].clone())
    torch.testing.assert_close(objective(batch_of(images, raw)), found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("teacher_temperature", [1e-4, 1e-2])
def test_a_sharp_teacher_is_a_contrast_with_its_own_embedding(teacher_temperature: float) -> None:
    """Then the targets are the images' own teacher embeddings: the cross entropy of InfoNCE against the teacher."""
    objective = objective_of(teacher_temperature=teacher_temperature, queue_length=3).float()
    # Anchors that are far from every image of the batch.
    raw = torch.eye(TEACHER)[:2]
    with torch.no_grad():
        objective.queue.embeddings.copy_(-torch.eye(TEACHER)[:3])
    images = images_seeded(0, 2, 4)
    student = F.normalize(objective.head(objective.student(images)))
    logits = torch.cat([(student * raw).sum(dim=1, keepdim=True), student @ objective.queue.embeddings.T], dim=1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(objective(batch_of(images, raw)), expected, rtol=1e-4, atol=1e-5)


def test_no_gradient_reaches_the_teacher_or_the_queue() -> None:
    objective = objective_of()
    images, raw = problem(0, 6)
    raw.requires_grad_()
    objective(batch_of(images, raw)).backward()
    assert raw.grad is None
    assert not any(buffer.requires_grad for buffer in objective.buffers())


def test_the_published_settings_are_the_default() -> None:
    options = seed.Options()
    assert (options.epochs, options.learning_rate, options.schedule) == (200, 0.03, "cosine")
    assert (options.temperature, options.queue_length, options.batch_size) == (0.2, 65_536, 256)
    assert (options.teacher_temperature, options.teacher_head, options.precision) == (0.01, True, "single")
