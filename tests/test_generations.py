"""A student of its teacher's architecture and seed starts from other weights than the teacher did; so does its own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages import distill, distill_online, embed, pretrain
from stages.artifacts.weights import load_weights, read_card
from tests.conftest import flags
from tests.training_fixtures import ARCHITECTURE, Training

pytest_plugins = ["tests.training_fixtures"]

UNTOUCHED = {"epochs": 0, "seed": 5}
"""The first weights are all that these trainings leave."""


def first_convolution(training: Training) -> Tensor:
    return load_weights(training.weights)[0]["conv1.weight"]


def student_of(teacher: Training, images: Path, folder: Path, method: str) -> Training:
    cache = teacher.folder / "train.h5"
    files = {"weights": teacher.weights, "images": images, "embeddings": cache}
    embed.main(flags({**files, "augmentation": "crop-flip"}))
    options = {"method": method, "name": folder.name, "train": images, "teacher_embeddings": cache, **UNTOUCHED}
    student = Training(folder, "distill", options)
    distill.main(student.argv)
    return student


@pytest.fixture(scope="module")
def generations(small_splits: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Training]:
    """A network as it was initialised, its student, and the student's."""
    folder, images = tmp_path_factory.mktemp("generations"), small_splits[0]
    first = Training(folder / "first", "pretrain", {"method": "untrained", "train": images, "seed": UNTOUCHED["seed"]})
    pretrain.main(first.argv)
    second = student_of(first, images, folder / "second", "regression")
    return [first, second, student_of(second, images, folder / "third", "regression")]


def test_no_generation_starts_from_the_weights_of_another(generations: list[Training]) -> None:
    first, second, third = map(first_convolution, generations)
    assert not torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(second, third)


def test_students_of_one_teacher_start_alike_whatever_their_method(
    generations: list[Training], small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    other = student_of(generations[0], small_splits[0], tmp_path / "other", "regression-bn")
    assert torch.equal(first_convolution(generations[1]), first_convolution(other))


def test_a_card_counts_the_teachers_behind_it(generations: list[Training]) -> None:
    assert [read_card(training.weights).generation for training in generations] == [0, 1, 2]


def test_a_teacher_that_is_trained_along_is_a_generation_before_its_student(
    generations: list[Training], small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    options = {"method": "simdis-on", "train": small_splits[0], "teacher_name": "teacher", **UNTOUCHED}
    student = Training(tmp_path, "distill_online", {**options, "teacher_architecture": ARCHITECTURE})
    distill_online.main(student.argv)
    assert [read_card(training.weights).generation for training in (student.teacher, student)] == [0, 1]
    assert torch.equal(first_convolution(student.teacher), first_convolution(generations[0]))
    assert torch.equal(first_convolution(student), first_convolution(generations[1]))
