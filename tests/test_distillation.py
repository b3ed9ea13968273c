"""The distillation methods against their definitions, with students whose embeddings say which image they saw."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from stages import architectures, distill, distill_online, distillation, plugins
from stages.artifacts.weights import InputContract, load_weights
from stages.distillation import Distillation, Setting, compress_1q, compress_2q, regression_bn
from stages.errors import UserError
from stages.similarity.queue import AnchorQueue
from stages.training.batches import Batch
from stages.training.checkpoint import Checkpoint
from stages.training.loop import Run, train
from tests.training_fixtures import (
    ARCHITECTURE,
    CLUSTERS,
    DIMENSION,
    SIZE,
    FlatStudent,
    Training,
    batch_of,
    images_seeded,
    learns_clusters,
    learns_from,
    naive_similarity_kl,
    naive_squared_difference,
    networks_seeded,
    tiny_options,
)

pytest_plugins = ["tests.training_fixtures"]

IMAGES, TEACHER = 24, 10
SETTING = Setting(TEACHER, IMAGES)


def encoder() -> architectures.Encoder:
    torch.manual_seed(0)
    return architectures.build(ARCHITECTURE, InputContract(SIZE))


def teacher_seeded(seed: int, count: int, dimension: int = TEACHER) -> Tensor:
    """Embeddings as a teacher gives them: not normalised."""
    return 5 * torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


def one_hot(*rows: int) -> Tensor:
    """Images [B, 3, 4, 4] whose first ``IMAGES`` values are the one-hot code of their number."""
    return F.pad(torch.eye(IMAGES)[list(rows)], (0, 48 - IMAGES)).view(len(rows), 3, 4, 4)


def batch_for(objective: Distillation, images: Tensor, teacher: Tensor | None) -> Batch:
    """A batch of as many views as the method wants: the images, and mirrored ones."""
    views = (images, images.flip(-1))[: objective.views]
    assert len(views) == objective.views
    return dataclasses.replace(batch_of(images, teacher), views=views)


def step(objective: Distillation, optimizer: torch.optim.Optimizer, images: Tensor, teacher: Tensor | None) -> Tensor:
    """One step as the loop takes it; returns the loss."""
    loss: Tensor = objective(batch_for(objective, images, teacher))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    objective.after_step(0.5)
    return loss.detach()


def sgd(objective: nn.Module) -> torch.optim.SGD:
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=1e-4)


# compress-2q


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@settings(deadline=None)
@given(sizes=st.lists(st.integers(2, 12), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_both_queues_hold_the_same_images_in_the_same_slots(momentum: float, sizes: list[int], seed: int) -> None:
    length = 7
    options = compress_2q.Options(queue_length=length, momentum=momentum)
    objective = compress_2q.CompRess2q(FlatStudent(IMAGES), Setting(IMAGES, IMAGES), options)  # type: ignore[arg-type]
    optimizer = sgd(objective)
    generator = torch.Generator().manual_seed(seed)
    written: list[int | None] = [None] * length
    slot = 0
    for size in sizes:
        rows = torch.randperm(IMAGES, generator=generator)[:size].tolist()
        # The teacher's embedding of an image is the code of the image after it.
        step(objective, optimizer, one_hot(*rows), 3 * one_hot(*rows).flatten(1)[:, :IMAGES].roll(1, dims=1))
        for row in rows:
            written[slot] = row
            slot = (slot + 1) % length
    for position, row in enumerate(written):
        if row is not None:
            assert torch.equal(objective.student_anchors.embeddings[position], torch.eye(IMAGES)[row])
            assert torch.equal(objective.teacher_anchors.embeddings[position], torch.eye(IMAGES)[(row + 1) % IMAGES])


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_2q_reads_the_anchors_before_it_writes_the_batch(momentum: float) -> None:
    options = compress_2q.Options(queue_length=11, momentum=momentum)
    objective = compress_2q.CompRess2q(encoder(), SETTING, options).train()
    optimizer = sgd(objective)
    for number in range(3):
        images, teacher = images_seeded(number, 6), teacher_seeded(number, 6)
        before = (
            objective.student_anchors.embeddings.clone(),
            F.normalize(teacher),
            objective.teacher_anchors.embeddings.clone(),
        )
        student = F.normalize(copy.deepcopy(objective.student)(images)).detach()
        expected = naive_similarity_kl(student, *before, options.temperature)
        found = step(objective, optimizer, images, teacher)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        assert not torch.equal(objective.teacher_anchors.embeddings, before[2])


def test_the_key_student_is_a_moving_average_of_the_parameters_alone() -> None:
    options = compress_2q.Options(queue_length=11, momentum=0.9)
    objective = compress_2q.CompRess2q(encoder(), SETTING, options).train()
    assert objective.key_student is not None
    optimizer = sgd(objective)
    average = {name: value.detach().double() for name, value in objective.student.named_parameters()}
    follower = copy.deepcopy(objective.student).train()
    for number in range(5):
        images = images_seeded(number, 6)
        with torch.no_grad():
            follower(images)
        step(objective, optimizer, images, teacher_seeded(number, 6))
        for name, value in objective.student.named_parameters():
            average[name] = 0.9 * average[name] + 0.1 * value.detach().double()
        follower.load_state_dict({name: value.float() for name, value in average.items()}, strict=False)
    for name, value in objective.key_student.named_parameters():
        torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-7)
    # The running statistics are those of a network that had the averaged weights and saw the same batches.
    for name, value in objective.key_student.named_buffers():
        torch.testing.assert_close(value, follower.get_buffer(name), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(
        objective.key_student.get_buffer("backbone.bn1.running_var"),
        objective.student.get_buffer("backbone.bn1.running_var"),
        rtol=1e-4,
    )


def test_the_anchors_of_the_student_are_the_key_students_embeddings() -> None:
    objective = compress_2q.CompRess2q(encoder(), SETTING, compress_2q.Options(queue_length=11, momentum=0.5)).train()
    optimizer = sgd(objective)
    step(objective, optimizer, images_seeded(0, 6), teacher_seeded(0, 6))
    images = images_seeded(1, 5)
    keys = F.normalize(copy.deepcopy(objective.key_student)(images))  # type: ignore[misc]
    own = F.normalize(copy.deepcopy(objective.student)(images))
    step(objective, optimizer, images, teacher_seeded(1, 5))
    torch.testing.assert_close(objective.student_anchors.embeddings[6:], keys)
    assert not torch.allclose(keys, own, rtol=1e-3)


def test_the_key_student_drops_no_layers_and_still_normalises_by_the_batch() -> None:
    student = architectures.build("efficientnet_b0", InputContract(32))
    objective = compress_2q.CompRess2q(student, SETTING, compress_2q.Options(queue_length=11)).train()
    assert objective.key_student is not None
    images = images_seeded(0, 4, 32)
    with torch.no_grad():
        first, again, beside_others = (
            objective.key_student(shown)[:4] for shown in (images, images, torch.cat([images, images_seeded(1, 4, 32)]))
        )
        assert not torch.equal(objective.student(images), objective.student(images)), "the student draws"
    assert torch.equal(first, again)
    assert not torch.allclose(first, beside_others, rtol=1e-3)


def test_without_momentum_there_is_no_key_student_and_the_anchors_are_its_own() -> None:
    objective = compress_2q.CompRess2q(encoder(), SETTING, compress_2q.Options(queue_length=11, momentum=0)).train()
    assert objective.key_student is None
    images = images_seeded(1, 5)
    own = F.normalize(copy.deepcopy(objective.student)(images))
    step(objective, sgd(objective), images, teacher_seeded(1, 5))
    torch.testing.assert_close(objective.student_anchors.embeddings[:5], own)


def objective_of(method: str, student: nn.Module, seed: int = 1, **changed: object) -> Distillation:
    module = plugins.module("stages.distillation", "method", method)
    networks = networks_seeded(seed) if learns_from(method) == "networks" else None
    torch.manual_seed(seed)
    teacher = architectures.build("resnet18_x0.125", InputContract(SIZE)) if learns_from(method) == "online" else None
    setting = Setting(TEACHER, IMAGES, CLUSTERS if learns_clusters(method) else 0, networks, teacher)
    torch.manual_seed(seed)
    return plugins.class_in(module, Distillation)(student, setting, module.Options(**tiny_options(method), **changed))


def said_by_the_teacher(method: str, seed: int, count: int) -> Tensor | None:
    """What a batch holds for a method to learn from: embeddings, or clusters; nothing, if it runs the teacher."""
    if learns_from(method) in ("networks", "online"):
        return None
    if learns_clusters(method):
        return torch.randint(CLUSTERS, (count,), generator=torch.Generator().manual_seed(seed))
    return teacher_seeded(seed, count)


METHODS = plugins.names("stages.distillation")
COMPRESS = ("compress-1q", "compress-2q")


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_of_the_student_gets_a_gradient(method: str) -> None:
    objective = objective_of(method, encoder()).train()
    objective(batch_for(objective, images_seeded(0, 6), said_by_the_teacher(method, 0, 6))).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in objective.student.parameters())


@pytest.mark.parametrize("method", COMPRESS)
def test_no_gradient_reaches_teacher_key_student_or_anchors(method: str) -> None:
    objective = objective_of(method, encoder()).train()
    teacher = teacher_seeded(0, 6).requires_grad_()
    objective(batch_of(images_seeded(0, 6), teacher)).backward()
    assert teacher.grad is None
    assert not any(buffer.requires_grad for buffer in objective.buffers())
    reached = {name.split(".")[0] for name, value in objective.named_parameters() if value.grad is not None}
    trained = {name.split(".")[0] for name, value in objective.named_parameters() if value.requires_grad}
    assert reached == trained == ({"student", "head"} if method == "compress-1q" else {"student"})


@pytest.mark.parametrize("method", [*COMPRESS, "seed"])
def test_half_precision_is_asked_of_the_divergence(method: str) -> None:
    """On a CPU it is refused, so that a method that did not pass it on would be seen to go on without it."""
    objective = objective_of(method, encoder(), precision="half")
    with pytest.raises(UserError, match=r"^--precision half needs an NVIDIA GPU"):
        objective(batch_for(objective, images_seeded(0, 6), teacher_seeded(0, 6)))


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(1e-4, 1e4))
@pytest.mark.parametrize("method", COMPRESS)
def test_the_scale_of_the_teachers_embeddings_does_not_matter(method: str, scale: float) -> None:
    images, teacher = images_seeded(0, 8, 4), teacher_seeded(0, 8)
    first, second = (objective_of(method, FlatStudent(20)) for _ in range(2))
    for _ in range(2):
        expected = step(first, sgd(first), images, teacher)
        found = step(second, sgd(second), images, scale * teacher)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_of_the_objective_is_all_of_its_state(method: str) -> None:
    first, second = (objective_of(method, encoder(), seed).train() for seed in (1, 2))
    for number in range(3):
        step(first, sgd(first), images_seeded(number, 6), said_by_the_teacher(method, number, 6))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for objective in (first, second):
        torch.manual_seed(9)
        step(objective, sgd(objective), images_seeded(9, 6), said_by_the_teacher(method, 9, 6))
    states = first.state_dict(), second.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("method", METHODS)
def test_an_objective_can_be_copied_in_the_middle_of_a_step(method: str) -> None:
    objective = objective_of(method, encoder()).train()
    objective(batch_for(objective, images_seeded(0, 6), said_by_the_teacher(method, 0, 6))).backward()
    other = copy.deepcopy(objective)
    for each in (objective, other):
        each.after_step(0.5)
    states = objective.state_dict(), other.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


STEPS = 9


def trained(objective: Distillation, folder: Path, method: str, *, broken_at: int = STEPS) -> None:
    """Train for three epochs of three batches of 7, 7 and 6 images, as the stage would; an error ends it early."""

    def batches_from(first: int) -> Iterator[Batch]:
        for number in range(first, STEPS):
            if number == broken_at:
                raise OSError("the file system is gone")
            size = 6 if number % 3 == 2 else 7
            batch = batch_for(objective, images_seeded(number, size), said_by_the_teacher(method, number, size))
            indices = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(number))[:size]
            yield dataclasses.replace(batch, indices=indices)

    recipe = dataclasses.replace(objective.options, epochs=3, warmup_epochs=0, learning_rate=0.05)
    checkpoint = Checkpoint(folder, "key")
    run = Run(recipe, 0, STEPS // 3, torch.device("cpu"), checkpoint, checkpoint_seconds=0)
    train(objective, run, batches_from, lambda batch: batch, "a test")


@pytest.mark.parametrize("broken_at", [1, 4])
@pytest.mark.parametrize("method", METHODS)
def test_a_broken_run_goes_on_to_the_same_end(method: str, broken_at: int, tmp_path: Path) -> None:
    unbroken, broken, continued = (objective_of(method, encoder(), seed) for seed in (1, 1, 2))
    trained(unbroken, tmp_path / "unbroken", method)
    with pytest.raises(OSError, match="the file system is gone"):
        trained(broken, tmp_path / "broken", method, broken_at=broken_at)
    trained(continued, tmp_path / "broken", method)
    states = unbroken.state_dict(), continued.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# what CompRess's ablations change


class Flat(FlatStudent):
    """A student in float64, for exact comparisons."""

    def __init__(self) -> None:
        super().__init__(TEACHER)
        self.double()


@pytest.mark.parametrize("method", ["compress-1q", "compress-2q"])
@pytest.mark.parametrize("divergence", ["kl", "squared"])
@pytest.mark.parametrize("anchors", ["queue", "minibatch", "warm"])
def test_every_ablation_is_its_definition(method: str, anchors: str, divergence: str) -> None:
    """Several steps of odd sizes against lists of anchors: an empty memory bank, its filling up and its wrapping."""
    extra = {"momentum": 0.5} if method == "compress-2q" else {}
    kind = {"anchors": "minibatch"} if anchors == "minibatch" else {"warm_start": anchors == "warm"}
    objective = objective_of(method, Flat(), divergence=divergence, temperature=0.2, **kind, **extra).double()
    optimizer = sgd(objective)
    queues = [module for module in objective.modules() if isinstance(module, AnchorQueue)]
    assert len(queues) == (0 if anchors == "minibatch" else 1 if method == "compress-1q" else 2)
    # Per slot, the anchors of student and teacher; those of a warm start only once they are there.
    slots: list[tuple[Tensor, Tensor] | None] = [
        None if anchors == "warm" else (queues[0].embeddings[slot].clone(), queues[-1].embeddings[slot].clone())
        for slot in range(13 if queues else 0)
    ]
    written = 0
    for number, size in enumerate([5, 3, 7, 2, 6]):
        images, teacher = images_seeded(number, size, 4).double(), F.normalize(teacher_seeded(number, size).double())
        student = objective.student(images)
        if method == "compress-1q":
            student = objective.head(student)
            keys = teacher
        else:
            keys = F.normalize(objective.key_student(images)).detach()
        student = F.normalize(student)
        pairs = list(zip(keys, teacher, strict=True))
        expected = torch.zeros((), dtype=torch.float64)
        for row in range(size):
            known = [pair for pair in slots if pair is not None] if queues else pairs[:row] + pairs[row + 1 :]
            if known:
                near, far = (torch.stack(side) for side in zip(*known, strict=True))
                one = student[row : row + 1], near, teacher[row : row + 1], far
                loss = naive_similarity_kl(*one, 0.2) if divergence == "kl" else naive_squared_difference(*one)
                expected = expected + loss / size
        found = objective(batch_of(images, teacher))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        optimizer.zero_grad()
        found.backward()
        if number or anchors != "warm":
            trained_here = [parameter for parameter in objective.parameters() if parameter.requires_grad]
            gradients = torch.autograd.grad(expected, trained_here)
            for parameter, gradient in zip(trained_here, gradients, strict=True):
                torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-12)
        optimizer.step()
        objective.after_step(0.5)
        for pair in pairs:
            if queues:
                slots[written % 13] = pair
            written += 1


# compress-1q


def test_1q_compares_both_with_the_teachers_anchors_through_a_linear_head() -> None:
    options = compress_1q.Options(queue_length=11)
    objective = compress_1q.CompRess1q(encoder(), SETTING, options).train()
    optimizer = sgd(objective)
    for number in range(3):
        images, teacher = images_seeded(number, 6), teacher_seeded(number, 6)
        anchors = objective.anchors.embeddings.clone()
        student = copy.deepcopy(objective.student)(images) @ objective.head.weight.T + objective.head.bias
        expected = naive_similarity_kl(
            F.normalize(student).detach(), anchors, F.normalize(teacher), anchors, options.temperature
        )
        weight = objective.head.weight.detach().clone()
        found = step(objective, optimizer, images, teacher)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        assert not torch.equal(objective.head.weight, weight), "the head is trained with the student"
    assert objective.head.weight.shape == (TEACHER, DIMENSION)
    assert torch.equal(objective.anchors.embeddings[1:7], F.normalize(teacher_seeded(2, 6))), "18 writes to 11 slots"


@pytest.fixture(scope="module")
def distilled(
    small_splits: tuple[Path, Path],
    teacher_cache: Path,
    teacher_clusters: Path,
    byol_teacher: Training,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Training]:
    """A student by a method, on 153 real digits, once."""
    done: dict[str, Training] = {}

    def distil(method: str) -> Training:
        if method not in done:
            teacher: dict[str, object] = {
                "embeddings": {"teacher_embeddings": teacher_cache},
                "assignments": {"teacher_assignments": teacher_clusters},
                # With a recipe for few steps, which the others have by default.
                "networks": {
                    "teacher_weights": byol_teacher.weights,
                    "teacher_heads": byol_teacher.heads,
                    "optimizer": "sgd",
                    "warmup_epochs": 0,
                },
                "online": {
                    "teacher_name": "along",
                    "teacher_architecture": "resnet18_x0.125",
                    "optimizer": "sgd",
                    "warmup_epochs": 0,
                },
            }[learns_from(method)]
            small = {**tiny_options(method), "train": small_splits[0], **teacher}
            brief = {"method": method, "epochs": 8, "batch_size": 32, "learning_rate": 0.02}
            stage = distill_online if learns_from(method) == "online" else distill
            program = stage.__name__.removeprefix("stages.")
            done[method] = Training(tmp_path_factory.mktemp(method), program, {**brief, **small})
            stage.main(done[method].argv)
        return done[method]

    return distil


@pytest.mark.parametrize("method", METHODS)
def test_only_the_backbone_is_in_the_saved_weights(method: str, distilled: Callable[[str], Training]) -> None:
    state, card = load_weights(distilled(method).weights)
    assert set(state) == set(encoder().backbone.state_dict())
    assert card.dimension == DIMENSION
    along = {"teacher_architecture": "resnet18_x0.125"} if learns_from(method) == "online" else {}
    assert card.origin == {
        **along,
        "way": "distill",
        "method": method,
        "dataset": "digits",
        "seed": 0,
        "teacher": {"networks": "byol", "online": "along"}.get(learns_from(method), "encoder"),
        "generation": 1,
    }


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns(method: str, distilled: Callable[[str], Training]) -> None:
    losses = [float(row[1]) for row in distilled(method).losses()[1:]]
    assert len(losses) == 8
    assert sum(losses[-2:]) < 0.98 * sum(losses[:2]), losses


# regression-bn


def standardiser(dimension: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(dimension, affine=False, track_running_stats=False)


@settings(deadline=None)
@given(batch=st.integers(2, 20), dimension=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_regression_bn_is_the_squared_error_of_two_batch_norms(batch: int, dimension: int, seed: int) -> None:
    objective = regression_bn.RegressionBN(FlatStudent(20), Setting(dimension, batch), regression_bn.Options())  # type: ignore[arg-type]
    images, teacher = images_seeded(seed, batch, 4), teacher_seeded(seed, batch, dimension)
    heads = objective.head(objective.student(images))
    differences = standardiser(dimension)(heads.double()) - standardiser(dimension)(teacher.double())
    torch.testing.assert_close(
        objective(batch_of(images, teacher)).double(), differences.square().mean(), rtol=1e-3, atol=1e-5
    )


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 100), shift=st.floats(-50, 50))
def test_regression_bn_does_not_see_scale_or_shift_of_any_teacher_dimension(
    seed: int, scale: float, shift: float
) -> None:
    objective = regression_bn.RegressionBN(FlatStudent(20), SETTING, regression_bn.Options())  # type: ignore[arg-type]
    images, teacher = images_seeded(seed, 8, 4), teacher_seeded(seed, 8)
    changed = teacher * torch.linspace(1, scale, TEACHER) + torch.linspace(0, shift, TEACHER)
    first, second = objective(batch_of(images, teacher)), objective(batch_of(images, changed))
    torch.testing.assert_close(first, second, rtol=1e-2, atol=1e-3)


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.5, 100), shift=st.floats(-50, 50))
def test_regression_bn_is_zero_where_the_head_gives_the_teacher_up_to_scale_and_shift(
    seed: int, scale: float, shift: float
) -> None:
    objective = regression_bn.RegressionBN(FlatStudent(6), Setting(6, 16), regression_bn.Options())  # type: ignore[arg-type]
    images = images_seeded(seed, 16, 4)
    with torch.no_grad():
        objective.head.weight.copy_(torch.diag(torch.linspace(1, scale, 6)))
        objective.head.bias.copy_(torch.linspace(0, shift, 6))
    teacher = images.flatten(1)[:, :6]
    assert objective(batch_of(images, teacher)) < 1e-5
    assert objective(batch_of(images, teacher.flip(0))) > 0.1


# the registry


def test_the_methods_are_the_files() -> None:
    files = {path.stem for path in Path(str(distillation.__file__)).parent.glob("*.py")} - {"__init__"}
    assert sorted(name.replace("_", "-") for name in files) == METHODS
    assert {"cluster-classification", "compress-1q", "compress-2q", "crd", "pkt"} <= set(METHODS)
    assert {"regression", "regression-bn", "seed", "simdis-off", "simdis-on", "simreg"} <= set(METHODS)


@pytest.mark.parametrize(("name", "nearest"), [("compres-2q", "compress-2q"), ("regresion-bn", "regression-bn")])
def test_an_unknown_method_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"unknown method '{name}': did you mean '{nearest}'"):
        plugins.module("stages.distillation", "method", name)


@pytest.mark.parametrize("method", COMPRESS)
def test_the_papers_settings_are_the_default(method: str) -> None:
    options = dataclasses.asdict(plugins.module("stages.distillation", "method", method).Options())
    paper = {
        "epochs": 130,
        "batch_size": 256,
        "learning_rate": 0.01,
        "sgd_momentum": 0.9,
        "weight_decay": 1e-4,
        "temperature": 0.04,
        "queue_length": 128_000,
    }
    assert {name: options[name] for name in paper} == paper
    assert options.get("momentum") == (0.999 if method == "compress-2q" else None)
