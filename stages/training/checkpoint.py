"""Checkpoints: everything a killed run needs to go on as if it had not been killed."""

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from stages.artifacts.atomic import atomic

logger = logging.getLogger("stages")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One file in ``folder``, valid only for the run that ``key`` names (its code, arguments and inputs)."""

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        with atomic(self.path) as temporary, temporary.open("wb") as file:
            torch.save({"key": self.key, **state}, file)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state, or None where there is none or it belongs to another run."""
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        if state["key"] != self.key:
            logger.info("%s: saved by other code, arguments or inputs; starting anew", self.path)
            return None
        return state

    def remove(self) -> None:
        """Take the folder away: the run's outputs are whole."""
        shutil.rmtree(self.folder, ignore_errors=True)
