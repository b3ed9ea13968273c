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
from torch.nn.parallel import DistributedDataParallel

from stages import processes
from stages.errors import UserError
from stages.progress import track
from stages.training import batch_norms
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
    sync_batch_norm: bool = False

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

    Where several processes train, each calls it with its own part of every batch.

    Args:
        batches_from: the stream of batches from a given step on.
        prepare: takes a batch to the device and augments it; called with the step's own random seed.
        title: what the progress bar is about.

    Raises:
        UserError: the loss is not finite; the step, learning rate and images are named. Or the checkpoint is of another
            number of processes, with which the run would have gone otherwise.
        SystemExit: the program was asked to terminate; the state has been saved.
    """
    if processes.count() > 1 and run.sync_batch_norm:
        batch_norms.synchronise(objective)
    # So that a run which goes on from its checkpoint ends where an unbroken one does.
    torch.backends.cudnn.deterministic = True
    objective.to(run.device).train()
    optimizer = objective.optimizer(run.recipe)
    epoch = _Epoch(AHEAD.get(run.device.type, 0))
    history, first = _restore(objective, optimizer, run, epoch)
    loss_of = _loss_of(objective, prepare)
    saved = time.monotonic()
    with _termination_noted() as terminated:
        steps = range(first, run.steps)
        batches = epoch.timing_the_wait(batches_from(first))
        shown = track(steps, title, total=len(steps), unit="steps") if processes.is_first() else steps
        for step, batch in zip(shown, batches, strict=False):
            rate = objective.before_step(optimizer, run.recipe, step, run.steps_per_epoch)
            loss = _step(objective, optimizer, loss_of, batch, run, step)
            epoch.add(_Taken(step, 1 + step // run.steps_per_epoch, rate, batch.indices, loss, objective.advice))
            if (step + 1) % run.steps_per_epoch == 0:
                history.append({"epoch": (step + 1) // run.steps_per_epoch, "learning_rate": rate, **epoch.row()})
            # Processes stop at the same step, or the others would wait for one that has left.
            signum = processes.highest(terminated[0] if terminated else 0)
            # The last one too: what follows training, such as a probe's next run, may be broken off as well.
            if signum or step + 1 == run.steps or time.monotonic() - saved >= run.checkpoint_seconds:
                run.checkpoint.save(_state(objective, optimizer, history, step + 1, epoch, run))
                saved = time.monotonic()
            if signum:
                # Where one process leaves, torchrun ends the others, and the first may still be saving.
                processes.wait_for_all()
                logger.info("asked to terminate: saved at step %d of %d, run again to go on", step + 1, run.steps)
                sys.exit(128 + signum)
    return history


def _loss_of(objective: Objective, prepare: Callable[[Batch], Batch]) -> Callable[[Batch], Tensor]:
    """The loss of a batch as it is read; its gradient is the mean over the processes."""
    if processes.count() == 1:
        return lambda batch: objective(prepare(batch))
    # Memory banks are buffers: equal everywhere by construction, and too large to be sent at every step.
    parallel = DistributedDataParallel(objective, forward_sync_buffers=False)
    return lambda batch: parallel(prepare(batch))


def _step(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Batch], Tensor],
    batch: Batch,
    run: Run,
    step: int,
) -> Tensor:
    """One optimizer step; returns the loss, which may not have been computed yet."""
    seed_here(run.seed, step)
    with processes.sharing(len(batch.indices)):
        loss = loss_of(batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    objective.after_step((step + 1) / run.steps)
    return loss.detach()


@dataclasses.dataclass(frozen=True)
class _Taken:
    """A step that was taken: its place, its loss, which a GPU may still be at, and what to do if that is not finite."""

    step: int
    epoch: int
    rate: float
    indices: Tensor
    loss: Tensor
    advice: Callable[[], str]

    def value(self) -> float:
        """The loss, waited for; one that is not finite is an error."""
        value = float(self.loss)
        if not math.isfinite(value):
            raise UserError(
                f"the loss is {value} at step {self.step} (epoch {self.epoch}, learning rate {self.rate:g}, images "
                f"{self.indices[:4].tolist()}...): {self.advice()}"
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
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
    step: int,
    epoch: _Epoch,
    run: Run,
) -> dict[str, Any]:
    return {
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "step": step,
        "epoch_loss": epoch.sums(),
        "processes": processes.count(),
        "steps_per_epoch": run.steps_per_epoch,
    }


def _restore(
    objective: Objective, optimizer: torch.optim.Optimizer, run: Run, epoch: _Epoch
) -> tuple[list[dict[str, float]], int]:
    """Load the checkpoint, if there is one; returns the history so far and the step to go on with."""
    state = run.checkpoint.load()
    step = 0 if state is None else state["step"]
    if processes.highest(step) != -processes.highest(-step):
        raise UserError(
            f"{run.checkpoint.path}: not the same for all processes, of which one would go on at step {step}; expected "
            "a folder that all machines see"
        )
    if state is None:
        return [], 0
    _refuse_other_processes(state, objective, run)
    objective.load_state_dict(state["objective"])
    optimizer.load_state_dict(state["optimizer"])
    epoch.loss, epoch.images = state["epoch_loss"]
    logger.info("going on at step %d of %d, from %s", state["step"], run.steps, run.checkpoint.path)
    return state["history"], state["step"]


def _refuse_other_processes(state: dict[str, Any], objective: Objective, run: Run) -> None:
    """Raise the error for a checkpoint of more or fewer processes than these, if it matters how many there are."""
    before, now = state["processes"], processes.count()
    normalised = batch_norms.by_batch(objective) and not run.sync_batch_norm
    if before != now and (normalised or state["steps_per_epoch"] != run.steps_per_epoch):
        why = "batch norms see the images of one process" if normalised else "an epoch has another last batch"
        raise UserError(
            f"{run.checkpoint.path}: saved by a run of {before} processes, not {now}, which changes results ({why}): "
            f"start {before} again, by the gpu resource of the job, or remove the file to start anew"
        )


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
