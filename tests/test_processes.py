"""Training in several processes: what one process computes, for every method, by two on the CPU."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment import source
from torch import Tensor

from stages import cluster, pretrain
from tests.training_fixtures import (
    CLUSTERS,
    ROOT,
    Training,
    embedded_by,
    learns_from,
    packed_digits,
    tiny_options,
)

PLAIN = "timm/test_vit"
"""Without batch norms: what it says of an image does not depend on the others."""
NORMED = "resnet18_x0.125"
RECIPE = {"epochs": 2, "batch_size": 7, "drop_last": False, "learning_rate": 0.05, "size": 32}
"""Of 19 images: three steps an epoch, and no batch in two equal parts."""
SGD = {"optimizer": "sgd", "warmup_epochs": 0, "weight_decay": 1e-4}
HEADS = {"hidden_dimension": 16, "projection_dimension": 8}
SMALL: dict[str, dict[str, Any]] = {
    "simclr": {**SGD, "projection_dimension": 8, "augmentation": "simclr"},
    "moco-v2": {"projection_dimension": 8, "queue_length": 13, "augmentation": "moco-v2"},
    "swav": {**SGD, **HEADS, "prototypes": 9, "small_crops": 2, "queue_length": 10, "queue_start_epoch": 0}
    | {"freeze_prototypes_steps": 2},
    "byol": {**SGD, **HEADS, "augmentation": "byol"},
    "supervised": {"augmentation": "affine-elastic"},
    "simdis-off": {**SGD, "augmentation": "byol"},
    "simdis-on": {**SGD, "teacher_architecture": PLAIN},
}
"""What makes a method small, beside `tiny_options`, and each augmentation in one of them."""

PRETRAINING = sorted(set(source.plugins("stages.pretraining")) - {"untrained"})
DISTILLATION = source.plugins("stages.distillation")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{method: (method, {}) for method in (*PRETRAINING, *DISTILLATION)},
    "live": ("compress-2q", {"teacher": "live"}),
    "warm start": ("compress-1q", {"warm_start": True}),
    "minibatch": ("compress-2q", {"anchors": "minibatch", "momentum": 0}),
    "projections": ("seed", {"teacher_head": True}),
    "workers": ("regression", {"workers": 2}),
    "lars": ("simclr", {"optimizer": "lars", "exclude_norm_and_bias": True}),
    "synchronised simclr": ("simclr", {"architecture": NORMED}),
    "synchronised swav": ("swav", {"architecture": NORMED, "augmentation": "swav"}),
    "synchronised byol": ("byol", {"architecture": NORMED}),
    "synchronised simdis-on": ("simdis-on", {"architecture": NORMED, "teacher_architecture": NORMED}),
    "synchronised teacher": ("simdis-off", {"teacher": "normed", "teacher_statistics": "batch"}),
}
"""What comes out the same from one process and from two: every method, and what of it could go another way."""
OWN_STATISTICS = {f"own {method}": (method, {"architecture": NORMED}) for method in ("compress-2q", "moco-v2")}
"""Without synchronised batch norms, two processes are two processes."""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed_digits(tmp_path_factory.mktemp("nineteen"), 1778)[0]


@pytest.fixture(scope="module")
def teachers(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two teachers by BYOL, plain and normed, and of the plain one's embeddings and clusters."""
    folder = tmp_path_factory.mktemp("teachers")
    options = {"method": "byol", "train": pack, **RECIPE, **SGD, **HEADS, "epochs": 1}
    for name, architecture in (("plain", PLAIN), ("normed", NORMED)):
        pretrain.main(Training(folder / name, "pretrain", {**options, "architecture": architecture}).argv)
    cache = embedded_by(folder / "plain" / "weights.safetensors", pack, folder / "train.h5")
    clusters = ["--assignments", str(folder / "clusters.h5"), "--clusters", str(CLUSTERS)]
    cluster.main(["--train", str(cache), *clusters])
    return folder


@pytest.fixture(scope="module")
def training_of(pack: Path, teachers: Path) -> Callable[..., Training]:
    """The training of a case, with its files in ``folder / case``."""

    def training(folder: Path, case: str, **changed: Any) -> Training:
        method, own = {**CASES, **OWN_STATISTICS}[case]
        options = {"method": method, "train": pack, "architecture": PLAIN, **RECIPE, **SMALL.get(method, {})}
        if method in PRETRAINING:
            return Training(folder / case, "pretrain", {**options, **own, **changed})
        options |= {**tiny_options(method), **own, **changed}
        if learns_from(method) == "online":
            return Training(folder / case, "distill_online", {**options, "teacher_name": "teacher"})
        files = learned_from(method, options.pop("teacher", "plain"), options.get("teacher_head", False))
        return Training(folder / case, "distill", {**options, **files})

    def learned_from(method: str, teacher: str, head: bool) -> dict[str, Path]:
        heads = {"teacher_heads": teachers / "plain" / "heads.safetensors"} if head else {}
        if learns_from(method) == "networks":
            return {f"teacher_{name}": teachers / teacher / f"{name}.safetensors" for name in ("weights", "heads")}
        if learns_from(method) == "assignments":
            return {"teacher_assignments": teachers / "clusters.h5"}
        if teacher == "live":
            return {"teacher_weights": teachers / "plain" / "weights.safetensors"}
        return {"teacher_embeddings": teachers / "train.h5", **heads}

    return training


def run_all(trainings: Iterable[Training], *launcher: str) -> None:
    """Run the trainings one after the other in one go."""
    trainings = list(trainings)
    calls = trainings[0].folder.parent / "calls.json"
    calls.parent.mkdir(parents=True, exist_ok=True)
    calls.write_text(json.dumps([[training.program, training.argv] for training in trainings]))
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.processes_program", str(calls)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def folder(training_of: Callable[..., Training], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases run by one process, in ``one``, and by two, in ``two``."""
    folder = tmp_path_factory.mktemp("processes")
    run_all(training_of(folder / "one", case) for case in CASES)
    run_all((training_of(folder / "two", case) for case in (*CASES, *OWN_STATISTICS)), *TORCHRUN)
    return folder


def last_state(folder: Path, rank: int = 0) -> dict[str, Any]:
    """What the process ``rank`` had to save after the last step."""
    state: dict[str, Any] = torch.load(folder / f"rank{rank}.pt", weights_only=True)
    return state


def objective_of(folder: Path, rank: int = 0) -> dict[str, Tensor]:
    state: dict[str, Tensor] = last_state(folder, rank)["objective"]
    return state


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-8, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_with_the_state_of_one(case: str, folder: Path) -> None:
    one, two = last_state(folder / "one" / case), last_state(folder / "two" / case)
    assert_close(two["objective"], one["objective"])
    assert [row["loss"] for row in two["history"]] == pytest.approx([row["loss"] for row in one["history"]], rel=1e-8)
    assert (one["step"], two["step"]) == (6, 6)


@pytest.mark.parametrize("case", CASES)
def test_both_processes_hold_the_same(case: str, folder: Path) -> None:
    first, second = (objective_of(folder / "two" / case, rank) for rank in (0, 1))
    assert_close(second, first)
