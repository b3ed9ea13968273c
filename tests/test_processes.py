"""Training in several processes: what one process computes, for every method, by two on the CPU."""

import dataclasses
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment import source
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages import cluster, distill, gpus, pretrain, processes
from stages.datasets import augmentations
from stages.errors import UserError
from stages.training.batches import steps_per_epoch
from stages.training.position import seed_here
from stages.training.recipe import Recipe
from tests.training_fixtures import (
    CLUSTERS,
    ON_CPU,
    ROOT,
    Training,
    embedded_by,
    images_seeded,
    learns_from,
    packed_digits,
    step_of,
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
ON_MACHINES = ("compress-2q", "moco-v2", "synchronised swav")
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


def run_all(trainings: Iterable[Training], processes: int = 1, machines: int = 1) -> None:
    """Run the trainings one after the other in one go, by so many processes on all the machines, on the CPU."""
    trainings = list(trainings)
    calls = trainings[0].folder.parent / "calls.json"
    calls.parent.mkdir(parents=True, exist_ok=True)
    calls.write_text(json.dumps([[training.program, training.argv] for training in trainings]))
    command = [sys.executable, "-m", "stages.training.launch", str(processes), "tests.processes_program", str(calls)]
    environment = {**os.environ, **ON_CPU, **(meeting(machines) if machines > 1 else {})}
    finished(
        [
            subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
            for _ in range(machines)
        ]
    )


def meeting(machines: int) -> dict[str, str]:
    """What tells launchers on this host that they are on so many machines."""
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    place = {"PET_RDZV_BACKEND": "c10d", "PET_RDZV_ENDPOINT": f"localhost:{port}", "PET_RDZV_ID": "test"}
    return {"PET_NNODES": str(machines), **place}


def finished(launchers: Iterable[subprocess.Popen[str]], status: int = 0) -> str:
    """Wait for the launchers' end with this status; what they said on stderr."""
    ends = [(launcher.communicate(timeout=300)[1], launcher.returncode) for launcher in launchers]
    said = "".join(stderr for stderr, _ in ends)
    assert {ended for _, ended in ends} == {status}, said
    return said


@pytest.fixture(scope="module")
def folder(training_of: Callable[..., Training], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases run by one process, in ``one``, and by two, in ``two``."""
    folder = tmp_path_factory.mktemp("processes")
    run_all(training_of(folder / "one", case) for case in CASES)
    run_all((training_of(folder / "two", case) for case in (*CASES, *OWN_STATISTICS)), processes=2)
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


@pytest.mark.parametrize("case", OWN_STATISTICS)
def test_batch_norms_of_their_own_leave_all_but_their_statistics_equal(case: str, folder: Path) -> None:
    first, second = (objective_of(folder / "two" / case, rank) for rank in (0, 1))
    running = {name for name in first if "running_" in name}
    assert any(not torch.equal(first[name], second[name]) for name in running)
    assert_close(
        {n: v for n, v in second.items() if n not in running}, {n: first[n] for n in first if n not in running}
    )


# The real programs, started as the workflow starts them.


@pytest.fixture(scope="module")
def preempted(
    training_of: Callable[..., Training], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Training, str]]:
    """A case trained by two processes, whose launcher was asked to terminate in the middle; and what it said."""
    done: dict[str, tuple[Training, str]] = {}

    def run(case: str) -> tuple[Training, str]:
        if case not in done:
            training = training_of(tmp_path_factory.mktemp("preempted"), case, epochs=20, checkpoint_seconds=0)
            training = dataclasses.replace(training, processes=2)
            status, stderr = training.interrupted(3, signal.SIGTERM)
            assert status == 128 + signal.SIGTERM, stderr
            done[case] = training, stderr
        return done[case]

    return run


def copied(preempted: Training, folder: Path, **changed: Any) -> Training:
    shutil.copytree(preempted.checkpoint.parent, folder / "checkpoints")
    return preempted.within(folder, **changed)


def test_processes_that_are_asked_to_terminate_save_once_and_say_so_once(
    preempted: Callable[[str], tuple[Training, str]],
) -> None:
    training, stderr = preempted("own compress-2q")
    step = step_of(training.checkpoint)
    assert 3 <= step < 60
    assert stderr.count("asked to terminate") == 1
    assert f"asked to terminate: saved at step {step} of 60, run again to go on" in stderr
    assert [path.name for path in training.folder.rglob("*") if path.is_file()] == ["checkpoint.pt"]
    assert "Traceback" not in stderr


def test_processes_that_go_on_end_with_the_weights_of_unbroken_ones(
    preempted: Callable[[str], tuple[Training, str]], tmp_path: Path
) -> None:
    training, _ = preempted("own compress-2q")
    unbroken, broken = training.within(tmp_path / "unbroken"), copied(training, tmp_path / "broken")
    for each in (unbroken, broken):
        status, stderr = each.run()
        assert status == 0, stderr
    assert stderr.count("going on at step") == 1
    assert broken.digest() == unbroken.digest()
    assert broken.losses() == unbroken.losses()
    assert not broken.checkpoint.parent.exists()


def test_one_process_goes_on_where_two_were(
    preempted: Callable[[str], tuple[Training, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training, _ = preempted("moco-v2")
    with caplog.at_level(logging.INFO, "stages"):
        pretrain.main(copied(training, tmp_path).argv)
    assert f"going on at step {step_of(training.checkpoint)} of 60" in caplog.text


def test_one_process_refuses_to_go_on_with_batch_norms_that_saw_half_a_batch(
    preempted: Callable[[str], tuple[Training, str]], tmp_path: Path
) -> None:
    training, _ = preempted("own compress-2q")
    said = r"checkpoint\.pt: saved by a run of 2 processes, not 1, .* \(batch norms see .* one process\): start 2 again"
    with pytest.raises(UserError, match=said):
        distill.main(copied(training, tmp_path).argv)


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs put what they need for a while."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_an_error_of_all_processes_is_told_once(
    training_of: Callable[..., Training], tmp_path: Path, scratch: Path
) -> None:
    training = training_of(tmp_path, "supervised", learning_rate=1e30)
    status, stderr = dataclasses.replace(training, processes=2).run()
    assert status == 1
    assert stderr.count("error: ") == 1
    assert "error: the loss is " in stderr
    assert "Traceback" not in stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not list(scratch.iterdir())


# Two machines are two launchers that meet; here both are on one host.


@pytest.fixture(scope="module")
def on_two_machines(
    folder: Path, training_of: Callable[..., Training], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Some cases run by two machines with a process each."""
    machines = tmp_path_factory.mktemp("machines")
    run_all((training_of(machines / "two", case) for case in ON_MACHINES), processes=2, machines=2)
    return machines / "two"


@pytest.mark.parametrize("case", ON_MACHINES)
def test_two_machines_end_with_the_state_of_one_process(case: str, folder: Path, on_two_machines: Path) -> None:
    for rank in (0, 1):
        assert_close(objective_of(on_two_machines / case, rank), objective_of(folder / "one" / case))


@pytest.mark.parametrize("asked", [1, 2])
def test_machines_of_which_some_are_asked_to_terminate_save_once_and_go_on(
    asked: int, training_of: Callable[..., Training], tmp_path: Path, scratch: Path
) -> None:
    training = training_of(tmp_path, "regression", epochs=20, checkpoint_seconds=0)
    training = dataclasses.replace(training, processes=2)
    launchers = start_on_two_machines(training)
    training.wait_for(3, launchers[0])
    for launcher in launchers[:asked]:
        launcher.send_signal(signal.SIGTERM)
    said = finished(launchers, 128 + signal.SIGTERM)
    step = step_of(training.checkpoint)
    assert 3 <= step < 60
    assert said.count(f"asked to terminate: saved at step {step} of 60, run again to go on") == 1
    assert "Traceback" not in said
    assert [path.name for path in training.folder.rglob("*") if path.is_file()] == ["checkpoint.pt"]

    assert f"going on at step {step} of 60" in finished(start_on_two_machines(training))
    assert len(training.losses()) == 1 + 20
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("fails", [True, False])
def test_a_process_that_fails_leaves_the_group_to_itself(fails: bool) -> None:
    command = [
        sys.executable,
        "-m",
        "stages.training.launch",
        "2",
        "tests.failing_program",
        *(["fail"] if fails else []),
    ]
    launcher = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ON_CPU}, stderr=subprocess.PIPE, text=True)
    said = finished([launcher], int(fails))
    assert said.count("taking the group apart") == (0 if fails else 2)
    assert said.count("KeyError: 'a bug'") == said.count("Traceback") == fails


def test_an_error_of_all_machines_is_told_once(training_of: Callable[..., Training], tmp_path: Path) -> None:
    training = dataclasses.replace(training_of(tmp_path, "supervised", learning_rate=1e30), processes=2)
    said = finished(start_on_two_machines(training), 1)
    assert said.count("error: the loss is ") == 1
    assert "Traceback" not in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("milestone", "times"), [(2, 1), (1, 0)])
def test_a_learning_rate_that_never_falls_is_told_once(
    milestone: int, times: int, training_of: Callable[..., Training], tmp_path: Path
) -> None:
    changed = {"epochs": 2, "schedule": "step", "milestones": milestone, "learning_rate": 0.01}
    status, said = dataclasses.replace(training_of(tmp_path, "supervised", **changed), processes=2).run()
    assert status == 0, said
    text = "the learning rate stays at 0.01: the milestones 2 are beyond the last epoch, 2\n"
    assert said.count(text) == said.count("stays") == times


def test_machines_that_do_not_meet_say_where(training_of: Callable[..., Training], tmp_path: Path) -> None:
    training, alone = training_of(tmp_path, "supervised"), {**meeting(2), "PET_RDZV_CONF": "join_timeout=1"}
    said = finished([training.start(**alone)], 1)
    assert said.count("error: ") == 1
    assert f"does not meet this one at {alone['PET_RDZV_ENDPOINT']}" in said
    assert "Traceback" not in said


def start_on_two_machines(training: Training) -> list[subprocess.Popen[str]]:
    common = meeting(2)
    return [training.start(**common) for _ in range(2)]


# What needs no second process.


def three_processes(monkeypatch: pytest.MonkeyPatch, rank: int = 0) -> None:
    monkeypatch.setattr(processes, "count", lambda: 3)
    monkeypatch.setattr(processes, "rank", lambda: rank)


@given(images=st.integers(1, 99), count=st.integers(1, 9))
def test_the_parts_of_a_batch_are_all_of_it_and_differ_by_one_image_at_most(images: int, count: int) -> None:
    parts = [list(range(images))[processes.part(images, rank, count)] for rank in range(count)]
    assert [image for part in parts for image in part] == list(range(images))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("images", "steps"), [(20, 2), (25, 2), (26, 3)])
def test_a_last_batch_of_less_than_two_images_for_each_is_left_out(
    images: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_processes(monkeypatch)
    assert steps_per_epoch(images, Recipe(batch_size=10)) == steps


@pytest.mark.parametrize("name", ["affine-elastic", "byol", "simclr"])
def test_augmented_parts_are_parts_of_the_augmented_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    augmentation, images = augmentations.named(name, 32), images_seeded(0, 11, 32)
    seed_here(1)
    expected, after = augmentation.batch(images), torch.rand(3)
    for rank in range(3):
        three_processes(monkeypatch, rank)
        with processes.sharing(11):
            seed_here(1)
            found = augmentation.batch(images[processes.part(11, rank, 3)])
            torch.testing.assert_close(found, expected[processes.part(11, rank, 3)], rtol=0, atol=1e-6)
            assert torch.equal(torch.rand(3), after)


def test_what_encoders_draw_differs_between_processes_and_leaves_what_is_drawn_for_all_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, common = [], []
    for rank in range(3):
        three_processes(monkeypatch, rank)
        seed_here(1)
        with processes.sharing(9):
            for _ in range(2):
                with processes.own_rng():
                    own.append(float(torch.rand(())))
            common.append(float(torch.rand(())))
    assert len(set(own)) == 6
    seed_here(1)
    assert set(common) == {float(torch.rand(()))}


def test_more_processes_than_half_the_images_of_a_batch_are_an_error(
    training_of: Callable[..., Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_processes(monkeypatch)
    with pytest.raises(UserError, match="--batch-size is 5, which 3 processes share; expected two images for each"):
        pretrain.main(training_of(tmp_path, "simclr", batch_size=5).argv)


def test_more_processes_than_gpus_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "usable_by_pytorch", lambda: 2)
    for name, value in {"WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 4, "LOCAL_RANK": 3}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match="4 processes were started on a machine with 2 GPUs; expected one a GPU"):
        processes.start()
