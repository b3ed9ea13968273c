"""What the tests of training share: a real small dataset, a teacher, fake encoders, and the real programs.

A test module takes the fixtures with ``pytest_plugins = ["tests.training_fixtures"]``. (PYTEST_DONT_REWRITE: test
modules import the helpers before pytest could rewrite this module.)
"""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment import source
from lightly.models.modules.heads import BYOLProjectionHead
from torch import Tensor, nn

from stages import architectures, cluster, embed, fetch_dataset, pretrain
from stages.artifacts.weights import InputContract
from stages.datasets.packed import PackedImages, read_pack
from stages.training.batches import Batch
from stages.training.networks import Networks, Projecting
from tests.conftest import ROOT, flags

ARCHITECTURE = "resnet18_x0.25"
DIMENSION = 128
SIZE = 16
ON_CPU = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""Where a test starts several processes: a machine may have a GPU, and not one for each of them."""


@dataclasses.dataclass(frozen=True)
class Training:
    """A call of ``stages.pretrain``, ``distill`` or ``distill_online`` whose files are in ``folder``."""

    folder: Path
    program: str
    options: dict[str, Any]
    processes: int = 1

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def heads(self) -> Path:
        return self.folder / "heads.safetensors"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def teacher(self) -> "Training":
        """The files of a teacher that is trained along."""
        return Training(self.folder / "teacher", self.program, self.options)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "checkpoint.pt"

    @property
    def argv(self) -> list[str]:
        files = {
            "weights": self.weights,
            "heads": self.heads,
            "history": self.history,
            "checkpoints": self.checkpoint.parent,
        }
        if self.program == "distill_online":
            files |= {f"teacher_{name}": getattr(self.teacher, name) for name in ("weights", "heads", "history")}
        facts = {"name": "encoder", "architecture": ARCHITECTURE, "augmentation": "crop-flip", "size": SIZE}
        return flags({**facts, **files, **self.options})

    def within(self, folder: Path, **changed: Any) -> "Training":
        """The same training with its files in ``folder``, and with other options where they are given."""
        return dataclasses.replace(self, folder=folder, options={**self.options, **changed})

    def digest(self) -> str:
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()

    def losses(self) -> list[list[str]]:
        """The history less its timings: epoch, loss and learning rate as they are written."""
        return [row.split(",")[:3] for row in self.history.read_text().splitlines()]

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """Start the program itself, as the workflow does, in a process group of its own; several on the CPU."""
        own = {"OMP_NUM_THREADS": "1"} if self.processes == 1 else ON_CPU
        launch = ["stages.training.launch", str(self.processes), f"stages.{self.program}"]
        return subprocess.Popen(
            [sys.executable, "-m", *launch, *self.argv],
            cwd=ROOT,
            env={**os.environ, **own, **environment},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self) -> tuple[int, str]:
        """Run the program to its end; returns its exit status and what it wrote to stderr."""
        with self.start() as process:
            _, stderr = process.communicate(timeout=120)
        return process.returncode, stderr

    def interrupted(self, after_step: int, signum: signal.Signals, *, whole_group: bool = False) -> tuple[int, str]:
        """Run the program and signal it once a checkpoint of ``after_step`` or later is there."""
        with self.start() as process:
            self.wait_for(after_step, process)
            (os.killpg if whole_group else os.kill)(process.pid, signum)
            _, stderr = process.communicate(timeout=120)
        return process.returncode, stderr

    def wait_for(self, step: int, process: subprocess.Popen[str]) -> None:
        """Wait until the program has saved its state at ``step`` or later."""
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if self.checkpoint.exists() and step_of(self.checkpoint) >= step:
                return
            time.sleep(0.01)
        process.kill()
        raise AssertionError(f"no checkpoint of step {step} was seen: {process.communicate()[1]}")


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was saved at."""
    step: int = torch.load(checkpoint, weights_only=True)["step"]
    return step


def packed_digits(folder: Path, val_images: int) -> tuple[Path, Path]:
    """Pack scikit-learn's digits, with 1,797 less ``val_images`` of them for training."""
    train, val = folder / "train.h5", folder / "val.h5"
    files = ["--train", str(train), "--val", str(val)]
    fetch_dataset.main(["--source", "digits", "--name", "digits", *files, "--val-images", str(val_images)])
    return train, val


@pytest.fixture(scope="session")
def small_splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The paths of a train split of 153 real digits and a val split of the others."""
    return packed_digits(tmp_path_factory.mktemp("digits"), 1644)


@pytest.fixture(scope="session")
def small_pack(small_splits: tuple[Path, Path]) -> PackedImages:
    return read_pack(small_splits[0])


@pytest.fixture(scope="session")
def untrained_teacher(small_splits: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a teacher: as it was initialised, which is as good as any to be imitated in a test."""
    options = {"method": "untrained", "train": small_splits[0], "seed": 7}
    training = Training(tmp_path_factory.mktemp("teacher"), "pretrain", options)
    pretrain.main(training.argv)
    return training.weights


def embedded_by(weights: Path, images: Path, embeddings: Path) -> Path:
    """The embeddings of a split, by the real stage."""
    files = ["--weights", str(weights), "--images", str(images), "--embeddings", str(embeddings)]
    embed.main([*files, "--augmentation", "crop-flip"])
    return embeddings


@pytest.fixture(scope="session")
def teacher_cache(untrained_teacher: Path, small_splits: tuple[Path, Path]) -> Path:
    return embedded_by(untrained_teacher, small_splits[0], untrained_teacher.parent / "teacher-train.h5")


@pytest.fixture(scope="session")
def byol_teacher(small_splits: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A teacher by BYOL, with its heads."""
    recipe = {"epochs": 2, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.05, "warmup_epochs": 0}
    heads = {"hidden_dimension": 16, "projection_dimension": PROJECTION}
    options = {"method": "byol", "name": "byol", "train": small_splits[0], **recipe, **heads}
    training = Training(tmp_path_factory.mktemp("byol"), "pretrain", options)
    pretrain.main(training.argv)
    return training


CLUSTERS = 6
PROJECTION = 6
"""Outputs of the projectors of a teacher's networks."""


@pytest.fixture(scope="session")
def teacher_clusters(teacher_cache: Path) -> Path:
    """The clusters of the teacher's train embeddings, by the real stage."""
    path = teacher_cache.with_name("teacher-clusters.h5")
    cluster.main(["--train", str(teacher_cache), "--assignments", str(path), "--clusters", str(CLUSTERS)])
    return path


class FlatStudent(nn.Module):
    """A student whose embedding is the image's own first values, times a trained scale."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.flatten(1)[:, : self.dimension]


def batch_of(images: Tensor, teacher: Tensor | None = None, labels: Tensor | None = None) -> Batch:
    """A batch of one view, ``images`` [B, ...]."""
    rows = torch.arange(len(images))
    return Batch(views=(images,), indices=rows, labels=rows if labels is None else labels, frozen_output=teacher)


def tiny_options(method: str) -> dict[str, int]:
    """Options that make a distillation method small enough for 24 images and for a teacher without heads."""
    known = source.options(source.plugin_module("stages.distillation", method))
    small = {"queue_length": 13, "negatives": 7, "dimension": 5, "clusters": CLUSTERS}
    small |= {"hidden_dimension": 16, "projection_dimension": 8, "teacher_head": False}
    return {name: value for name, value in small.items() if name in known}


def learns_from(method: str) -> str:
    """What of its teacher a distillation method learns from: embeddings, assignments, networks, or it while online."""
    return str(source.literal(source.plugin_module("stages.distillation", method), "TEACHER", "embeddings"))


def learns_clusters(method: str) -> bool:
    """Whether a distillation method learns from the teacher's clusters, not from its embeddings."""
    return learns_from(method) == "assignments"


def networks_seeded(seed: int) -> Networks:
    """A teacher's networks, as different from each other as from those of another seed, and with used statistics."""
    torch.manual_seed(seed)
    online, target = (
        Projecting(
            architectures.build("resnet18_x0.125", InputContract(SIZE)), BYOLProjectionHead(64, 16, PROJECTION)
        ).train()
        for _ in range(2)
    )
    for network in (online, target):
        network(images_seeded(seed, 9))
    return Networks(online, target, PROJECTION)


def images_seeded(seed: int, count: int, size: int = SIZE) -> Tensor:
    """Random images [count, 3, size, size] in 0..1."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def batch_seeded(seed: int, count: int = 6) -> Batch:
    """A batch of two views of random images."""
    rows = torch.arange(count)
    return Batch(views=(images_seeded(2 * seed, count), images_seeded(2 * seed + 1, count)), indices=rows, labels=rows)


def naive_similarity_kl(student: Tensor, student_anchors: Tensor, teacher: Tensor, anchors: Tensor, t: float) -> Tensor:
    """CompRess's loss written out: a double loop over images and anchors, in float64; keeps ``student``'s gradient."""
    total = torch.zeros((), dtype=torch.float64)
    for own, target in zip(student.double(), teacher.double(), strict=True):
        logits = [torch.dot(own, anchor) / t for anchor in student_anchors.double()]
        goals = [torch.dot(target, anchor) / t for anchor in anchors.double()]
        log_sum, log_goal = _log_sum_exp(logits), _log_sum_exp(goals)
        for logit, goal in zip(logits, goals, strict=True):
            total = total + torch.exp(goal - log_goal) * ((goal - log_goal) - (logit - log_sum))
    return total / len(student)


def naive_squared_difference(student: Tensor, student_anchors: Tensor, teacher: Tensor, anchors: Tensor) -> Tensor:
    """The mean squared difference of similarities, by a double loop in float64; keeps ``student``'s gradient."""
    total = torch.zeros((), dtype=torch.float64)
    for own, target in zip(student.double(), teacher.double(), strict=True):
        for near, far in zip(student_anchors.double(), anchors.double(), strict=True):
            total = total + (torch.dot(own, near) - torch.dot(target, far)) ** 2
    return total / (len(student) * len(anchors))


def _log_sum_exp(values: list[Tensor]) -> Tensor:
    largest = max(value.item() for value in values)
    return largest + torch.log(
        sum((torch.exp(value - largest) for value in values), torch.zeros((), dtype=torch.float64))
    )
