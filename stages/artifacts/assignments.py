"""Cluster assignments: the cluster of every train and val image, for one or more k-means runs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.atomic import atomic_with_digest
from stages.artifacts.hdf5 import create, open_complete
from stages.artifacts.weights import EncoderCard


@dataclasses.dataclass(frozen=True)
class Assignments:
    """``train`` [R, N] and ``val`` [R, M]: the cluster of each image in each of R runs; with the images' labels.

    A run has ``iterations`` of k-means. M is 0 where only the train split was clustered; only then may images have
    several labels each, ``train_labels`` int8 [N, C], or none, -1. ``skipped`` images of train and of val were left out
    when they were packed.
    """

    train: NDArray[np.int32]
    val: NDArray[np.int32]
    train_labels: NDArray[Any]
    val_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    clusters: int
    iterations: int
    seeds: tuple[int, ...]
    card: EncoderCard
    dataset: str
    dataset_fingerprint: str
    skipped: tuple[int, int] = (0, 0)


ARRAYS = ("train", "val", "train_labels", "val_labels")


def write_assignments(path: Path, assignments: Assignments) -> None:
    with atomic_with_digest(path) as temporary, create(temporary, "assignments") as (file, _):
        for name in ARRAYS:
            file[name] = getattr(assignments, name)
        file["classes"] = list(assignments.classes)
        file.attrs.update(
            clusters=assignments.clusters,
            iterations=assignments.iterations,
            seeds=list(assignments.seeds),
            encoder=assignments.card.to_json(),
            dataset=assignments.dataset,
            dataset_fingerprint=assignments.dataset_fingerprint,
            skipped=list(assignments.skipped),
        )


def read_assignments(path: Path) -> Assignments:
    with open_complete(path, "assignments") as file:
        attributes = file.attrs
        return Assignments(
            **{name: file[name][:] for name in ARRAYS},
            classes=tuple(file["classes"].asstr()[:]),
            clusters=int(attributes["clusters"]),
            iterations=int(attributes["iterations"]),
            seeds=tuple(int(seed) for seed in attributes["seeds"]),
            card=EncoderCard.from_json(attributes["encoder"]),
            dataset=attributes["dataset"],
            dataset_fingerprint=attributes["dataset_fingerprint"],
            skipped=(int(attributes["skipped"][0]), int(attributes["skipped"][1])),
        )
