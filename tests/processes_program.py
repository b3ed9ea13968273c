"""Trainings one after the other, in one process or, started by torchrun, in several: python -m tests.processes_program.

Its one argument is a JSON file: a list of [program, arguments]. All is computed in float64, so that what differs by
more than rounding is seen, and every process leaves its last state beside the checkpoint, as ``rank<number>.pt``.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages import processes
from stages.training import batches
from stages.training.batches import Batch
from stages.training.checkpoint import Checkpoint
from stages.training.teacher import CachedTeacher


def save(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
    folder = checkpoint.folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / f"rank{processes.rank()}.pt")


def to_double(images: Tensor) -> Tensor:
    return images.double() / 255


def looked_up(teacher: CachedTeacher, batch: Batch) -> Tensor:
    return torch.from_numpy(teacher.cache.vectors[batch.indices.numpy()]).to(batch.labels.device, torch.float64)


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    Checkpoint.save, CachedTeacher.__call__, batches.to_float = save, looked_up, to_double  # type: ignore[method-assign]
    for program, arguments in json.loads(Path(sys.argv[1]).read_text()):
        importlib.import_module(f"stages.{program}").main(arguments)
