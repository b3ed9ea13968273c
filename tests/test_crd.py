"""CRD against its equations written out image by image, its memories, and what a step of it takes."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stages.distillation import Setting, crd
from stages.errors import UserError
from stages.training.batches import Batch
from tests.training_fixtures import FlatStudent, images_seeded

IMAGES, TEACHER, NEGATIVES, TEMPERATURE = 11, 6, 7, 0.3
EPSILON = 1e-7
SIZES = [5, 3, 7, 2, 6, 1]


def objective_of(**changed: Any) -> crd.CRD:
    torch.manual_seed(0)
    options = {"dimension": 4, "negatives": NEGATIVES, "temperature": TEMPERATURE, **changed}
    return crd.CRD(FlatStudent(9), Setting(TEACHER, IMAGES), crd.Options(**options)).double()  # type: ignore[arg-type]


def batch_seeded(seed: int, size: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(IMAGES, generator=generator)[:size]
    teacher = 5 * torch.randn(size, TEACHER, generator=generator, dtype=torch.float64)
    return Batch((images_seeded(seed, size, 4).double(),), rows, rows, teacher)


def embedded(objective: crd.CRD, batch: Batch) -> tuple[Tensor, Tensor]:
    """Student and teacher in the common space, by hand; with their gradients."""
    student = objective.student(batch.views[0]) @ objective.student_head.weight.T + objective.student_head.bias
    assert batch.frozen_output is not None
    teacher = batch.frozen_output @ objective.teacher_head.weight.T + objective.teacher_head.bias
    return student / student.norm(dim=1, keepdim=True), teacher / teacher.norm(dim=1, keepdim=True)


class Naive:
    """The paper's estimator, one similarity at a time. ``memory`` and ``z`` are by whose embeddings are remembered."""

    def __init__(self, objective: crd.CRD) -> None:
        self.memory = {
            "student": objective.student_memory.embeddings.clone(),
            "teacher": objective.teacher_memory.embeddings.clone(),
        }
        self.z: dict[str, Tensor] = {}

    def loss(self, of: str, queries: Tensor, contrasted: list[list[int]]) -> Tensor:
        """The loss of ``queries`` against the memory ``of`` the other network."""
        memory = self.memory[of]
        scores = [
            [torch.exp(torch.dot(query, memory[image]) / TEMPERATURE) for image in row]
            for query, row in zip(queries, contrasted, strict=True)
        ]
        if of not in self.z:
            self.z[of] = torch.stack([score for row in scores for score in row]).mean().detach() * IMAGES
        noise = NEGATIVES * (1 / IMAGES)
        total = torch.zeros((), dtype=torch.float64)
        for row in scores:
            own, *others = (score / self.z[of] for score in row)
            total = total - torch.log(own / (own + noise + EPSILON))
            for other in others:
                total = total - torch.log(noise / (other + noise + EPSILON))
        return total / len(queries)

    def write(self, of: str, images: list[int], embeddings: Tensor, momentum: float) -> None:
        for image, embedding in zip(images, embeddings.detach(), strict=True):
            moved = momentum * self.memory[of][image] + (1 - momentum) * embedding
            self.memory[of][image] = moved / moved.norm()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_losses_gradients_and_memories_are_those_of_the_paper_step_after_step(momentum: float) -> None:
    objective = objective_of(memory_momentum=momentum)
    naive = Naive(objective)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    for number, size in enumerate(SIZES):
        batch = batch_seeded(number, size)
        student, teacher = embedded(objective, batch)
        torch.manual_seed(number)
        drawn = torch.randint(IMAGES, (size, NEGATIVES)).tolist()
        contrasted = [[own, *others] for own, others in zip(batch.indices.tolist(), drawn, strict=True)]
        expected = naive.loss("teacher", student, contrasted) + naive.loss("student", teacher, contrasted)
        gradients = torch.autograd.grad(expected, list(objective.parameters()))
        torch.manual_seed(number)
        found = objective(batch)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        optimizer.zero_grad()
        found.backward()
        for parameter, gradient in zip(objective.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)
        assert torch.equal(objective.student_memory.embeddings, naive.memory["student"]), "read, not written yet"
        optimizer.step()
        objective.after_step(0.5)
        naive.write("student", batch.indices.tolist(), student, momentum)
        naive.write("teacher", batch.indices.tolist(), teacher, momentum)
        torch.testing.assert_close(objective.student_memory.embeddings, naive.memory["student"])
        torch.testing.assert_close(objective.teacher_memory.embeddings, naive.memory["teacher"])
        for of in ("student", "teacher"):  # which is to compare the next step alone
            naive.memory[of] = getattr(objective, f"{of}_memory").embeddings.clone()


def test_the_normalisers_are_set_by_the_first_batch_kept_and_part_of_the_state() -> None:
    objective = objective_of()
    names = ("student_memory.normaliser", "teacher_memory.normaliser")
    assert [float(objective.state_dict()[name]) for name in names] == [0, 0]
    objective(batch_seeded(0, 5)).backward()
    objective.after_step(0.5)
    first = [float(objective.state_dict()[name]) for name in names]
    assert min(first) > 0
    restored = objective_of()
    restored.load_state_dict(objective.state_dict())
    for each in (objective, restored):
        each(batch_seeded(1, 5))
        assert [float(each.state_dict()[name]) for name in names] == first


def test_both_networks_sides_get_gradients_and_the_memories_none() -> None:
    objective = objective_of()
    objective(batch_seeded(0, 5)).backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    assert not any(buffer.requires_grad for buffer in objective.buffers())


def test_an_image_is_told_from_any_of_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    loss = crd.Memory.loss

    def recording(self: crd.Memory, queries: Tensor, contrasted: Tensor) -> Tensor:
        seen.append(contrasted)
        return loss(self, queries, contrasted)

    monkeypatch.setattr(crd.Memory, "loss", recording)
    objective = objective_of(negatives=400)
    batch = batch_seeded(0, 5)
    objective(batch)
    for contrasted in seen:
        assert contrasted.shape == (5, 401)
        assert torch.equal(contrasted[:, 0], batch.indices)
        counts = torch.bincount(contrasted[:, 1:].flatten(), minlength=IMAGES)
        assert len(counts) == IMAGES
        assert counts.min() > 0.7 * 2000 / IMAGES, "uniform over all"
    assert torch.equal(seen[0], seen[1]), "both networks are contrasted with the same images"


class Largest(TorchDispatchMode):
    """Notes the elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor))])
        return made


def stepped(monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> tuple[Tensor, list[Tensor], int, int]:
    """A step's loss and gradients, its largest tensor, and how much the backward pass finds kept."""
    monkeypatch.setattr(crd, "CHUNK_BYTES", chunk_bytes)
    objective = objective_of(negatives=99, dimension=16)
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    torch.manual_seed(1)
    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = objective(batch_seeded(0, 9))
        loss.backward()
    gradients = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
    return loss.detach(), gradients, largest.elements, max(kept)


def test_the_gathered_memories_of_a_whole_batch_are_never_there(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = 9 * 100 * 16
    loss, gradients, largest, kept = stepped(monkeypatch, 2**30)
    assert largest == whole, "what this measures shows in one chunk"
    assert kept < whole, "and even then is not kept for the backward pass"
    for rows in (1, 2, 4):
        found, others, largest, kept = stepped(monkeypatch, rows * 100 * 16 * 4)
        torch.testing.assert_close(found, loss, rtol=1e-12, atol=0)
        for one, other in zip(gradients, others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
        assert largest == rows * 100 * 16
        assert kept <= 9 * 100


def test_memories_begin_with_unit_norm_in_expectation_and_are_unit_once_written() -> None:
    torch.manual_seed(0)
    memory = crd.Memory(4000, crd.Options(dimension=32))
    assert memory.embeddings.square().sum(dim=1).mean() == pytest.approx(1, abs=0.02)
    memory.write(torch.arange(10), F.normalize(torch.randn(10, 32)))
    torch.testing.assert_close(memory.embeddings[:10].norm(dim=1), torch.ones(10))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"negatives": 0}, "--negatives is 0; expected at least 1"),
        ({"dimension": 0}, "--dimension is 0; expected at least 1"),
        ({"temperature": 0.0}, "--temperature is 0; expected a number above 0"),
        ({"memory_momentum": 1.0}, "--memory-momentum is 1; expected 0 or more, below 1"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        crd.Options(**wrong)


def test_the_published_settings_are_the_default() -> None:
    options = crd.Options()
    assert (options.dimension, options.negatives, options.temperature) == (128, 16_384, 0.07)
    assert options.memory_momentum == 0.5
