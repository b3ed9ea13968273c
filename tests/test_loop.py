"""The training loop against plain torch, its history, its checkpoints, and what it does when a run goes wrong."""

import argparse
import csv
import dataclasses
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages import processes
from stages.artifacts.rows import write_rows
from stages.command_line import _message_of
from stages.errors import UserError
from stages.training.arguments import HISTORY_COLUMNS, run_of
from stages.training.batches import Batch, steps_per_epoch
from stages.training.checkpoint import Checkpoint
from stages.training.loop import AHEAD, Run, train
from stages.training.objective import Objective
from stages.training.position import seed_here
from stages.training.recipe import Recipe, learning_rate
from tests.training_fixtures import Training, step_of

pytest_plugins = ["tests.training_fixtures"]

IMAGES = 23
RECIPE = Recipe(epochs=3, batch_size=5, learning_rate=0.05, milestones=(2,))


class Regression(Objective):
    """Linear regression with noise on its inputs and a moving average beside it; ``act`` may make a step go wrong."""

    def __init__(self, act: Callable[[int], Tensor | None] = lambda step: None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 1)
        self.frozen = nn.Linear(4, 1).requires_grad_(False)
        self.register_buffer("average", torch.zeros(4))
        self.act, self.step = act, 0
        self.losses: list[tuple[float, int]] = []
        self.progress: list[float] = []

    def forward(self, batch: Batch) -> Tensor:
        fault = self.act(self.step)
        self.step += 1
        images = batch.views[0] + 0.1 * torch.randn_like(batch.views[0])
        loss = F.mse_loss(self.layer(images)[:, 0], batch.labels.float())
        self.losses.append((float(loss.detach()), len(images)))
        return loss if fault is None else loss * fault

    def after_step(self, progress: float) -> None:
        self.average: Tensor
        self.average.mul_(0.9).add_(0.1 * self.layer.weight.detach()[0])
        self.progress.append(progress)


DATA = torch.randn(IMAGES, 4, generator=torch.Generator().manual_seed(5))


@pytest.fixture(params=[0, 1], autouse=True)
def steps_ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is waited for a step later, as on a GPU, changes nothing that anyone sees."""
    monkeypatch.setitem(AHEAD, "cpu", request.param)


def batches_from(first: int) -> Iterator[Batch]:
    """Every epoch in the images' own order, the last batch of three images."""
    per_epoch = steps_per_epoch(IMAGES, RECIPE)
    for step in range(first, RECIPE.epochs * per_epoch):
        rows = torch.arange(IMAGES)[step % per_epoch * 5 : (step % per_epoch + 1) * 5]
        yield Batch(views=(DATA[rows],), indices=rows, labels=rows % 3)


def run_in(folder: Path, *, seconds: float = 300, key: str = "key", seed: int = 0) -> Run:
    checkpoint = Checkpoint(folder / "checkpoints", key)
    return Run(RECIPE, seed, steps_per_epoch(IMAGES, RECIPE), torch.device("cpu"), checkpoint, seconds)


def trained(objective: Objective, run: Run) -> list[dict[str, float]]:
    return train(objective, run, batches_from, lambda batch: batch, "a test")


def state_of(objective: Objective) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in objective.state_dict().items()}


def assert_equal(found: Objective, expected: Objective) -> None:
    first, second = state_of(found), state_of(expected)
    assert all(torch.equal(first[name], second[name]) for name in second)


def less_timing(history: list[dict[str, float]]) -> list[tuple[float, ...]]:
    return [(row["epoch"], row["loss"], row["learning_rate"]) for row in history]


def at(step: int, act: Callable[[], Tensor | None]) -> Callable[[int], Tensor | None]:
    return lambda now: act() if now == step else None


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# what is trained


@pytest.mark.parametrize("seed", [0, 3])
def test_the_steps_are_those_of_sgd_with_the_recipes_settings(tmp_path: Path, seed: int) -> None:
    objective, plain = Regression(), Regression()
    frozen = state_of(plain)["frozen.weight"]
    trained(objective, run_in(tmp_path, seed=seed))
    velocity = {name: torch.zeros_like(value) for name, value in plain.layer.named_parameters()}
    for step, batch in enumerate(batches_from(0)):
        seed_here(seed, step)
        gradients = torch.autograd.grad(plain(batch), list(plain.layer.parameters()))
        with torch.no_grad():
            for (name, value), gradient in zip(plain.layer.named_parameters(), gradients, strict=True):
                velocity[name] = 0.9 * velocity[name] + gradient + 1e-4 * value
                value -= learning_rate(RECIPE, step, 5) * velocity[name]
        plain.after_step(0.0)
    for name, value in plain.layer.named_parameters():
        torch.testing.assert_close(objective.layer.get_parameter(name), value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(objective.average, plain.average, rtol=1e-5, atol=1e-6)
    assert torch.equal(objective.frozen.weight, frozen)


def test_what_is_trained_is_in_training_mode_and_repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever mode it came in; and cuDNN may choose no kernel that sums in an order of its own."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    seen: list[tuple[bool, bool]] = []
    objective = Regression(lambda step: seen.append((objective.layer.training, torch.backends.cudnn.deterministic)))
    objective.eval()
    trained(objective, run_in(tmp_path))
    assert seen == [(True, True)] * 15


def test_progress_runs_to_one(tmp_path: Path) -> None:
    objective = Regression()
    trained(objective, run_in(tmp_path))
    assert objective.progress == pytest.approx([(step + 1) / 15 for step in range(15)])


# the history


def test_the_history_has_a_row_an_epoch_with_the_mean_loss_over_its_images(tmp_path: Path) -> None:
    objective = Regression()
    history = trained(objective, run_in(tmp_path))
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["learning_rate"] for row in history] == pytest.approx([0.05, 0.05, 0.01])
    for number, row in enumerate(history):
        losses = objective.losses[5 * number : 5 * number + 5]
        assert [images for _, images in losses] == [5, 5, 5, 5, 3]
        assert row["loss"] == pytest.approx(sum(loss * images for loss, images in losses) / IMAGES)
        assert 0 <= row["waiting_share"] <= 1
        assert row["images_per_second"] > 0


def test_the_waiting_share_is_of_the_time_spent_on_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that moves only where it is pushed: 3 s to read a batch, 1 s to train on it.
    clock = {"now": 0.0}
    monkeypatch.setattr("stages.training.loop.time.monotonic", lambda: clock["now"])

    def pass_time(seconds: float) -> None:
        clock["now"] += seconds

    def slow_batches(first: int) -> Iterator[Batch]:
        for batch in batches_from(first):
            pass_time(3)
            yield batch

    objective = Regression(lambda step: pass_time(1))
    history = train(objective, run_in(tmp_path, seconds=1e9), slow_batches, lambda batch: batch, "a test")
    assert [row["waiting_share"] for row in history] == [0.75] * 3
    assert [row["images_per_second"] for row in history] == [round(IMAGES / 20, 1)] * 3


def test_a_resumed_epochs_speed_is_of_the_images_since_it_went_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        trained(Regression(at(3, terminate)), run_in(tmp_path))
    clock = {"now": 0.0}
    monkeypatch.setattr("stages.training.loop.time.monotonic", lambda: clock["now"])

    def pass_time(seconds: float) -> None:
        clock["now"] += seconds

    history = trained(Regression(lambda step: pass_time(1)), run_in(tmp_path, seconds=1e9))
    assert history[0]["images_per_second"] == 3, "4 of 5 steps were before; the last has 3 images and took 1 s"


def test_the_history_file_has_the_columns_and_the_rows(tmp_path: Path) -> None:
    history = trained(Regression(), run_in(tmp_path))
    write_rows(tmp_path / "history.csv", HISTORY_COLUMNS, history)
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HISTORY_COLUMNS == ("epoch", "loss", "learning_rate", "images_per_second", "waiting_share")
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in history], "not rounded"
    write_rows(tmp_path / "none.csv", HISTORY_COLUMNS, [])
    assert (tmp_path / "none.csv").read_text() == ",".join(HISTORY_COLUMNS) + "\n"


# going on


@pytest.mark.parametrize("step", [0, 3, 4, 5, 9, 13, 14])
def test_a_terminated_run_goes_on_to_the_same_end(tmp_path: Path, step: int) -> None:
    unbroken = Regression()
    expected = trained(unbroken, run_in(tmp_path / "unbroken"))
    with pytest.raises(SystemExit) as left:
        trained(Regression(at(step, terminate)), run_in(tmp_path))
    assert left.value.code == 128 + signal.SIGTERM
    assert step_of(run_in(tmp_path).checkpoint.path) == step + 1, "the step in hand is finished"
    continued = Regression()
    history = trained(continued, run_in(tmp_path))
    assert_equal(continued, unbroken)
    assert less_timing(history) == less_timing(expected)
    assert len(continued.losses) == 15 - step - 1


def test_a_run_may_be_terminated_again_and_again(tmp_path: Path) -> None:
    unbroken, last = Regression(), Regression()
    expected = trained(unbroken, run_in(tmp_path / "unbroken"))
    for _ in range(5):
        with pytest.raises(SystemExit):
            trained(Regression(at(2, terminate)), run_in(tmp_path))
    assert less_timing(trained(last, run_in(tmp_path))) == less_timing(expected)
    assert last.losses == [], "five times three steps were all of them"
    assert_equal(last, unbroken)


def test_an_exception_leaves_the_last_state_to_go_on_from(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("the file system is gone")

    unbroken, continued = Regression(), Regression()
    trained(unbroken, run_in(tmp_path / "unbroken"))
    with pytest.raises(OSError, match="the file system is gone"):
        trained(Regression(at(7, fail)), run_in(tmp_path, seconds=0))
    assert step_of(run_in(tmp_path).checkpoint.path) == 7
    trained(continued, run_in(tmp_path))
    assert_equal(continued, unbroken)


def test_the_state_is_saved_as_often_as_asked_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr("stages.training.loop.time.monotonic", lambda: clock["now"])
    saved: list[int] = []
    monkeypatch.setattr(Checkpoint, "save", lambda self, state: saved.append(state["step"]))

    def pass_a_second(step: int) -> None:
        clock["now"] += 1

    trained(Regression(pass_a_second), run_in(tmp_path, seconds=4))
    assert saved == [4, 8, 12, 15]


def test_the_handler_of_sigterm_is_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trained(Regression(), run_in(tmp_path))
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_key_starts_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        trained(Regression(at(7, terminate)), run_in(tmp_path))
    unbroken, other = Regression(), Regression()
    trained(unbroken, run_in(tmp_path / "unbroken"))
    with caplog.at_level(logging.INFO, "stages"):
        trained(other, run_in(tmp_path, key="another"))
    assert "saved by other code, arguments or inputs; starting anew" in caplog.text
    assert len(other.losses) == 15
    assert_equal(other, unbroken)


def cut_to(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": cut_to(0),
    "cut at 100 bytes": cut_to(100),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut by its last byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "a part of its numbers": lambda path: path.write_bytes(inverted(path.read_bytes())),
    "text": lambda path: path.write_text("not a checkpoint\n"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another torch file": lambda path: torch.save([1, 2], path),
    "a dict without a key": lambda path: torch.save({"step": 7}, path),
}


def inverted(content: bytes) -> bytes:
    """With other bits in the middle, where the largest tensors are; what says how the file is laid out stays."""
    start = len(content) // 2
    return content[:start] + bytes(255 - byte for byte in content[start : start + 128]) + content[start + 128 :]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_warned_about_and_the_run_starts_anew(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        trained(Regression(at(7, terminate)), run_in(tmp_path))
    damage(run_in(tmp_path).checkpoint.path)
    unbroken, other = Regression(), Regression()
    trained(unbroken, run_in(tmp_path / "unbroken"))
    with caplog.at_level(logging.INFO, "stages"):
        trained(other, run_in(tmp_path))
    warning = next(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert str(run_in(tmp_path).checkpoint.path) in warning
    assert "starting anew" in warning
    assert "\n" not in warning
    assert_equal(other, unbroken)


def test_processes_that_see_other_checkpoints_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        trained(Regression(at(7, terminate)), run_in(tmp_path))
    other = iter([0, 0])  # what a process says that sees none
    monkeypatch.setattr(processes, "highest", lambda number: max(number, next(other)))
    with pytest.raises(UserError, match=r"checkpoint\.pt: not the same for all processes, .* would go on at step \d+;"):
        trained(Regression(), run_in(tmp_path))
    assert run_in(tmp_path).checkpoint.path.exists()


def test_a_checkpoint_that_cannot_be_read_is_no_reason_to_start_anew(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.checkpoint.path.mkdir(parents=True)
    with pytest.raises(OSError, match=r"checkpoint\.pt"):
        trained(Regression(), run)


def test_a_save_that_fails_keeps_the_state_before_it(small_disk: Callable[[int], Path]) -> None:
    checkpoint = Checkpoint(small_disk(300), "key")
    checkpoint.save({"step": 1})
    with pytest.raises((OSError, RuntimeError)) as error:
        checkpoint.save({"step": 2, "weights": torch.zeros(10**6)})
    assert (_message_of(error.value) or "").startswith("the disk is full")
    assert checkpoint.load() == {"key": "key", "step": 1}
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.pt"]


# what is not finite


@pytest.mark.parametrize(("fault", "name"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_a_loss_that_is_not_finite_names_step_rate_and_images(tmp_path: Path, fault: float, name: str) -> None:
    objective = Regression(at(12, lambda: torch.tensor(fault)))
    with pytest.raises(UserError) as error:
        trained(objective, run_in(tmp_path, seconds=0))
    message = str(error.value)
    assert f"the loss is {name} at step 12 (epoch 3, learning rate 0.01, images [10, 11, 12, 13]...)" in message
    assert "\n" not in message
    saved = run_in(tmp_path).checkpoint.load()
    assert saved is not None
    assert saved["step"] == 12
    assert all(value.isfinite().all() for value in saved["objective"].values()), "the bad step was not saved"


def test_a_program_that_diverges_ends_in_one_line_and_leaves_no_output(
    small_splits: tuple[Path, Path], tmp_path: Path
) -> None:
    options = {"method": "supervised", "train": small_splits[0], "epochs": 9, "batch_size": 32, "learning_rate": 1e30}
    training = Training(tmp_path, "pretrain", options)
    status, stderr = training.run()
    assert status == 1
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert "the loss is nan at step " in line or "the loss is inf at step " in line
    for part in ("learning rate 1e+30", "epoch 1", "images [", "lower learning_rate"):
        assert part in line
    assert "Traceback" not in stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing half-written"


# whose checkpoint it is

ARGUMENTS = {
    "method": "compress-2q",
    "name": "student",
    "seed": 0,
    "train": "train.h5",
    "augmentation": "crop-flip",
    "size": 32,
    "normalisation": "imagenet",
    "temperature": 0.04,
    "checkpoint_key": "",
    "workers": 0,
}


def key_of(pack: object, *inputs: str, **changed: object) -> str:
    places = {"weights": "w", "history": "h", "checkpoints": Path("c"), "checkpoint_seconds": 300}
    arguments = argparse.Namespace(**{**ARGUMENTS, **places, **changed})
    return run_of(arguments, RECIPE, pack, *inputs).checkpoint.key  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2_000_000_001])
def test_a_run_has_a_seed_that_all_libraries_take(small_pack: object, seed: int) -> None:
    with pytest.raises(UserError, match=rf"^--seed is {seed}; expected 0 to 2000000000$"):
        key_of(small_pack, seed=seed)


@pytest.mark.parametrize(
    ("changed", "goes_on"),
    [
        ({"temperature": 0.2}, False),
        ({"seed": 1}, False),
        ({"augmentation": "moco-v2"}, False),
        ({"size": 64}, False),
        ({"normalisation": "half"}, False),
        ({"method": "compress-1q"}, False),
        ({"checkpoint_key": "fingerprint"}, False),
        ({"workers": 4}, True),
        ({"train": "elsewhere"}, True),
        ({"name": "renamed"}, True),
        ({"weights": "elsewhere"}, True),
        ({"history": "elsewhere"}, True),
        ({"checkpoints": Path("elsewhere")}, True),
        ({"checkpoint_seconds": 1}, True),
    ],
)
def test_a_run_goes_on_only_from_its_own_checkpoint(
    small_pack: object, changed: dict[str, object], goes_on: bool
) -> None:
    assert (key_of(small_pack, **changed) == key_of(small_pack)) == goes_on


def test_other_images_or_another_teacher_are_another_run(small_pack: object) -> None:
    other = dataclasses.replace(small_pack, fingerprint="other")  # type: ignore[type-var]
    val = dataclasses.replace(small_pack, split="val")  # type: ignore[type-var]
    keys = [key_of(small_pack), key_of(other), key_of(val), key_of(small_pack, "one"), key_of(small_pack, "two")]
    assert len(set(keys)) == len(keys)
