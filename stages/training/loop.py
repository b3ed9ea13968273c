"""The training loop, the same for pretraining and distillation."""

import contextlib
import dataclasses
import logging
import math
import signal
import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from stages.errors import UserError
from stages.progress import track
from stages.training.batches import Batch
from stages.training.checkpoint import Checkpoint
from stages.training.objective import Objective
from stages.training.position import seed_here
from stages.training.recipe import Recipe

logger = logging.getLogger("stages")

AHEAD = {"cuda": 1}
"""How many more steps a kind of device is given before a step's loss is waited for: it computes meanwhile."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The run's fixed facts: its recipe, seed, length and device, and where and how often it saves its state."""

    recipe: Recipe
    seed: int
    steps_per_epoch: int
    device: torch.device
    checkpoint: Checkpoint
    checkpoint_seconds: float

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch


def train(
    objective: Objective,
    run: Run,
    batches_from: Callable[[int], Iterator[Batch]],
    prepare: Callable[[Batch], Batch],
    title: str,
) -> list[dict[str, float]]:
    """Train ``objective`` to the end, from the last checkpoint if there is one; returns the history, a row an epoch.

    Args:
        batches_from: the stream of batches from a given step on.
        prepare: takes a batch to the device and augments it; called with the step's own random seed.
        title: what the progress bar is about.

    Raises:
        UserError: the loss is not finite; the step, learning rate and images are named.
        SystemExit: the program was asked to terminate; the state has been saved.
    """
    objective.to(run.device).train()
    optimizer = objective.optimizer(run.recipe)
    epoch = _Epoch(AHEAD.get(run.device.type, 0))
    history, first = _restore(objective, optimizer, run, epoch)
    saved = time.monotonic()
    with _termination_noted() as terminated:
        steps = range(first, run.steps)
        batches = epoch.timing_the_wait(batches_from(first))
        for step, batch in zip(track(steps, title, total=len(steps), unit="steps"), batches, strict=False):
            rate = objective.before_step(optimizer, run.recipe, step, run.steps_per_epoch)
            loss = _step(objective, optimizer, prepare, batch, run, step)
            epoch.add(_Taken(step, 1 + step // run.steps_per_epoch, rate, batch.indices, loss))
            if (step + 1) % run.steps_per_epoch == 0:
                history.append({"epoch": (step + 1) // run.steps_per_epoch, "learning_rate": rate, **epoch.row()})
            # The last one too: what follows training, such as a probe's next run, may be broken off as well.
            if terminated or step + 1 == run.steps or time.monotonic() - saved >= run.checkpoint_seconds:
                run.checkpoint.save(_state(objective, optimizer, history, step + 1, epoch))
                saved = time.monotonic()
            if terminated:
                logger.info("asked to terminate: saved at step %d of %d, run again to go on", step + 1, run.steps)
                sys.exit(128 + terminated[0])
    return history


def _step(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    prepare: Callable[[Batch], Batch],
    batch: Batch,
    run: Run,
    step: int,
) -> Tensor:
    """One optimizer step; returns the loss, which may not have been computed yet."""
    seed_here(run.seed, step)
    loss: Tensor = objective(prepare(batch))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    objective.after_step((step + 1) / run.steps)
    return loss.detach()


@dataclasses.dataclass(frozen=True)
class _Taken:
    """A step that was taken: its place, and its loss, which a GPU may still be at."""

    step: int
    epoch: int
    rate: float
    indices: Tensor
    loss: Tensor

    def value(self) -> float:
        """The loss, waited for; one that is not finite is an error."""
        value = float(self.loss)
        if not math.isfinite(value):
            raise UserError(
                f"the loss is {value} at step {self.step} (epoch {self.epoch}, learning rate {self.rate:g}, images "
                f"{self.indices[:4].tolist()}...): lower learning_rate, or look at these images and their teacher's "
                "embeddings"
            )
        return value


class _Epoch:
    """The running epoch's figures, for its row in the history.

    ``loss`` is the sum over its ``images``, with those before an interruption; what is ``timed`` is what came after.
    The losses of the last ``ahead`` steps are not waited for until they are needed.
    """

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.pending: deque[_Taken] = deque()
        self.restart()

    def restart(self) -> None:
        self.loss, self.images = 0.0, 0
        self.timed, self.waited, self.start = 0, 0.0, time.monotonic()

    def timing_the_wait(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            before = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - before
            if batch is None:
                return
            yield batch

    def add(self, taken: _Taken) -> None:
        self.pending.append(taken)
        self.timed += len(taken.indices)
        self._settle(self.ahead)

    def _settle(self, ahead: int) -> None:
        """Count the losses of all steps but the last ``ahead``."""
        while len(self.pending) > ahead:
            taken = self.pending.popleft()
            self.loss += taken.value() * len(taken.indices)
            self.images += len(taken.indices)

    def sums(self) -> tuple[float, int]:
        """The sum of the losses so far, and over how many images; an error if one is not finite."""
        self._settle(0)
        return self.loss, self.images

    def row(self) -> dict[str, float]:
        loss, images = self.sums()
        took = time.monotonic() - self.start
        row = {
            "loss": loss / images,
            "images_per_second": round(self.timed / took, 1),
            "waiting_share": round(self.waited / took, 4),
        }
        self.restart()
        return row


def _state(
    objective: Objective, optimizer: torch.optim.Optimizer, history: list[dict[str, float]], step: int, epoch: _Epoch
) -> dict[str, Any]:
    return {
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "step": step,
        "epoch_loss": epoch.sums(),
    }


def _restore(
    objective: Objective, optimizer: torch.optim.Optimizer, run: Run, epoch: _Epoch
) -> tuple[list[dict[str, float]], int]:
    """Load the checkpoint, if there is one; returns the history so far and the step to go on with."""
    state = run.checkpoint.load()
    if state is None:
        return [], 0
    objective.load_state_dict(state["objective"])
    optimizer.load_state_dict(state["optimizer"])
    epoch.loss, epoch.images = state["epoch_loss"]
    logger.info("going on at step %d of %d, from %s", state["step"], run.steps, run.checkpoint.path)
    return state["history"], state["step"]


@contextlib.contextmanager
def _termination_noted() -> Iterator[list[int]]:
    """Yield a list of the signals to end, so that the step in hand is finished first.

    SIGTERM comes from a preemption or a time limit, SIGINT from the keyboard.
    """
    received: list[int] = []

    def note(signum: int, _: types.FrameType | None) -> None:
        received.append(signum)

    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
