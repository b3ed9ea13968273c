"""The options of CompRess's two methods: its own settings, and what its ablations change."""

import dataclasses
from typing import Annotated, Literal

from stages.errors import UserError, above_zero, at_least
from stages.training.recipe import TrainingRecipe

Precision = Annotated[
    Literal["single", "half"],
    "of the divergence; half: its operands are rounded, by a kernel for NVIDIA GPUs of capability 8.0 or later",
]
LEAST_TEMPERATURE = 1e-3
"""Of half precision: it is off by 7e-5 in a similarity, which at this temperature is 0.07 in a logit."""


@dataclasses.dataclass(frozen=True)
class SimilarityOptions(TrainingRecipe):
    """Similarity to which anchors, and how the student's are compared with the teacher's."""

    temperature: Annotated[float, "of both softmaxes; the paper uses 0.04, and 0.007 for SwAV teachers"] = 0.04
    queue_length: Annotated[int, "anchors in a memory bank"] = 128_000
    anchors: Annotated[
        Literal["queue", "minibatch"], "queue: those of the memory bank; minibatch: the other images of the batch"
    ] = "queue"
    divergence: Annotated[
        Literal["kl", "squared"], "kl: of the softmaxes; squared: mean squared difference of the cosine similarities"
    ] = "kl"
    warm_start: Annotated[bool, "leave out slots of the memory bank that no image has been written to yet"] = False
    precision: Precision = "single"

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(temperature=self.temperature)
        at_least(1, queue_length=self.queue_length)
        not_too_sharp(self.precision, temperature=self.temperature)


def not_too_sharp(precision: Precision, **temperatures: float) -> None:
    """Raise the error for the first of the options ``temperatures`` that half precision is too coarse for."""
    for name, value in temperatures.items():
        if precision == "half" and value < LEAST_TEMPERATURE:
            raise UserError(
                f"--precision half with --{name.replace('_', '-')} {value:g}: rounding would change the weights of "
                f"anchors; expected {LEAST_TEMPERATURE:g} or more, or precision single"
            )
