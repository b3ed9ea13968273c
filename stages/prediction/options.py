"""The options of SimDis's two methods. The defaults are those of the paper for 100 epochs, with two views."""

import dataclasses
from typing import Annotated, Literal

from stages.errors import at_least, different, filled, zero_to_one
from stages.training.large_batches import LargeBatchRecipe
from stages.training.recipe import BatchSize, Epochs


@dataclasses.dataclass(frozen=True)
class SimDisOptions(LargeBatchRecipe):
    """BYOL's recipe, and which views the student predicts."""

    epochs: Epochs = 100
    batch_size: BatchSize = 2048
    learning_rate: Annotated[float, "at its highest; the paper's is 0.3 times batch_size / 256"] = 2.4
    views: Annotated[
        # Each a network and which view it sees. The student's own same view would be no task.
        tuple[Literal["s-dv", "sema-sv", "sema-dv", "t-sv", "t-dv", "tema-sv", "tema-dv"], ...],
        "what the student predicts: a network's projection of the same view (sv) or of the other (dv)",
    ] = ("sema-dv", "tema-dv")
    momentum: Annotated[float, "of the moving averages at the start; it rises to 1 as half a cosine"] = 0.99
    hidden_dimension: Annotated[int, "hidden units of the projectors and of the predictors"] = 4096
    projection_dimension: Annotated[int, "outputs of the projectors that are trained"] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, hidden_dimension=self.hidden_dimension, projection_dimension=self.projection_dimension)
        zero_to_one(momentum=self.momentum)
        filled(views=self.views)
        different(views=self.views)


def network_of(view: str) -> str:
    """The network that gives the target of a view: s, sema, t or tema."""
    return view.partition("-")[0]
