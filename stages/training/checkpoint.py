"""Checkpoints: everything a killed run needs to go on as if it had not been killed."""

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from stages import processes
from stages.artifacts import torch_archive
from stages.artifacts.atomic import atomic, partial_of

logger = logging.getLogger("stages")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One file in ``folder``, valid only for the run that ``key`` names (its code, image, arguments and inputs).

    Where several processes train, all read it and the first alone writes it.
    """

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        if not processes.is_first():
            return
        with atomic(self.path) as temporary, temporary.open("wb") as file:
            torch.save({"key": self.key, **state}, file)

    def load(self) -> dict[str, Any] | None:
        """The saved state, on the CPU, or None where there is none, it is damaged or it belongs to another run."""
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch_archive.load(self.path)
            key = state["key"]
        except OSError:
            raise
        except Exception as error:
            # Saved whole or not at all, so this is the file system's doing, and rare; the state before it is gone.
            reason = str(error).partition("\n")[0] or type(error).__name__
            logger.warning("%s: damaged, not a readable checkpoint (%s); starting anew", self.path, reason)
            return None
        if key != self.key:
            logger.info("%s: saved by other code, arguments or inputs; starting anew", self.path)
            return None
        return state

    def remove(self) -> None:
        """Take the file away, the run's outputs are whole; and the folder, if it holds nothing else."""
        if processes.is_first():
            for path in (self.path, partial_of(self.path)):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.folder.rmdir()
