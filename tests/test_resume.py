"""A killed run, started again, ends with the very weights of an unbroken one: the real programs, really killed."""

import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import distill
from stages.artifacts.weights import digest_of
from tests.training_fixtures import Training, step_of

pytest_plugins = ["tests.training_fixtures"]

KILL_AFTER = 8
"""Of 60 steps, 5 an epoch: in the middle of the second epoch, and long before the end."""

METHODS = ("simclr", "compress-2q", "compress-1q")


@pytest.fixture(scope="module")
def training_of(small_splits: tuple[Path, Path], teacher_cache: Path) -> Callable[..., Training]:
    """The tiny training by a method, with its files in a folder; it saves its state after every step."""

    def training(method: str, folder: Path, **changed: Any) -> Training:
        options = {"method": method, "train": small_splits[0], "epochs": 12, "batch_size": 32, "learning_rate": 0.02}
        if method == "simclr":
            return Training(folder, "pretrain", {**options, "drop_last": "false", "warmup_epochs": 2, **changed})
        # A queue that no epoch fills evenly, so that its position matters.
        return Training(
            folder, "distill", {**options, "teacher_embeddings": teacher_cache, "queue_length": 101, **changed}
        )

    return training


@pytest.fixture(scope="module")
def unbroken(
    training_of: Callable[..., Training], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Training]:
    """A method's training run to its end without a break, once."""
    done: dict[str, Training] = {}

    def run(method: str) -> Training:
        if method not in done:
            done[method] = training_of(method, tmp_path_factory.mktemp(f"unbroken-{method}"))
            status, stderr = done[method].run()
            assert status == 0, stderr
        return done[method]

    return run


def outputs(training: Training) -> list[str]:
    """What is there but the folder of checkpoints, in which a killed run may leave its half-written state."""
    return sorted(path.name for path in training.folder.iterdir() if path.name != "checkpoints")


def assert_same_end(found: Training, expected: Training) -> None:
    assert found.digest() == expected.digest()
    assert found.losses() == expected.losses()
    assert len(found.losses()) == 1 + 12
    written = ("heads.safetensors", "weights.safetensors")
    assert outputs(found) == sorted(["history.csv", *written, *(f"{name}.sha256" for name in written)])
    assert not found.checkpoint.parent.exists(), "the checkpoints are taken away once the outputs are whole"


def eager(training: Training) -> Training:
    return training.within(training.folder, checkpoint_seconds=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_in_the_middle_ends_with_the_weights_of_an_unbroken_one(
    method: str, training_of: Callable[..., Training], unbroken: Callable[[str], Training], tmp_path: Path
) -> None:
    training = training_of(method, tmp_path)
    status, _ = eager(training).interrupted(KILL_AFTER, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert outputs(training) == []
    saved = step_of(training.checkpoint)
    assert KILL_AFTER <= saved < 60
    status, stderr = training.run()
    assert status == 0, stderr
    assert f"going on at step {saved} of 60, from {training.checkpoint}" in stderr
    assert_same_end(training, unbroken(method))


@pytest.fixture(scope="module")
def preempted(
    training_of: Callable[..., Training], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Training, int, str]:
    """A training with workers whose whole process group was asked to terminate, as SLURM does; status and stderr."""
    training = training_of("compress-2q", tmp_path_factory.mktemp("preempted"), workers=2, checkpoint_seconds=0)
    return training, *training.interrupted(KILL_AFTER, signal.SIGTERM, whole_group=True)


def test_an_interrupt_from_the_keyboard_saves_the_state_as_well(
    training_of: Callable[..., Training], tmp_path: Path
) -> None:
    training = training_of("compress-1q", tmp_path, workers=2, checkpoint_seconds=0)
    status, stderr = training.interrupted(KILL_AFTER, signal.SIGINT, whole_group=True)
    assert status == 128 + signal.SIGINT, stderr
    assert outputs(training) == []
    assert step_of(training.checkpoint) >= KILL_AFTER
    assert "Traceback" not in stderr


def copied(preempted: Training, folder: Path, **changed: Any) -> Training:
    """The preempted training's state in ``folder``, to go on from with ``changed`` options."""
    shutil.copytree(preempted.checkpoint.parent, folder / "checkpoints")
    return preempted.within(folder, workers=0, checkpoint_seconds=300, **changed)


def test_a_terminated_run_saves_its_state_and_leaves_with_143(preempted: tuple[Training, int, str]) -> None:
    training, status, stderr = preempted
    assert status == 128 + signal.SIGTERM, stderr
    assert outputs(training) == []
    assert [path.name for path in training.checkpoint.parent.iterdir()] == ["checkpoint.pt"]
    (line,) = [line for line in stderr.splitlines() if line.startswith("asked to terminate")]
    assert line == f"asked to terminate: saved at step {step_of(training.checkpoint)} of 60, run again to go on"
    assert "Traceback" not in stderr


def test_a_terminated_run_ends_with_the_weights_of_an_unbroken_one_without_its_workers(
    preempted: tuple[Training, int, str], unbroken: Callable[[str], Training], tmp_path: Path
) -> None:
    training = copied(preempted[0], tmp_path)
    status, stderr = training.run()
    assert status == 0, stderr
    assert "going on at step" in stderr
    assert_same_end(training, unbroken("compress-2q"))


def test_a_truncated_checkpoint_is_named_and_the_run_starts_anew(
    preempted: tuple[Training, int, str], unbroken: Callable[[str], Training], tmp_path: Path
) -> None:
    training = copied(preempted[0], tmp_path)
    os.truncate(training.checkpoint, training.checkpoint.stat().st_size // 2)
    status, stderr = training.run()
    assert status == 0, stderr
    (line,) = [line for line in stderr.splitlines() if str(training.checkpoint) in line]
    assert line.startswith(f"{training.checkpoint}: damaged, not a readable checkpoint (")
    assert line.endswith("; starting anew")
    assert "Traceback" not in stderr
    assert_same_end(training, unbroken("compress-2q"))


@pytest.mark.parametrize(
    "changed",
    [{"temperature": 0.2}, {"checkpoint_key": "the fingerprint of other code"}],
    ids=lambda changed: next(iter(changed)),
)
def test_a_state_of_other_arguments_or_code_is_not_gone_on_from(
    preempted: tuple[Training, int, str], changed: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = preempted[0].within(tmp_path / "fresh", workers=0, checkpoint_seconds=300, **changed)
    training = copied(preempted[0], tmp_path / "copied", **changed)
    with caplog.at_level(logging.INFO, "stages"):
        distill.main(training.argv)
    assert f"{training.checkpoint}: saved by other code, arguments or inputs; starting anew" in caplog.text
    assert "going on" not in caplog.text
    distill.main(fresh.argv)
    assert digest_of(training.weights) == digest_of(fresh.weights)
    assert training.losses() == fresh.losses()
    assert not training.checkpoint.parent.exists()
