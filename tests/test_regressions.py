"""The regressions, SimReg and PKT against their equations written out, values and gradients."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stages.distillation import Distillation, Setting, pkt, regression, regression_bn, simreg
from tests.training_fixtures import FlatStudent, batch_of, images_seeded

STUDENT, TEACHER = 6, 5
SIZES = [5, 3, 7, 2, 6]


def built(kind: type[Distillation], options: Any) -> Distillation:
    torch.manual_seed(0)
    return kind(FlatStudent(STUDENT), Setting(TEACHER, 50), options).double()  # type: ignore[arg-type]


def problem(number: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    return images_seeded(number, size, 4).double(), 5 * torch.randn(size, TEACHER, generator=generator).double()


def affine(layer: nn.Module, rows: Tensor) -> Tensor:
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    return torch.stack([torch.stack([weight[out] @ row + bias[out] for out in range(len(weight))]) for row in rows])


def naive_regression(objective: Distillation, images: Tensor, teacher: Tensor) -> Tensor:
    head = affine(objective.get_submodule("head"), objective.student(images))
    differences = [head[i, d] - teacher[i, d] for i in range(len(teacher)) for d in range(TEACHER)]
    return torch.stack([difference**2 for difference in differences]).sum() / (len(teacher) * TEACHER)


def naive_regression_bn(objective: Distillation, images: Tensor, teacher: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    head = affine(objective.get_submodule("head"), objective.student(images))
    for own, target in zip(head.T, teacher.T, strict=True):  # dimension by dimension
        both = [(side - side.mean()) / torch.sqrt(side.var(correction=0) + 1e-5) for side in (own, target)]
        total = total + ((both[0] - both[1]) ** 2).sum()
    return total / (len(teacher) * TEACHER)


def naive_batch_norm(layer: nn.Module, rows: Tensor) -> Tensor:
    mean = rows.sum(dim=0) / len(rows)
    variance = ((rows - mean) ** 2).sum(dim=0) / len(rows)
    return (rows - mean) / torch.sqrt(variance + 1e-5) * layer.get_parameter("weight") + layer.get_parameter("bias")


def naive_simreg(objective: Distillation, images: Tensor, teacher: Tensor) -> Tensor:
    layers = list(objective.get_submodule("head").children())
    shapes = [tuple(layer.weight.shape) for layer in layers if isinstance(layer, nn.Linear)]
    assert shapes == [(2 * STUDENT, STUDENT), (STUDENT, 2 * STUDENT), (2 * STUDENT, STUDENT), (TEACHER, 2 * STUDENT)]
    rows = objective.student(images)
    rows = naive_batch_norm(layers[1], affine(layers[0], rows)).clamp(min=0)
    rows = affine(layers[3], rows)
    rows = naive_batch_norm(layers[5], affine(layers[4], rows)).clamp(min=0)
    rows = affine(layers[7], rows)
    total = torch.zeros((), dtype=torch.float64)
    for own, target in zip(rows, teacher, strict=True):
        total = total + 2 - 2 * torch.dot(own, target) / (own.norm() * target.norm())
    return total / len(rows)


def naive_distribution(embeddings: Tensor) -> list[list[Tensor]]:
    """p[i][j]: how likely image j is a neighbour of image i."""
    cosines = [[torch.dot(a, b) / (a.norm() * b.norm()) for b in embeddings] for a in embeddings]
    shifted = [[(cosine + 1) / 2 for cosine in row] for row in cosines]
    return [[value / torch.stack(row).sum() for value in row] for row in shifted]


def naive_pkt(objective: Distillation, images: Tensor, teacher: Tensor) -> Tensor:
    goals, found = naive_distribution(teacher), naive_distribution(objective.student(images))
    total = torch.zeros((), dtype=torch.float64)
    for goal_row, row in zip(goals, found, strict=True):
        for goal, value in zip(goal_row, row, strict=True):
            total = total + goal * torch.log((goal + 1e-7) / (value + 1e-7))
    return objective.options.weight * total / len(teacher) ** 2


REFERENCES = {
    "regression": (regression.Regression, regression.Options(), naive_regression),
    "regression-bn": (regression_bn.RegressionBN, regression_bn.Options(), naive_regression_bn),
    "simreg": (simreg.SimReg, simreg.Options(), naive_simreg),
    "pkt": (pkt.PKT, pkt.Options(), naive_pkt),
}


@pytest.mark.parametrize("method", REFERENCES)
def test_the_loss_and_its_gradients_are_those_of_the_equations_step_after_step(method: str) -> None:
    kind, options, naive = REFERENCES[method]
    objective = built(kind, options).train()
    if method == "pkt":  # whose student would have nothing but a scale, which does not matter
        objective.student = Turning()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)
    for number, size in enumerate(SIZES):
        images, teacher = problem(number, size)
        expected = naive(objective, images, teacher)
        parameters = list(objective.parameters())
        gradients = torch.autograd.grad(expected, parameters)
        found = objective(batch_of(images, teacher))
        # PyTorch's cosine, norm and batch norm each have a safeguard against 0 of their own.
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
        optimizer.zero_grad()
        found.backward()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-7, atol=1e-9)
        optimizer.step()
        objective.after_step(0.5)


class Turning(nn.Module):
    """A student that is a linear layer of the image's first values."""

    dimension = STUDENT

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(STUDENT, STUDENT).double()

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.layer(images.flatten(1)[:, :STUDENT])
        return embeddings


@settings(deadline=None)
@given(scale=st.floats(0.1, 100), size=st.integers(2, 12), number=st.integers(0, 1000))
def test_pkt_is_zero_where_student_and_teacher_agree_up_to_scale_and_rotation(
    scale: float, size: int, number: int
) -> None:
    objective = built(pkt.PKT, pkt.Options(weight=1.0))
    images, _ = problem(number, size)
    generator = torch.Generator().manual_seed(number)
    rotation = torch.linalg.qr(torch.randn(STUDENT, STUDENT, generator=generator, dtype=torch.float64))[0]
    teacher = scale * objective.student(images).detach() @ rotation
    assert objective(batch_of(images, teacher)).abs() < 1e-12
    if size > 2:
        assert objective(batch_of(images, teacher.roll(1, dims=0) * torch.linspace(-1, 1, STUDENT))) > 1e-9


def test_pkt_weighs_the_mean_over_all_pairs() -> None:
    images, teacher = problem(0, 7)
    light, heavy = (built(pkt.PKT, pkt.Options(weight=weight))(batch_of(images, teacher)) for weight in (1.0, 30_000.0))
    assert heavy.item() == pytest.approx(30_000 * light.item())
    assert pkt.Options().weight == 30_000


@settings(deadline=None)
@given(scale=st.floats(0.01, 100))
def test_simreg_does_not_see_the_scale_of_the_teacher_and_regression_does(scale: float) -> None:
    images, teacher = problem(0, 7)
    cosine = built(simreg.SimReg, simreg.Options()).train()
    first, second = (cosine(batch_of(images, factor * teacher)) for factor in (1, scale))
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-9)
    squared = built(regression.Regression, regression.Options())
    first, second = (float(squared(batch_of(images, factor * teacher))) for factor in (1, scale))
    assert math.isclose(first, second) == math.isclose(scale, 1)


def test_simregs_published_settings_are_the_default() -> None:
    options = simreg.Options()
    assert (options.epochs, options.learning_rate, options.schedule) == (130, 0.05, "cosine")
    assert (options.batch_size, options.weight_decay, options.drop_last) == (256, 1e-4, True)
