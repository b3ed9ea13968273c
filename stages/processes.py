"""The processes of one training, one a GPU, as torchrun starts them; without it, one process, to which nothing changes.

A step is computed as one process would compute it. Each process runs the encoders, the costly part, on its own rows of
the batch's views, and their embeddings are gathered: what follows an encoder (heads, memory banks, losses) sees the
whole batch in every process alike. So nothing that depends on the batch is approximated, and the memory banks are the
same everywhere without being sent. Chance is drawn for the whole batch, of which each process takes its rows.

Gradients: all processes compute the same loss L of the gathered embeddings e, and so the same dL/de. Of it, `gathered`
hands back this process's rows, times the number of processes n. Behind it, a process finds n times its rows' part of an
encoder's gradient, but the whole gradient of what follows; the mean over the processes, which DistributedDataParallel
takes, is the whole gradient of both.
"""

import atexit
import contextlib
import contextvars
import dataclasses
import itertools
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed

from stages import gpus
from stages.errors import UserError
from stages.training.position import seed_here


@dataclasses.dataclass(frozen=True)
class _Batch:
    """A batch of which each process holds its part: its images, and a number for each time an encoder is run on it."""

    images: int
    runs: Iterator[int] = dataclasses.field(default_factory=itertools.count)


_shared: contextvars.ContextVar[_Batch | None] = contextvars.ContextVar("_shared", default=None)


def start() -> torch.device:
    """Join the processes that torchrun has started, if it has; returns the device of this one.

    Only the first speaks of its progress.

    Raises:
        UserError: there are more processes than GPUs, or as `stages.gpus.usable`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return gpus.device()
    number = gpus.usable_by_pytorch()
    local, here = int(os.environ["LOCAL_RANK"]), count_here()
    if 0 < number < here:
        raise UserError(f"{here} processes were started on a machine with {number} GPUs; expected one a GPU at most")
    if number:
        torch.cuda.set_device(local)
    if not distributed.is_initialized():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if number else "gloo")
        atexit.register(distributed.destroy_process_group)
    if not is_first():
        logging.getLogger("stages").setLevel(logging.ERROR)
    return torch.device("cuda", local) if number else torch.device("cpu")


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def count_here() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that shows progress and writes files."""
    return rank() == 0


def highest(number: int) -> int:
    """The highest of all processes' numbers: what they agree on."""
    if count() == 1:
        return number
    agreed = torch.tensor(number)
    distributed.all_reduce(agreed, distributed.ReduceOp.MAX)
    return int(agreed)


def wait_for_all() -> None:
    """Return when all processes have come here."""
    highest(0)


def part(images: int, rank: int, count: int) -> slice:
    """The rows, of a batch of ``images``, of the process ``rank``: in the order of ranks, equally many or one more."""
    return slice(rank * images // count, (rank + 1) * images // count)


@contextlib.contextmanager
def sharing(images: int) -> Iterator[None]:
    """Where a step is computed on a batch of ``images``, of which each process holds its part."""
    token = _shared.set(_Batch(images) if count() > 1 else None)
    try:
        yield
    finally:
        _shared.reset(token)


def whole(here: int) -> int:
    """How many images the whole batch has, of which ``here`` are in this process."""
    batch = _shared.get()
    return here if batch is None else batch.images


def own_rows(here: int) -> slice:
    """Which of the whole batch's rows those are."""
    batch = _shared.get()
    return slice(0, here) if batch is None else part(batch.images, rank(), count())


@contextlib.contextmanager
def own_rng() -> Iterator[None]:
    """Where an encoder draws for its own rows, as for stochastic depth; draws for the whole batch go on as if not."""
    batch = _shared.get()
    if batch is None:
        yield
        return
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        seed_here(torch.initial_seed(), next(batch.runs), rank())
        yield


def gathered(own: Tensor, *, summed: bool = False) -> Tensor:
    """All rows [V B, ...] of the batch in hand, of V views of B images, one after the other.

    Args:
        own: those of this process's images.
        summed: the processes go on to compute different parts of the loss, and not all the same; so gradients are
            summed over them, and not taken times their number.
    """
    batch = _shared.get()
    return own if batch is None else _Gathered.apply(own, batch.images, summed)


def own(rows: Tensor) -> Tensor:
    """What `gathered` has gathered: of all rows [V B, ...] those of this process's images."""
    batch = _shared.get()
    return rows if batch is None else _own(rows, batch.images)


class _Gathered(torch.autograd.Function):
    """Forward, the rows of all processes; backward, what the module's first page says."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, images: int, summed: bool) -> Tensor:
        ctx.images, ctx.summed = images, summed
        parts = [part(images, rank, count()) for rank in range(count())]
        lengths = [rows.stop - rows.start for rows in parts]
        views = own.unflatten(0, (-1, lengths[rank()]))
        # All processes have to send equally many rows.
        padded = views.new_zeros(len(views), max(lengths), *views.shape[2:])
        padded[:, : lengths[rank()]] = views
        found = [torch.empty_like(padded) for _ in parts]
        distributed.all_gather(found, padded)
        return torch.cat([rows[:, :length] for rows, length in zip(found, lengths, strict=True)], dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        if not ctx.summed:
            return count() * _own(gradients[0], ctx.images), None, None
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return _own(total, ctx.images), None, None


def _own(rows: Tensor, images: int) -> Tensor:
    return rows.unflatten(0, (-1, images))[:, part(images, rank(), count())].flatten(0, 1)
