"""No training at all: the random initialisation, the floor that every method has to be seen above."""

import dataclasses
from typing import Annotated

from stages.errors import UserError
from stages.pretraining import Pretraining
from stages.training.recipe import TrainingRecipe


@dataclasses.dataclass(frozen=True)
class Options(TrainingRecipe):
    epochs: Annotated[int, "0: the initial weights are written as they are"] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs:
            raise UserError(f"--epochs is {self.epochs}, but an untrained encoder is not trained; expected 0")


class Untrained(Pretraining):
    """The encoder as it is; there are no steps, so there is no loss."""
