"""Cluster classification: the teacher's clusters of the right images, and the cross entropy with them."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stages import cluster, distill
from stages.artifacts.assignments import read_assignments
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.weights import digest_of
from stages.datasets.packed import PackedImages, read_pack
from stages.distillation import Setting, cluster_classification
from stages.errors import UserError
from stages.training.recipe import TrainingRecipe
from stages.training.teacher import ClusteredTeacher, teacher_from
from tests.training_fixtures import (
    CLUSTERS,
    SIZE,
    FlatStudent,
    Training,
    batch_of,
    embedded_by,
    images_seeded,
    packed_digits,
)

pytest_plugins = ["tests.training_fixtures"]


def objective_of(clusters: int) -> cluster_classification.ClusterClassification:
    torch.manual_seed(0)
    options = cluster_classification.Options(clusters=clusters)
    student: Any = FlatStudent(9)
    return cluster_classification.ClusterClassification(student, Setting(5, 50, clusters), options).double()


def test_the_loss_and_its_gradients_are_those_of_the_cross_entropy_step_after_step() -> None:
    objective = objective_of(4)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    for number, size in enumerate([5, 3, 7, 2]):
        images = images_seeded(number, size, 4).double()
        clusters = torch.randint(4, (size,), generator=torch.Generator().manual_seed(number))
        logits = objective.student(images) @ objective.classifier.weight.T + objective.classifier.bias
        expected = torch.zeros((), dtype=torch.float64)
        for row, own in zip(logits, clusters, strict=True):
            likelihood = torch.exp(row[own]) / sum(torch.exp(value) for value in row)
            expected = expected - torch.log(likelihood) / size
        gradients = torch.autograd.grad(expected, list(objective.parameters()))
        found = objective(batch_of(images, clusters))
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        optimizer.zero_grad()
        found.backward()
        for parameter, gradient in zip(objective.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)
        optimizer.step()
        objective.after_step(0.5)


def test_a_student_that_knows_nothing_has_the_loss_of_chance() -> None:
    objective = objective_of(8)
    with torch.no_grad():
        objective.classifier.weight.zero_()
        objective.classifier.bias.zero_()
    loss = objective(batch_of(images_seeded(0, 6, 4).double(), torch.arange(6)))
    assert float(loss) == pytest.approx(math.log(8))


def test_clusters_of_another_number_than_asked_for_are_refused() -> None:
    student: Any = FlatStudent(9)
    options = cluster_classification.Options(clusters=20)
    with pytest.raises(UserError, match="--clusters is 20, but the teacher's are 6"):
        cluster_classification.ClusterClassification(student, Setting(5, 50, 6), options)


def test_the_recipe_is_that_of_the_authors_released_run() -> None:
    options = cluster_classification.Options()
    assert (options.clusters, options.epochs, options.learning_rate) == (16_000, 100, 0.1)
    assert (options.schedule, options.nesterov, options.exclude_norm_and_bias) == ("cosine", True, True)


# the teacher


def test_every_image_has_the_cluster_of_its_own_embedding(
    small_pack: PackedImages, teacher_cache: Path, teacher_clusters: Path
) -> None:
    teacher = teacher_from(
        "assignments", {"assignments": teacher_clusters}, small_pack, SIZE, TrainingRecipe(), "crop-flip"
    )
    assert isinstance(teacher, ClusteredTeacher)
    points = F.normalize(torch.tensor(read_embeddings(teacher_cache).vectors, dtype=torch.float64))
    rows = torch.randperm(len(small_pack), generator=torch.Generator().manual_seed(0))
    batch = batch_of(images_seeded(0, len(rows)))
    object.__setattr__(batch, "indices", rows)
    found = teacher(batch)
    assert found.dtype == torch.int64
    assert torch.equal(found, torch.from_numpy(read_assignments(teacher_clusters).train[0]).long()[rows])
    centroids = torch.stack([points[rows][found == number].mean(dim=0) for number in range(CLUSTERS)])
    nearest = torch.cdist(points[rows], centroids).argmin(dim=1)
    assert (nearest == found).double().mean() > 0.9, "20 iterations, and so nearly all"
    assert (teacher.clusters, teacher.identity) == (CLUSTERS, digest_of(teacher_clusters))
    assert teacher.card == read_embeddings(teacher_cache).card


def test_of_several_runs_of_k_means_the_first_is_learned(
    small_pack: PackedImages, teacher_cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "clusters.h5"
    files = ["--train", str(teacher_cache), "--assignments", str(path)]
    cluster.main([*files, "--clusters", str(CLUSTERS), "--runs", "2"])
    found = read_assignments(path)
    first, second = torch.from_numpy(found.train).long()
    assert not torch.equal(first, second)
    assert torch.equal(ClusteredTeacher(path, found, small_pack)(batch_of(images_seeded(0, len(small_pack)))), first)


def test_the_clusters_of_the_train_split_are_the_same_with_and_without_a_val_split(
    small_splits: tuple[Path, Path],
    untrained_teacher: Path,
    teacher_cache: Path,
    teacher_clusters: Path,
    tmp_path: Path,
) -> None:
    val = embedded_by(untrained_teacher, small_splits[1], tmp_path / "teacher-val.h5")
    files = ["--train", str(teacher_cache), "--val", str(val), "--assignments", str(tmp_path / "both.h5")]
    cluster.main([*files, "--clusters", str(CLUSTERS)])
    both, alone = read_assignments(tmp_path / "both.h5"), read_assignments(teacher_clusters)
    np.testing.assert_array_equal(alone.train, both.train)
    np.testing.assert_array_equal(alone.train_labels, both.train_labels)
    assert both.val.shape == (1, 1644)
    assert (alone.val.shape, alone.val_labels.shape) == ((1, 0), (0,))
    assert alone.val.dtype == both.val.dtype


def test_clusters_of_other_images_are_refused_with_both_named(
    small_pack: PackedImages, untrained_teacher: Path, tmp_path: Path
) -> None:
    train, _ = packed_digits(tmp_path, 1500)
    cache = embedded_by(untrained_teacher, train, tmp_path / "teacher.h5")
    path = tmp_path / "clusters.h5"
    cluster.main(["--train", str(cache), "--assignments", str(path), "--clusters", "5"])
    with pytest.raises(UserError) as error:
        teacher_from("assignments", {"assignments": path}, small_pack, SIZE, TrainingRecipe(), "crop-flip")
    for part in (path, small_pack.path, small_pack.fingerprint[:12], "cluster the embeddings of these images first"):
        assert str(part) in str(error.value)
    assert "\n" not in str(error.value)


def test_clusters_of_as_many_other_images_are_refused(
    small_pack: PackedImages, small_splits: tuple[Path, Path], teacher_clusters: Path
) -> None:
    found = read_assignments(teacher_clusters)
    others = dataclasses.replace(found, dataset_fingerprint="another")
    for wrong, pack in ((others, small_pack), (found, read_pack(small_splits[1]))):
        with pytest.raises(UserError, match="cluster the embeddings of these images first"):
            ClusteredTeacher(teacher_clusters, wrong, pack)


@pytest.mark.parametrize(
    ("method", "flag", "complaint"),
    [
        ("cluster-classification", "teacher_embeddings", "takes its teacher by --teacher-assignments"),
        (
            "compress-1q",
            "teacher_assignments",
            "takes its teacher by --teacher-embeddings or --teacher-views or --teacher-weights",
        ),
    ],
)
def test_a_method_is_not_given_another_kind_of_teacher(
    method: str, flag: str, complaint: str, small_splits: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    options = {"method": method, "train": small_splits[0], flag: tmp_path / "teacher.h5"}
    with pytest.raises(SystemExit):
        distill.main(Training(tmp_path, "distill", options).argv)
    assert f"{method} {complaint}" in capsys.readouterr().err
